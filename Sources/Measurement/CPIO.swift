import Bytes

/// The "newc" cpio archives that systemd-stub synthesises (systemd 257, `src/boot/cpio.c`): inodes from 1, no owner, no
/// time, one link, directories of the prefix first, then the files in the order given.
struct CPIO {
    private var writer = ByteWriter()
    private var inode: UInt32 = 1

    /// - Parameters:
    ///   - prefix: directory for all files, e.g. `.extra/credentials`; parents get mode 0555.
    ///   - directoryMode: mode of the last directory of `prefix`.
    static func archive(
        _ files: [(name: String, contents: [UInt8])], prefix: String, directoryMode: UInt32, fileMode: UInt32
    ) -> [UInt8] {
        var archive = CPIO()
        let components = prefix.split(separator: "/")
        for depth in components.indices {
            let isLast = depth == components.indices.last
            archive.add(
                components[...depth].joined(separator: "/"), mode: 0x4000 | (isLast ? directoryMode : 0o555), [])
        }
        for file in files { archive.add("\(prefix)/\(file.name)", mode: 0x8000 | fileMode, file.contents) }
        archive.end()
        return archive.writer.bytes
    }

    private mutating func add(_ name: String, mode: UInt32, _ contents: [UInt8]) {
        header(name, inode: inode, mode: mode, size: contents.count)
        inode += 1
        writer.append(contents)
        writer.pad(to: 4)
    }

    /// A literal in the stub: the one place where a digit is upper case.
    private mutating func end() {
        writer.append("0707010000000000000000000000000000000000000001".utf8)
        writer.append("0000000000000000000000000000000000000000000000000000000B00000000TRAILER!!!\0\0\0\0".utf8)
    }

    private mutating func header(_ name: String, inode: UInt32, mode: UInt32, size: Int) {
        let length = UInt32(name.utf8.count + 1)
        writer.append("070701".utf8)
        for field in [
            inode, mode, 0, 0, 1, 0, UInt32(truncatingIfNeeded: size), 0, 0, 0, 0, length, 0,
        ] as [UInt32] {
            writer.append(Hex.encode((0..<4).reversed().map { UInt8(truncatingIfNeeded: field >> (8 * $0)) }).utf8)
        }
        writer.append(name.utf8)
        writer.u8(0)
        writer.pad(to: 4)
    }
}
