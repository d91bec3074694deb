import Bytes
import TestKit
import Testing

@testable import UnifiedKernelImage

/// Volumes made by dosfstools and mtools.
@Suite struct FATTests {
    static let large = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }

    /// An image with `EFI/BOOT/BOOTX64.EFI` and a file with a long name, or `nil` where the tools are missing.
    static func volume(bits: Int, kilobytes: Int) throws -> [UInt8]? {
        guard let format = Tool.find("mkfs.vfat") ?? Tool.find("/usr/sbin/mkfs.vfat"), let copy = Tool.find("mcopy")
        else {
            return nil
        }
        let folder = try TemporaryFolder()
        let image = folder.path + "/fat.img"
        let loader = try folder.file("BOOTX64.EFI", large)
        let long = try folder.file("a long file name.addon.efi", [1, 2, 3])
        let empty = try folder.file("empty", [])
        for command in [
            [format, "-F", "\(bits)", "-s", "1", "-S", "512", "-C", image, "\(kilobytes)"],
            ["mmd", "-i", image, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/addons"],
            [copy, "-i", image, loader, "::/EFI/BOOT/"], [copy, "-i", image, long, "::/loader/addons/"],
            [copy, "-i", image, empty, "::/loader/"],
        ] {
            let result = try Tool.run(command)
            try #require(result.status == 0, "\(command): \(result.errors)")
        }
        return try readFile(image)
    }

    @Test(arguments: [(16, 8192), (32, 40960)]) func filesAreFoundAndRead(_ bits: Int, _ kilobytes: Int) throws {
        guard let bytes = try Self.volume(bits: bits, kilobytes: kilobytes) else { return }
        let volume = try FATVolume(ByteSource(bytes))
        for path in ["EFI/BOOT/BOOTX64.EFI", "\\efi\\boot\\bootx64.efi"] {
            let file = try #require(try volume.file(path))
            #expect(try file.readAll(limit: 1 << 20, path) == Self.large)
        }
        #expect(try volume.entries("loader/addons")?.map(\.name) == ["a long file name.addon.efi"])
        #expect(try volume.file("loader/addons/A LONG file name.addon.efi")?.count == 3)
        #expect(try volume.file("loader/empty")?.count == 0)
        #expect(try volume.file("loader/addons") == nil)
        #expect(try volume.file("EFI/BOOT/OTHER.EFI") == nil)
        #expect(try volume.entries("nowhere") == nil)
    }

    @Test func chainsThatLoopOrEndEarlyAreRefused() throws {
        guard var bytes = try Self.volume(bits: 16, kilobytes: 8192) else { return }
        let table = 512 * (Int(bytes[14]) | Int(bytes[15]) << 8)
        // Follow the loader's chain: its clusters are the only run of more than ten neighbours.
        var cluster = 2
        while bytes[table + 2 * cluster] == 0xFF || bytes[table + 2 * cluster + 1] == 0xFF { cluster += 1 }
        let whole = bytes
        bytes.replaceSubrange(table + 2 * (cluster + 8)..<table + 2 * (cluster + 9), with: [UInt8(cluster), 0])
        #expect(throws: ParseError.self) { try FATVolume(ByteSource(bytes)).file("EFI/BOOT/BOOTX64.EFI") }
        bytes = whole
        bytes.replaceSubrange(table + 2 * (cluster + 8)..<table + 2 * (cluster + 9), with: [0xFF, 0xFF])
        #expect(throws: ParseError.self) { try FATVolume(ByteSource(bytes)).file("EFI/BOOT/BOOTX64.EFI") }
    }

    @Test func mutationsNeverCrash() throws {
        guard let bytes = try Self.volume(bits: 16, kilobytes: 4096) else { return }
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<300 {
            var damaged = bytes
            // Boot sector, tables and directories: the data would only dilute the damage.
            for _ in 0..<4 {
                let limit = Bool.random(using: &generator) ? 64 : 64 << 10
                damaged[Int.random(in: 0..<limit, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            guard let volume = try? FATVolume(ByteSource(damaged)) else { continue }
            _ = try? volume.file("EFI/BOOT/BOOTX64.EFI")?.readAll(limit: 1 << 20, "loader")
            _ = try? volume.entries("loader/addons")
        }
    }

    @Test func truncationIsRefused() throws {
        guard let bytes = try Self.volume(bits: 16, kilobytes: 4096) else { return }
        for count in Array(0..<512) + [513, 4096, bytes.count - 1] {
            #expect(throws: ParseError.self) { try FATVolume(ByteSource(Array(bytes[..<count]))) }
        }
    }
}
