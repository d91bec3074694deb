import Bytes

/// What a disk holds, before any key is used.
public enum DiskState: Equatable, Sendable {
    /// Nobody has written to it.
    case blank
    /// A format of ours that did not come to its end; it never held data.
    case unfinished
    /// Something else: what.
    case foreign(String)
    /// A valid header of ours, and whose it claims to be (its newest epoch); the seal is checked with the key.
    case ours(DiskHeader, DiskBinding)
    /// A header of ours that is not as Nacre writes it.
    case damaged(HeaderError)

    /// First bytes of a disk whose format has begun: in one sector, over which the header's first copy is written last of
    /// all.
    package static let marker: [UInt8] = {
        let text = Array("NACRE state disk: unfinished, holds nothing\n".utf8)
        return text + [UInt8](repeating: 0, count: 512 - text.count)
    }()

    /// Judges the first `DiskLayout.headerSize` bytes of a disk, where they are zeros those up to `DiskLayout.dataOffset` too,
    /// and its last `DiskLayout.clearedSize`.
    package init(start: [UInt8], end: [UInt8]) {
        if DiskHeader.isBlank(start) {
            self = DiskHeader.isBlank(end) ? .blank : .foreign("data at the disk's end")
            return
        }
        do throws(HeaderError) {
            let header = try DiskHeader(parsing: Array(start.prefix(DiskLayout.headerSize)))
            guard let token = header.metadata.bindings.max(by: { $0.epoch < $1.epoch }) else {
                throw HeaderError("token", "json.tokens", expected: "one at least", actual: "none")
            }
            self = .ours(header, DiskBinding(token))
        } catch {
            if start.starts(with: Self.marker) {
                self = .unfinished
            } else if Self.isOurs(start) {
                self = .damaged(error)
            } else {
                self = .foreign(Self.name(start))
            }
        }
    }

    /// A LUKS2 header, however damaged, that mentions our token.
    private static func isOurs(_ start: [UInt8]) -> Bool {
        let magics = BinaryHeader.Copy.allCases.contains { copy in
            start.dropFirst(copy.offset).starts(with: copy.magic)
        }
        guard magics else { return false }
        return [#""type":"nacre""#, #""type": "nacre""#].contains { text in
            contains(start[..<DiskLayout.keyslotsOffset], Array(text.utf8))
        }
    }

    private static func contains(_ bytes: ArraySlice<UInt8>, _ text: [UInt8]) -> Bool {
        guard let first = text.first else { return true }
        var rest = bytes
        while let index = rest.firstIndex(of: first) {
            rest = rest[index...]
            if rest.starts(with: text) { return true }
            rest = rest.dropFirst()
        }
        return false
    }

    /// Well-known first bytes; whatever has none is named by where it begins.
    private static let known: [(offset: Int, magic: [UInt8], name: String)] = [
        (512, Array("EFI PART".utf8), "a GPT partition table"),
        (4096, Array("EFI PART".utf8), "a GPT partition table"),
        (0, Array("LUKS".utf8) + [0xBA, 0xBE, 0, 1], "an encrypted disk (LUKS1)"),
        (0, Array("LUKS".utf8) + [0xBA, 0xBE], "an encrypted disk (LUKS2) of others"),
        (16384, Array("SKUL".utf8) + [0xBA, 0xBE], "an encrypted disk (LUKS2) of others, its first header damaged"),
        (512, Array("LABELONE".utf8), "an LVM physical volume"),
        (0, Array("XFSB".utf8), "an XFS file system"),
        (1080, [0x53, 0xEF], "an ext2, ext3 or ext4 file system"),
        (65600, Array("_BHRfS_M".utf8), "a btrfs file system"),
        (1024, [0xE2, 0xE1, 0xF5, 0xE0], "an EROFS file system"),
        (0, Array("hsqs".utf8), "a squashfs file system"),
        (3, Array("NTFS    ".utf8), "an NTFS file system"),
        (82, Array("FAT32   ".utf8), "a FAT file system"),
        (54, Array("FAT16   ".utf8), "a FAT file system"),
        (4086, Array("SWAPSPACE2".utf8), "swap space"),
        (4096, [0xFC, 0x4E, 0x2B, 0xA9], "a member of a RAID (md)"),
        (32769, Array("CD001".utf8), "an ISO 9660 file system"),
        (0, Array("integrt\0".utf8), "a dm-integrity device"),
        (0, Array("verity\0\0".utf8), "a dm-verity hash tree"),
        (510, [0x55, 0xAA], "an MBR partition table"),
    ]

    private static func name(_ start: [UInt8]) -> String {
        if let match = known.first(where: { start.dropFirst($0.offset).starts(with: $0.magic) }) { return match.name }
        let first = start.firstIndex { $0 != 0 } ?? 0
        return "unknown data from byte \(first) on"
    }
}
