import Bytes

/// A GUID partition table (UEFI 2.10 §5.3): protective MBR, primary header and entries, checked before anything is
/// believed.
///
/// The backup table is not consulted: a disk whose primary table is damaged is refused, not repaired.
public struct GPT: Sendable {
    /// The 92 bytes of the primary header as they lie on disk.
    public let header: [UInt8]
    public let diskGUID: GUID
    /// First and last block that partitions may use.
    public let usable: ClosedRange<UInt64>
    public let partitions: [Partition]
    public let sectorSize: Int
    /// Every entry in use as it lies on disk, 128 bytes each, in table order.
    private let entries: [[UInt8]]

    /// One entry in use (UEFI 2.10 §5.3.3).
    public struct Partition: Sendable, Equatable {
        /// Place in the table, from 0.
        public let index: Int
        public let type: GUID
        public let unique: GUID
        /// First and last block, inclusive.
        public let blocks: ClosedRange<UInt64>
        public let attributes: UInt64
        public let name: String
        /// Byte range on the disk.
        public let offset: Int
        public let count: Int
    }

    static let headerSize = 92
    static let entrySize = 128
    /// Entries a table may hold; 128 is usual, a megabyte of them is refused before it is read.
    static let maximumEntries = 4096

    /// Reads the table of `disk`.
    ///
    /// - Throws: `ParseError` naming the field and its byte offset on the disk.
    public init(_ disk: ByteSource, sectorSize: Int = 512) throws(ParseError) {
        guard [512, 1024, 2048, 4096].contains(sectorSize) else {
            throw ParseError("range", field: "sectorSize", offset: 0, "\(sectorSize) is no sector size")
        }
        self.sectorSize = sectorSize
        try Self.checkProtectiveMBR(disk)

        let block = try disk.read(at: sectorSize, count: sectorSize, "GPT header")
        header = Array(block[..<Self.headerSize])
        let fields = try Header(block, base: sectorSize)
        diskGUID = fields.diskGUID
        usable = fields.usable

        // The header was checked: at most 4096 entries of 128 bytes.
        let (start, tooFar) = Int(clamping: fields.entriesBlock).multipliedReportingOverflow(by: sectorSize)
        guard !tooFar else { throw ParseError("range", field: "PartitionEntryLBA", offset: sectorSize + 72, "too far") }
        let table = try disk.read(at: start, count: fields.entryCount * Self.entrySize, "GPT entries")
        guard CRC32.checksum(table) == fields.entriesChecksum else {
            throw ParseError(
                "checksum", field: "PartitionEntryArrayCRC32", offset: sectorSize + 88, "does not match the entries")
        }
        let tableEnd = start + (table.count + sectorSize - 1) / sectorSize * sectorSize
        guard fields.entriesBlock >= 2, UInt64(tableEnd / sectorSize) <= usable.lowerBound else {
            throw ParseError(
                "range", field: "PartitionEntryLBA", offset: sectorSize + 72, "entries overlap other areas")
        }

        var entries: [[UInt8]] = []
        var partitions: [Partition] = []
        for index in 0..<fields.entryCount {
            let raw = Array(table[index * Self.entrySize..<(index + 1) * Self.entrySize])
            let entry = try Self.partition(
                raw, index: index, base: start + index * Self.entrySize, usable: usable, sectorSize: sectorSize)
            guard let entry else { continue }
            entries.append(raw)
            partitions.append(entry)
        }
        self.entries = entries
        self.partitions = partitions
        try Self.checkOverlaps(partitions, base: start)
    }

    /// The only partition of `type`, `nil` where there is none.
    ///
    /// - Throws: where several carry the type: which of them would be meant is a guess.
    public func partition(type: GUID) throws(ParseError) -> Partition? {
        let found = partitions.filter { $0.type == type }
        guard found.count <= 1 else {
            throw ParseError("duplicate", field: "PartitionTypeGUID", offset: 0, "\(found.count) partitions of \(type)")
        }
        return found.first
    }

    /// The bytes of `partition` on `disk`.
    public func source(of partition: Partition, on disk: ByteSource) throws(ParseError) -> ByteSource {
        try disk.slice(at: partition.offset, count: partition.count, "partition \(partition.index + 1)")
    }

    /// Event data of EV_EFI_GPT_EVENT, UEFI_GPT_DATA of the TCG PC Client Platform Firmware Profile 1.06 §10.2.5:
    /// header, number of entries in use, those entries.
    public var eventData: [UInt8] {
        var writer = ByteWriter()
        writer.append(header)
        writer.le(UInt64(entries.count))
        for entry in entries { writer.append(entry) }
        return writer.bytes
    }
}

extension GPT {
    /// Well-known partition types (UEFI 2.10 §5.3.3 and the UAPI Discoverable Partitions Specification).
    public enum PartitionType {
        public static let efiSystem: GUID = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
        public static let rootX8664: GUID = "4f68bce3-e8cd-4db1-96e7-fbcaf984b709"
        public static let rootX8664Verity: GUID = "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"
        public static let usrX8664: GUID = "8484680c-9521-48c6-9c11-b0720656f69e"
        public static let usrX8664Verity: GUID = "77ff5f63-e7b6-4633-acf4-1565b864c0e6"
    }
}
