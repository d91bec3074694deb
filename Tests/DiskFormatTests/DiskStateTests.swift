import Bytes
import TestKit
import Testing

@testable import DiskFormat

@Suite struct DiskStateTests {
    private let end = [UInt8](repeating: 0, count: DiskLayout.clearedSize)
    private func blank() -> [UInt8] { [UInt8](repeating: 0, count: DiskLayout.dataOffset) }

    @Test func nothing() {
        #expect(DiskState(start: blank(), end: end) == .blank)
        var data = end
        data[data.count - 1] = 1
        #expect(DiskState(start: blank(), end: data) == .foreign("data at the disk's end"))
    }

    @Test(arguments: [0, 511, 512, 4096, 65_536, 802_816, (16 << 20) - 1])
    func oneByteIsSomething(offset: Int) {
        var start = blank()
        start[offset] = 1
        guard case .foreign = DiskState(start: start, end: end) else {
            Issue.record("byte \(offset) was taken for nothing")
            return
        }
    }

    @Test func unfinishedUntilACopyIsWhole() throws {
        var start = blank()
        start.replaceSubrange(0..<512, with: DiskState.marker)
        #expect(DiskState(start: start, end: end) == .unfinished)
        // Half of what comes after it: keyslots, and a second copy without its end.
        let header = try Sealed.header().bytes
        start.replaceSubrange(32768..<802_816, with: header[32768..<802_816])
        start.replaceSubrange(16384..<20_600, with: header[16384..<20_600])
        #expect(DiskState(start: start, end: end) == .unfinished)
        // From here on it holds what a caller may have been told.
        start.replaceSubrange(16384..<32768, with: header[16384..<32768])
        guard case .ours(_, let binding) = DiskState(start: start, end: end) else {
            Issue.record("a complete disk was taken for an unfinished one")
            return
        }
        #expect(binding == Sealed.binding)
        // A first copy that is torn at any sector changes nothing.
        for sector in 0...32 {
            var torn = start
            torn.replaceSubrange(0..<sector * 512, with: header[0..<sector * 512])
            guard case .ours = DiskState(start: torn, end: end) else {
                Issue.record("torn after \(sector) sectors")
                continue
            }
        }
    }

    @Test func damagedIsNotForeign() throws {
        var start = try Sealed.header().bytes
        start[5000] ^= 1
        start[16384 + 5000] ^= 1
        guard case .damaged(let error) = DiskState(start: start, end: end) else {
            Issue.record("a damaged header of ours")
            return
        }
        #expect(error.finding.reason == "header-checksum")
        #expect(DiskState(start: start.map { $0 == UInt8(ascii: "{") ? 0 : $0 }, end: end) != .unfinished)
    }

    @Test func othersByName() {
        for (offset, magic, name) in [
            (0, "XFSB", "an XFS file system"), (512, "EFI PART", "a GPT partition table"),
            (512, "LABELONE", "an LVM physical volume"), (4086, "SWAPSPACE2", "swap space"),
        ] {
            var start = blank()
            start.replaceSubrange(offset..<offset + magic.utf8.count, with: Array(magic.utf8))
            #expect(DiskState(start: start, end: end) == .foreign(name))
        }
    }
}
