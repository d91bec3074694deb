import Bytes
import TestKit
import VerityRoot

@testable import GPT

extension Seeds {
    /// `bytes` as the beginning of something larger whose rest is zero.
    static func padded(_ bytes: [UInt8], to count: Int) -> ByteSource {
        ByteSource(count: count) { offset, length in
            let start = min(offset, bytes.count)
            let part = Array(bytes[start..<min(bytes.count, offset + length)])
            return part + [UInt8](repeating: 0, count: length - part.count)
        }
    }

    private static func little(_ value: UInt64, _ count: Int) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
    }

    // MARK: Partition tables

    static var disks: [[UInt8]] {
        var table = [UInt8](repeating: 0, count: 128 * 128)
        for (index, blocks) in [(40, 63), (64, 80)].enumerated() {
            let type = index == 0 ? GPT.PartitionType.efiSystem.bytes : GPT.PartitionType.rootX8664.bytes
            let entry =
                type + [UInt8](repeating: UInt8(index + 1), count: 16) + little(UInt64(blocks.0), 8)
                + little(UInt64(blocks.1), 8) + little(0, 8) + Array("part".utf8).flatMap { [$0, 0] }
            table.replaceSubrange(index * 128..<index * 128 + entry.count, with: entry)
        }
        var header = Array("EFI PART".utf8) + [0, 0, 1, 0] + little(92, 4) + little(0, 8) + little(1, 8)
        header += little(95, 8) + little(34, 8) + little(90, 8) + [UInt8](repeating: 7, count: 16)
        header += little(2, 8) + little(128, 4) + little(128, 4) + little(0, 4)
        var disk = [UInt8](repeating: 0, count: 34 * 512)
        disk.replaceSubrange(446..<462, with: [0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF, 1, 0, 0, 0, 95, 0, 0, 0])
        disk.replaceSubrange(510..<512, with: [0x55, 0xAA])
        disk.replaceSubrange(512..<512 + header.count, with: header)
        disk.replaceSubrange(1024..<1024 + table.count, with: table)
        return [repaired(disk: disk)]
    }

    /// The same with the checksums of header and entries made right, as far as the fields lie inside.
    static func repaired(disk: [UInt8]) -> [UInt8] {
        guard disk.count >= 604 else { return disk }
        var disk = disk
        func number(_ offset: Int, _ count: Int) -> Int {
            disk[offset..<offset + count].reversed().reduce(0) { $0 << 8 | Int($1) }
        }
        let (start, size) = (number(584, 4) * 512, number(592, 4) &* number(596, 4))
        if start <= 4096, size <= 32 << 10, size >= 0 {
            let part = start < disk.count ? Array(disk[start..<min(disk.count, start + size)]) : []
            let table = part + [UInt8](repeating: 0, count: size - part.count)
            disk.replaceSubrange(600..<604, with: little(UInt64(CRC32.checksum(table)), 4))
        }
        let length = number(524, 4)
        if (92...512).contains(length), disk.count >= 512 + length {
            disk.replaceSubrange(528..<532, with: [0, 0, 0, 0])
            let checksum = CRC32.checksum(Array(disk[512..<512 + length]))
            disk.replaceSubrange(528..<532, with: little(UInt64(checksum), 4))
        }
        return disk
    }

    // MARK: Executables, file systems, verity

    static var executables: [[UInt8]] {
        let sections: [PEBuilder.Section] = [
            .init(".linux", PEBuilder.image([.init(".text", [1, 2, 3])])), .init(".osrel", Array("ID=nacre\n".utf8)),
            .init(".cmdline", Array("quiet".utf8)), .init(".initrd", [1, 2, 3]), .init(".profile", [1]),
        ]
        return [
            PEBuilder.image(sections), PEBuilder.image(sections, certificates: [8, 0, 0, 0, 0, 2, 2, 0], tail: [9]),
        ]
    }

    /// FAT16 of 4104 clusters of one sector, with one table: everything but file contents lies in the first ten KiB.
    static let volumeSize = 4200 * 512

    static var volumes: [[UInt8]] {
        var disk = [UInt8](repeating: 0, count: 24 * 512)
        func put(_ bytes: [UInt8], _ offset: Int) { disk.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
        // 512-byte sectors, 1 per cluster, 1 reserved, 1 table of 17 sectors, 16 root entries, 4200 sectors.
        put([0xEB, 0x3C, 0x90] + Array("MSDOS5.0".utf8), 0)
        put([0, 2, 1, 1, 0, 1, 16, 0] + little(4200, 2) + [0xF8] + little(17, 2), 11)
        put([0x55, 0xAA], 510)
        // Clusters 2 and 3: directories EFI and EFI/BOOT; 4 → 5: a file of two.
        put([0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 5, 0, 0xFF, 0xFF], 512)
        func entry(_ name: String, _ attributes: UInt8, _ cluster: UInt64, _ size: UInt64) -> [UInt8] {
            Array(name.utf8) + [attributes] + [UInt8](repeating: 0, count: 14) + little(cluster, 2) + little(size, 4)
        }
        put(entry("EFI        ", 0x10, 2, 0), 18 * 512)
        put(entry("BOOT       ", 0x10, 3, 0), 19 * 512)
        put(entry("BOOTX64 EFI", 0x20, 4, 700), 20 * 512)
        put([UInt8](repeating: 0x41, count: 700), 21 * 512)
        return [disk]
    }

    static var superblocks: [[UInt8]] {
        var block = Array("verity\0\0".utf8) + little(1, 4) + little(1, 4) + [UInt8](repeating: 5, count: 16)
        block += Array("sha256".utf8) + [UInt8](repeating: 0, count: 26) + little(4096, 4) + little(4096, 4)
        block += little(100, 8) + little(32, 2) + [UInt8](repeating: 0, count: 6) + [UInt8](repeating: 6, count: 32)
        return [block + [UInt8](repeating: 0, count: 512 - block.count)]
    }

    // MARK: Firmware

    private static func guid(_ name: GUID) -> [UInt8] { name.bytes }

    /// A section of raw data, padded to four bytes.
    private static func section(_ type: UInt8, _ contents: [UInt8]) -> [UInt8] {
        let bytes = little(UInt64(4 + contents.count), 3) + [type] + contents
        return bytes + [UInt8](repeating: 0, count: (4 - bytes.count % 4) % 4)
    }

    private static func file(_ name: GUID, _ type: UInt8, _ contents: [UInt8]) -> [UInt8] {
        let bytes = guid(name) + [0, 0, type, 0] + little(UInt64(24 + contents.count), 3) + [0xF8] + contents
        return bytes + [UInt8](repeating: 0xFF, count: (8 - bytes.count % 8) % 8)
    }

    /// - Parameter name: FvName; such a volume has an extended header.
    private static func volume(
        _ fileSystem: GUID, _ contents: [UInt8], _ size: Int, name: GUID? = nil
    ) -> [UInt8] {
        var header: [UInt8] = [UInt8](repeating: 0, count: 16) + guid(fileSystem) + little(UInt64(size), 8)
        header +=
            Array("_FVH".utf8) + [0, 0, 0, 0] + little(72, 2) + [0, 0] + little(name == nil ? 0 : 72, 2) + [0, 2]
        header += little(UInt64(size / 4096), 4) + little(4096, 4) + [UInt8](repeating: 0, count: 8)
        let sum = stride(from: 0, to: 72, by: 2).reduce(UInt16(0)) {
            $0 &+ (UInt16(header[$1]) | UInt16(header[$1 + 1]) << 8)
        }
        header.replaceSubrange(50..<52, with: little(UInt64(0 &- sum), 2))
        if let name { header += guid(name) + little(20, 4) + [UInt8](repeating: 0, count: 4) }
        let used = header + contents
        return used + [UInt8](repeating: 0xFF, count: max(0, size - used.count))
    }

    /// A file system volume that holds those of PEI and DXE, as OVMF nests its own, and the footer table of a code image with SEV and
    /// TDX metadata.
    static var firmware: [[UInt8]] {
        let fileSystem: GUID = "8c8ce578-8a3d-4f1c-9935-896185c32dd3"
        let version = Array("2025.02\0".utf8).flatMap { byte -> [UInt8] in [byte, 0] }
        let pei = volume(
            fileSystem, file("a0c98b77-cba5-4bb8-993b-4af6ce33ece4", 6, section(0x10, version)), 4096,
            name: "6938079b-b503-4e3d-9d24-b28337a25806")
        let dxe = volume(
            fileSystem, file("00112233-4455-6677-8899-aabbccddeeff", 7, section(0x10, version)), 4096,
            name: "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
        let volumes = section(0x17, pei) + section(0x17, dxe)
        let outer = volume(fileSystem, file("ffeeddcc-bbaa-9988-7766-554433221100", 0x0B, volumes), 12288)
        // ASEV at 64 and TDVF at 128 before the end of the code, addressed from the end of the image.
        var code = [UInt8](repeating: 0, count: 8192)
        func put(_ bytes: [UInt8], _ offset: Int) { code.replaceSubrange(offset..<offset + bytes.count, with: bytes) }
        put(
            Array("ASEV".utf8) + little(28, 4) + little(1, 4) + little(1, 4) + little(0x80_0000, 4) + little(4096, 4)
                + little(1, 4), 256)
        put(
            Array("TDVF".utf8) + little(48, 4) + little(1, 4) + little(1, 4) + little(0, 4) + little(4096, 4)
                + little(0xFFFF_E000, 8) + little(4096, 8) + little(0, 4) + little(1, 4), 512)
        func record(_ data: [UInt8], _ name: GUID) -> [UInt8] { data + little(UInt64(data.count + 18), 2) + guid(name) }
        var table = record(little(UInt64(8192 - 256), 4), "dc886566-984a-4798-a75e-5585a7bf67cc")
        table += record(little(UInt64(8192 - 512), 4), "e47a6535-984a-4798-865e-4685a7bf8ec2")
        table += record(little(0x80_B004, 4), "00f771de-1a7e-4fcb-890e-68c77e2fb44e")
        table += little(UInt64(table.count + 18), 2) + guid("96b582de-1fb2-45f7-baea-a366c55a082d")
        put(table, 8192 - 32 - table.count)
        return [outer, code]
    }

    static var variableStores: [[UInt8]] {
        let name: [UInt8] = Array("SecureBoot\0".utf8).flatMap { byte -> [UInt8] in [byte, 0] }
        let variable: [UInt8] =
            [0xAA, 0x55, 0x3F, 0] + little(7, 4) + [UInt8](repeating: 0, count: 28) + little(UInt64(name.count), 4)
            + little(1, 4) + guid("8be4df61-93ca-11d2-aa0d-00e098032b8c") + name + [1]
        let store: [UInt8] =
            guid("aaf32c78-947b-439a-a180-2e144ec37792") + little(2048, 4) + [0x5A, 0xFE, 0, 0, 0, 0, 0, 0] + variable
        return [volume("fff12b8d-7696-4c8b-a985-2747075b4f50", store, 4096)]
    }

    /// "abcabcabcabc" as `xz --format=lzma` packs it, with its size in the header.
    static var packed: [[UInt8]] {
        [
            [
                0x5D, 0, 0, 0x80, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0x00, 0x30, 0x98, 0x88, 0xA7, 0xEB, 0x62, 0x81, 0xA3,
                0xFF,
                0xFF, 0x61, 0x64, 0, 0,
            ]
        ]
    }
}
