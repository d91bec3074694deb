import Bytes
import Crypto
import GPT
import Glibc
import TestKit
import Testing
import UnifiedKernelImage

/// A copy of the production disk in which single bytes are changed in place: no tool of the build runs again, so
/// everything else stays as it was.
final class DiskCopy {
    private let folder: TemporaryFolder
    let path: String
    private let file: Int32
    private let ukiOffset: Int
    private let uki: [UInt8]

    init() throws {
        folder = try TemporaryFolder()
        path = folder.path + "/disk.raw"
        let copy = try Tool.run(["cp", "--reflink=auto", "--sparse=always", Built.disk, path])
        try #require(copy.status == 0, "\(copy.errors)")
        file = unsafe open(path, O_RDWR | O_CLOEXEC)
        try #require(file >= 0)
        uki = try readFile(Built.image + "/nacre.efi")
        // mkosi writes the one large file of the ESP in one piece; the comparison makes sure.
        let start = Array(uki.prefix(4096))
        let system = try Self.partition(GPT.PartitionType.efiSystem, of: path)
        var found: Int?
        for offset in stride(from: system.offset, to: system.offset + system.count - uki.count, by: 512) {
            guard try Self.read(file, offset, 16) == Array(start.prefix(16)) else { continue }
            if try Self.read(file, offset, start.count) == start {
                found = offset
                break
            }
        }
        ukiOffset = try #require(found, "the UKI on the ESP")
        #expect(try Self.read(file, ukiOffset, uki.count) == uki, "the UKI in one piece")
    }

    // MARK: Changes

    /// Replaces the first `old` in a section of the UKI by `new`, of the same length.
    func replace(_ old: String, with new: String, in section: UnifiedKernelImage.Section) throws {
        let (offset, bytes) = try contents(of: section)
        let place = try #require(Self.find(Array(old.utf8), in: bytes), "\(old) in \(section.rawValue)")
        try #require(old.utf8.count == new.utf8.count)
        try write(Array(new.utf8), at: offset + place)
    }

    /// Changes one byte of the packed initrd and nothing of its contents: the bit of the frame header that RFC 8878
    /// (3.1.1.1.1.3) leaves unused and that no decoder looks at.
    func changeInitrd() throws {
        let (offset, packed) = try contents(of: .initrd)
        try #require(packed.starts(with: [0x28, 0xB5, 0x2F, 0xFD]), "a zstd frame")
        try write([packed[4] ^ 0x10], at: offset + 4)
    }

    /// Another disk GUID, in both partition tables, their checksums right again.
    func changeDiskGUID() throws {
        var info = stat()
        try #require(unsafe stat(path, &info) == 0)
        for offset in [512, Int(info.st_size) - 512] {
            var header = try read(at: offset, count: 92)
            try #require(header.starts(with: Array("EFI PART".utf8)))
            header[56] ^= 1
            header.replaceSubrange(16..<20, with: [0, 0, 0, 0])
            let checksum = Self.crc32(header)
            header.replaceSubrange(16..<20, with: (0..<4).map { UInt8(truncatingIfNeeded: checksum >> (8 * $0)) })
            try write(header, at: offset)
        }
    }

    /// Flips one bit in the first block of the bootstrapper on the root partition: in padding of its ELF header, which
    /// means nothing to anybody but dm-verity.
    func flipRootBit() throws {
        let root = try Self.partition(GPT.PartitionType.rootX8664, of: path)
        let start = Array(try readFile(Built.bootstrapper).prefix(4096))
        var found: Int?
        for block in stride(from: root.offset, to: root.offset + root.count, by: 4096)
        where try read(at: block, count: 64) == Array(start.prefix(64)) && read(at: block, count: start.count) == start
        {
            found = block
            break
        }
        let block = try #require(found, "the bootstrapper on the root partition")
        let padding = 12
        try write([start[padding] ^ 1], at: block + padding)
    }

