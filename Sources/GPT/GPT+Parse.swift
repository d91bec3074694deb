import Bytes

extension GPT {
    /// The fields of the primary header (UEFI 2.10 §5.3.2) that survive its checks.
    struct Header {
        let usable: ClosedRange<UInt64>
        let diskGUID: GUID
        let entriesBlock: UInt64
        let entryCount: Int
        let entriesChecksum: UInt32

        init(_ block: [UInt8], base: Int) throws(ParseError) {
            func refuse(_ detail: String, _ field: String, _ offset: Int, _ message: String) -> ParseError {
                ParseError(detail, field: field, offset: base + offset, message)
            }
            var reader = ByteReader(block, base: base)
            guard try reader.take(8, "Signature") == Array("EFI PART".utf8) else {
                throw refuse("form", "Signature", 0, "not EFI PART")
            }
            guard try reader.le(UInt32.self, "Revision") == 0x0001_0000 else {
                throw refuse("version", "Revision", 8, "not 1.0")
            }
            guard try reader.le(UInt32.self, "HeaderSize") == UInt32(GPT.headerSize) else {
                throw refuse("length", "HeaderSize", 12, "must be \(GPT.headerSize)")
            }
            let checksum = try reader.le(UInt32.self, "HeaderCRC32")
            let cleared = Array(block[..<16]) + [0, 0, 0, 0] + Array(block[20..<GPT.headerSize])
            guard CRC32.checksum(cleared) == checksum else {
                throw refuse("checksum", "HeaderCRC32", 16, "does not match the header")
            }
            try reader.zeros(4, "Reserved")
            guard try reader.le(UInt64.self, "MyLBA") == 1 else { throw refuse("range", "MyLBA", 24, "must be 1") }
            let alternate = try reader.le(UInt64.self, "AlternateLBA")
            let first = try reader.le(UInt64.self, "FirstUsableLBA")
            let last = try reader.le(UInt64.self, "LastUsableLBA")
            guard first <= last, last < alternate else {
                throw refuse("range", "LastUsableLBA", 48, "usable blocks \(first) to \(last), backup at \(alternate)")
            }
            usable = first...last
            diskGUID = try GUID(&reader, "DiskGUID")
            entriesBlock = try reader.le(UInt64.self, "PartitionEntryLBA")
            let count = try reader.le(UInt32.self, "NumberOfPartitionEntries")
            guard count > 0, count <= UInt32(GPT.maximumEntries) else {
                throw refuse("range", "NumberOfPartitionEntries", 80, "\(count), at most \(GPT.maximumEntries)")
            }
            entryCount = Int(count)
            guard try reader.le(UInt32.self, "SizeOfPartitionEntry") == UInt32(GPT.entrySize) else {
                throw refuse("length", "SizeOfPartitionEntry", 84, "must be \(GPT.entrySize)")
            }
            entriesChecksum = try reader.le(UInt32.self, "PartitionEntryArrayCRC32")
            try reader.zeros(reader.remaining, "Reserved")
        }
    }

    /// UEFI 2.10 §5.2.3: one record of type 0xEE that starts at block 1; hybrid tables are refused, because what they
    /// mean depends on the reader.
    static func checkProtectiveMBR(_ disk: ByteSource) throws(ParseError) {
        var reader = ByteReader(try disk.read(at: 446, count: 66, "protective MBR"), base: 446)
        var protective = 0
        for _ in 0..<4 {
            let record = try reader.take(16, "protective MBR")
            if record.allSatisfy({ $0 == 0 }) { continue }
            let start = record[8..<12].reversed().reduce(0) { $0 << 8 | UInt32($1) }
            guard record[4] == 0xEE, start == 1 else {
                throw ParseError("form", field: "protective MBR", offset: 446, "another partition than the protective")
            }
            protective += 1
        }
        guard protective == 1, try reader.take(2, "protective MBR") == [0x55, 0xAA] else {
            throw ParseError("form", field: "protective MBR", offset: 446, "no protective MBR")
        }
    }

    /// One entry (UEFI 2.10 §5.3.3); `nil` where it is not in use.
    static func partition(
        _ raw: [UInt8], index: Int, base: Int, usable: ClosedRange<UInt64>, sectorSize: Int
    ) throws(ParseError) -> Partition? {
        var reader = ByteReader(raw, base: base)
        let type = try GUID(&reader, "PartitionTypeGUID")
        let unique = try GUID(&reader, "UniquePartitionGUID")
        let first = try reader.le(UInt64.self, "StartingLBA")
        let last = try reader.le(UInt64.self, "EndingLBA")
        let attributes = try reader.le(UInt64.self, "Attributes")
        var units: [UInt16] = []
        for _ in 0..<36 { units.append(try reader.le(UInt16.self, "PartitionName")) }
        if type == .zero { return nil }

        guard first <= last, usable.contains(first), usable.contains(last) else {
            throw ParseError(
                "range", field: "StartingLBA", offset: base + 32, "blocks \(first) to \(last), usable \(usable)")
        }
        let text = units.prefix { $0 != 0 }
        guard let name = String(validating: text, as: UTF16.self) else {
            throw ParseError("form", field: "PartitionName", offset: base + 56, "not UTF-16")
        }
        let blocks = last - first + 1
        guard let offset = Int(exactly: first)?.multipliedReportingOverflow(by: sectorSize), !offset.overflow,
            let count = Int(exactly: blocks)?.multipliedReportingOverflow(by: sectorSize), !count.overflow,
            !offset.partialValue.addingReportingOverflow(count.partialValue).overflow
        else { throw ParseError("range", field: "EndingLBA", offset: base + 40, "block \(last) is out of reach") }
        return Partition(
            index: index, type: type, unique: unique, blocks: first...last, attributes: attributes, name: name,
            offset: offset.partialValue, count: count.partialValue)
    }

    static func checkOverlaps(_ partitions: [Partition], base: Int) throws(ParseError) {
        let sorted = partitions.sorted { $0.blocks.lowerBound < $1.blocks.lowerBound }
        for (one, next) in zip(sorted, sorted.dropFirst()) where one.blocks.upperBound >= next.blocks.lowerBound {
            throw ParseError(
                "range", field: "StartingLBA", offset: base + next.index * entrySize + 32,
                "partition \(next.index + 1) overlaps partition \(one.index + 1)")
        }
        guard Set(partitions.map(\.unique)).count == partitions.count else {
            throw ParseError("duplicate", field: "UniquePartitionGUID", offset: base, "one GUID for two partitions")
        }
    }
}
