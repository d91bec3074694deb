import Bytes

/// Where the areas of a FAT volume lie, from its boot sector; every size is checked against the others.
struct FATLayout {
    let clusterSize: Int
    let clusterCount: Int
    let tableOffset: Int
    let tableSize: Int
    let rootOffset: Int
    let rootSize: Int
    let rootCluster: Int
    let dataOffset: Int
    let is32: Bool

    init(_ sector: [UInt8], size: Int) throws(ParseError) {
        func refuse(_ field: String, _ offset: Int, _ message: String) -> ParseError {
            ParseError("range", field: field, offset: offset, message)
        }
        var reader = ByteReader(sector)
        try reader.skip(11, "boot sector")
        let sectorSize = Int(try reader.le(UInt16.self, "BPB_BytsPerSec"))
        guard [512, 1024, 2048, 4096].contains(sectorSize) else {
            throw refuse("BPB_BytsPerSec", 11, "\(sectorSize) is no sector size")
        }
        let perCluster = Int(try reader.u8("BPB_SecPerClus"))
        guard perCluster > 0, perCluster & (perCluster - 1) == 0 else {
            throw refuse("BPB_SecPerClus", 13, "\(perCluster) is no power of two")
        }
        let reserved = Int(try reader.le(UInt16.self, "BPB_RsvdSecCnt"))
        let tables = Int(try reader.u8("BPB_NumFATs"))
        let rootEntries = Int(try reader.le(UInt16.self, "BPB_RootEntCnt"))
        let small = Int(try reader.le(UInt16.self, "BPB_TotSec16"))
        try reader.skip(1, "BPB_Media")
        let tableSectors16 = Int(try reader.le(UInt16.self, "BPB_FATSz16"))
        try reader.skip(8, "boot sector")
        let large = Int(try reader.le(UInt32.self, "BPB_TotSec32"))
        let tableSectors32 = Int(try reader.le(UInt32.self, "BPB_FATSz32"))
        try reader.skip(4, "boot sector")
        let root = Int(try reader.le(UInt32.self, "BPB_RootClus"))
        guard sector[510] == 0x55, sector[511] == 0xAA else { throw refuse("signature", 510, "not 55 AA") }

        let total = small != 0 ? small : large
        let tableSectors = tableSectors16 != 0 ? tableSectors16 : tableSectors32
        let rootSectors = (rootEntries * 32 + sectorSize - 1) / sectorSize
        let dataSector = reserved + tables * tableSectors + rootSectors
        guard reserved > 0, tables > 0, tables <= 2, tableSectors > 0, dataSector < total, total * sectorSize <= size
        else {
            throw refuse("BPB_TotSec32", 32, "\(total) sectors of \(sectorSize) bytes do not hold the areas")
        }
        clusterCount = (total - dataSector) / perCluster
        clusterSize = perCluster * sectorSize
        guard clusterCount >= 4085 else { throw refuse("clusters", 0, "\(clusterCount): FAT12 is not read") }
        // The type follows from the number of clusters and from nothing else.
        is32 = clusterCount >= 65525
        guard is32 == (tableSectors16 == 0), is32 == (rootEntries == 0) else {
            throw refuse("BPB_FATSz16", 22, "the fields of one FAT type with the cluster count of the other")
        }
        tableOffset = reserved * sectorSize
        tableSize = tableSectors * sectorSize
        guard tableSize >= (clusterCount + 2) * (is32 ? 4 : 2) else {
            throw refuse("BPB_FATSz32", 36, "the allocation table is shorter than \(clusterCount) clusters need")
        }
        rootOffset = (reserved + tables * tableSectors) * sectorSize
        rootSize = rootEntries * 32
        rootCluster = is32 ? root : 0
        dataOffset = dataSector * sectorSize
    }
}

/// Collects the records of a long file name, which come before the short entry, last part first.
struct LongName {
    private var parts: [[UInt16]] = []
    private var next = 0
    private var checksum: UInt8 = 0

    mutating func add(_ record: [UInt8]) {
        let order = Int(record[0] & 0x3F)
        if record[0] & 0x40 != 0, (1...20).contains(order) {
            parts = []
            next = order
            checksum = record[13]
        }
        guard order == next, order > 0, record[13] == checksum else {
            self = LongName()
            return
        }
        var units: [UInt16] = []
        for range in [1..<11, 14..<26, 28..<32] {
            for index in stride(from: range.lowerBound, to: range.upperBound, by: 2) {
                units.append(UInt16(record[index]) | UInt16(record[index + 1]) << 8)
            }
        }
        parts.insert(units, at: 0)
        next -= 1
    }

    /// The name if all its parts were there and belong to `short`; starts over in any case.
    mutating func take(for short: [UInt8]) -> String? {
        defer { self = LongName() }
        guard next == 0, !parts.isEmpty else { return nil }
        let sum = short.reduce(UInt8(0)) { ($0 >> 1 | $0 << 7) &+ $1 }
        guard sum == checksum else { return nil }
        return String(validating: parts.joined().prefix { $0 != 0 }, as: UTF16.self)
    }
}
