import Bytes
import TestKit
import Testing

@testable import GPT

/// UEFI 2.10 §5.3, on partition tables of the vectors and on one made here.
@Suite struct GPTTests {
    /// A disk of 96 sectors with two partitions; `edit` works on header fields before the checksums are made.
    static func disk(
        entries edit: (inout [UInt8]) -> Void = { _ in }, header change: (inout [UInt8]) -> Void = { _ in }
    ) -> [UInt8] {
        func number(_ value: UInt64, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        var table = [UInt8](repeating: 0, count: 128 * 128)
        for (index, blocks) in [(40, 63), (64, 80)].enumerated() {
            var entry = GPT.PartitionType.efiSystem.bytes
            if index == 1 { entry = GPT.PartitionType.rootX8664.bytes }
            entry += [UInt8](repeating: UInt8(index + 1), count: 16)
            entry += number(UInt64(blocks.0), 8) + number(UInt64(blocks.1), 8) + number(0, 8)
            entry += Array("part".utf8).flatMap { [$0, 0] }
            table.replaceSubrange(index * 128..<index * 128 + entry.count, with: entry)
        }
        edit(&table)
        var header = Array("EFI PART".utf8) + [0, 0, 1, 0] + number(92, 4) + number(0, 8) + number(1, 8)
        header += number(95, 8) + number(34, 8) + number(90, 8) + [UInt8](repeating: 7, count: 16)
        header += number(2, 8) + number(128, 4) + number(128, 4) + number(UInt64(CRC32.checksum(table)), 4)
        change(&header)
        header.replaceSubrange(16..<20, with: number(UInt64(CRC32.checksum(header)), 4))
        var disk = [UInt8](repeating: 0, count: 96 * 512)
        disk.replaceSubrange(446..<462, with: [0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 95, 0, 0, 0])
        disk.replaceSubrange(510..<512, with: [0x55, 0xAA])
        disk.replaceSubrange(512..<512 + header.count, with: header)
        disk.replaceSubrange(1024..<1024 + table.count, with: table)
        return disk
    }

    @Test func checksumIsThatOfTheStandard() {
        #expect(CRC32.checksum(Array("123456789".utf8)) == 0xCBF4_3926)
    }

    @Test func partitionsAreFoundByType() throws {
        let disk = ByteSource(Self.disk())
        let table = try GPT(disk)
        let root = try #require(try table.partition(type: GPT.PartitionType.rootX8664))
        #expect((root.name, root.offset, root.count, root.blocks) == ("part", 64 * 512, 17 * 512, 64...80))
        #expect(try table.partition(type: GPT.PartitionType.usrX8664) == nil)
        #expect(try table.source(of: root, on: disk).count == 17 * 512)
        #expect(table.eventData.count == 92 + 8 + 2 * 128)
    }

    static let refused: [(String, String, @Sendable () -> [UInt8])] = [
        ("overlapping partitions", "range", { Self.disk(entries: { $0[128 + 32] = 60 }) }),
        ("a partition outside the usable blocks", "range", { Self.disk(entries: { $0[32] = 20 }) }),
        ("a partition that ends before it starts", "range", { Self.disk(entries: { $0[40] = 39 }) }),
        (
            "one GUID for two partitions", "duplicate",
            { Self.disk(entries: { for index in 16..<32 { $0[128 + index] = 1 } }) }
        ),
        ("half a surrogate pair as a name", "form", { Self.disk(entries: { $0[57] = 0xD8 }) }),
        ("another header size", "length", { Self.disk(header: { $0[12] = 96 }) }),
        ("another revision", "version", { Self.disk(header: { $0[8] = 1 }) }),
        ("a header of another block", "range", { Self.disk(header: { $0[24] = 2 }) }),
        ("another entry size", "length", { Self.disk(header: { $0[85] = 1 }) }),
        ("more entries than any table has", "range", { Self.disk(header: { $0[82] = 1 }) }),
        ("reserved bytes in use", "reserved", { Self.disk(header: { $0[20] = 1 }) }),
    ]

    @Test(arguments: refused.indices) func tablesOutsideTheSpecificationAreRefused(_ index: Int) {
        let (what, detail, disk) = Self.refused[index]
        let error = #expect(throws: ParseError.self, "\(what)") { try GPT(ByteSource(disk())) }
        #expect(error?.detail == detail, "\(what): \(error.debugDescription)")
    }

    @Test func hybridAndMissingProtectiveRecordsAreRefused() {
        var disk = Self.disk()
        disk.replaceSubrange(462..<478, with: [0x80, 0, 2, 0, 0x0C, 0, 0, 0, 40, 0, 0, 0, 9, 0, 0, 0])
        #expect(throws: ParseError.self) { try GPT(ByteSource(disk)) }
        disk = Self.disk()
        disk[450] = 0
        #expect(throws: ParseError.self) { try GPT(ByteSource(disk)) }
    }

    @Test func truncationAtAnyByteIsRefused() {
        let disk = Self.disk()
        for count in Array(0..<1100) + Array(stride(from: 1100, to: 1024 + 128 * 128, by: 61)) {
            #expect(throws: ParseError.self) { try GPT(ByteSource(Array(disk[..<count]))) }
        }
    }

    @Test func anyFlippedBitOfHeaderAndEntriesIsRefused() {
        let disk = Self.disk()
        for byte in Array(512..<1024) + Array(1024..<1024 + 256) {
            var damaged = disk
            damaged[byte] ^= 1 << UInt8(byte % 8)
            #expect(throws: ParseError.self, "byte \(byte)") { try GPT(ByteSource(damaged)) }
        }
    }

    @Test func mutationsNeverCrash() {
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<300 { _ = try? GPT(ByteSource(mutate(Self.disk(), with: &generator))) }
    }

    @Test(arguments: Vectors.cases("pcr-predict")) func genuineTablesAreRead(_ vector: Vectors.Case) throws {
        let path = vector.inputs["dir"]?.string ?? ""
        let table = try GPT(ByteSource(try Vectors.read("\(path)/gpt.bin")))
        #expect(try table.partition(type: GPT.PartitionType.efiSystem) != nil)
    }
}