    /// Puts files on the EFI system partition, with mtools.
    func add(_ files: [(path: String, contents: [UInt8])]) throws {
        let system = try Self.partition(GPT.PartitionType.efiSystem, of: path)
        func mtools(_ command: [String]) throws {
            let result = try Tool.run([command[0], "-i", "\(path)@@\(system.offset)"] + command.dropFirst())
            try #require(result.status == 0, "\(command): \(result.errors)")
        }
        var made: Set<String> = ["EFI", "EFI/BOOT", "loader"]
        for (name, contents) in files {
            let parts = name.split(separator: "/")
            for count in 1..<parts.count {
                let parent = parts[..<count].joined(separator: "/")
                if made.insert(parent).inserted { try mtools(["mmd", "::/\(parent)"]) }
            }
            try mtools(["mcopy", try folder.file("added", contents), "::/\(name)"])
        }
    }

    // MARK: A release of this disk

    /// Predicts, writes and signs a manifest of this disk, as a release of it would have; the options that name it.
    func release(in folder: TemporaryFolder) throws -> [String] {
        func nacre(_ arguments: String...) throws -> Tool.Output {
            let result = try Tool.run([Built.nacre] + arguments)
            try #require(result.status == 0, "\(result.errors)")
            return result
        }
        let measured = try nacre(
            "image", "measure", path, "--firmware", Built.firmware + "/OVMF_CODE_4M.fd", "--vars",
            Built.firmware + "/OVMF_VARS_4M.fd", "-o", "json")
        let measurements = try folder.file("measurements.json", measured.output)
        let image = try folder.file("nacre.efi", read(at: ukiOffset, count: uki.count))
        let rootHash = String(decoding: try readFile(Built.image + "/nacre.roothash").prefix(64), as: UTF8.self)
        let manifest = folder.path + "/other.json"
        _ = try nacre(
            "manifest", "create", "--measurements", measurements, "--raw", path, "--uki", image, "--root-hash",
            rootHash,
            "--lock", Built.root + "/mkosi/lock.json", "--profile", "production", "--release-counter", "1",
            "--not-after", "2031-01-01T00:00:00Z", "--out", manifest)
        _ = try nacre(
            "manifest", "sign", "--manifest", manifest, "--key", Built.key, "--out", manifest + ".sigstore.json")
        return ["--manifest", manifest, "--bundle", manifest + ".sigstore.json", "--trust-root", Built.trustRoot]
    }

    // MARK: Bytes

    private func contents(of section: UnifiedKernelImage.Section) throws -> (offset: Int, bytes: [UInt8]) {
        let sections = try UnifiedKernelImage(ByteSource(uki)).sections(profile: 0)
        let found = try #require(sections[section])
        let offset = ukiOffset + found.rawOffset
        return (offset, try read(at: offset, count: min(found.virtualSize, found.rawSize)))
    }

    private func read(at offset: Int, count: Int) throws -> [UInt8] { try Self.read(file, offset, count) }

    private static func read(_ file: Int32, _ offset: Int, _ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = unsafe pread(file, &bytes, count, off_t(offset))
        try #require(got == count)
        return bytes
    }

    private func write(_ bytes: [UInt8], at offset: Int) throws {
        let put = unsafe pwrite(file, bytes, bytes.count, off_t(offset))
        try #require(put == bytes.count)
    }

    private static func partition(_ type: GUID, of path: String) throws -> GPT.Partition {
        try #require(try GPT(ByteSource(file: path)).partition(type: type))
    }

    private static func find(_ needle: [UInt8], in bytes: [UInt8]) -> Int? {
        bytes.indices.first { bytes[$0] == needle.first && bytes[$0...].starts(with: needle) }
    }

    /// CRC-32 of the UEFI specification (reflected, polynomial 0xEDB88320).
    private static func crc32(_ bytes: [UInt8]) -> UInt32 {
        ~bytes.reduce(~0) { sum, byte in
            (0..<8).reduce(sum ^ UInt32(byte)) { value, _ in value >> 1 ^ (value & 1 == 0 ? 0 : 0xEDB8_8320) }
        }
    }

    deinit { close(file) }
}
