import Bytes
import Testing

@testable import DiskFormat

@Suite struct SuperblockTests {
    /// As Linux 7.3 writes it for `DiskLayout`, 8 sections of journal, 100 MiB of data.
    static let good: [UInt8] = {
        var writer = ByteWriter()
        writer.append(Array("integrt\0".utf8))
        writer.u8(4)
        writer.u8(15)
        writer.le(UInt16(32))
        writer.le(UInt32(8))
        writer.le(UInt64(204_800))
        writer.le(UInt32(8))
        writer.u8(3)
        writer.zeros(64 - writer.bytes.count)
        return writer.bytes
    }()

    private func reason(_ bytes: [UInt8], available: Int = 1 << 30) -> String? {
        do throws(HeaderError) {
            _ = try IntegritySuperblock(parsing: bytes, available: available)
            return nil
        } catch { return error.finding.reason }
    }

    @Test func whatTheKernelWritesIsRead() throws {
        let superblock = try IntegritySuperblock(parsing: Self.good, available: 1 << 30)
        #expect(superblock.dataSectors == 204_800)
        #expect(superblock.journalSections == 8)
    }

    @Test func everyOtherByteIsRefused() {
        // The sizes may differ from disk to disk, and the bitmap's grain is not used.
        let free = Set(12..<24).union([29])
        for index in Self.good.indices where !free.contains(index) {
            for bit in 0..<8 {
                var bytes = Self.good
                bytes[index] ^= 1 << UInt8(bit)
                #expect(reason(bytes)?.hasPrefix("header-") == true, "bit \(bit) of byte \(index)")
            }
        }
    }

    @Test func lengths() {
        for count in 0..<Self.good.count { #expect(reason(Array(Self.good.prefix(count))) != nil, "\(count) bytes") }
        #expect(reason(Self.good + [0]) != nil)
    }

    @Test func sizesThatTheDiskDoesNotHave() {
        #expect(reason(Self.good, available: 204_800 * 512) == nil)
        #expect(reason(Self.good, available: 204_800 * 512 - 512) == "header-superblock")
        #expect(reason(Self.good, available: 0) == "header-superblock")
        for (offset, bytes) in [
            (12, [0, 0, 0, 0]), (12, [0xFF, 0xFF, 0xFF, 0xFF]), (16, [0, 0, 0, 0]), (16, [1, 0, 0, 0]),
            (20, [0xFF, 0xFF, 0xFF, 0xFF]),
        ] as [(Int, [UInt8])] {
            var changed = Self.good
            changed.replaceSubrange(offset..<offset + 4, with: bytes)
            #expect(reason(changed) == "header-superblock")
        }
    }
}
