import Bytes
import TestKit
import Testing

@testable import VerityRoot

private let hex = "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210"

@Suite("Root hash")
struct RootHashTests {
    @Test("names both partitions as the Discoverable Partitions Specification says")
    func partitions() throws {
        let hash = try RootHash(commandLine: "console=ttyS0 roothash=\(hex) panic=5\n")
        #expect(hash.hex == hex)
        #expect(hash.dataPartition == "00112233-4455-6677-8899-aabbccddeeff")
        #expect(hash.hashPartition == "01234567-89ab-cdef-fedc-ba9876543210")
    }

    @Test(
        "is refused when absent, repeated, malformed or quoted",
        arguments: [
            "", "quiet", "roothash=", "roothash=\(hex) roothash=\(hex)", "roothash=\(hex)0",
            "roothash=\(hex.dropLast())",
            "roothash=\(hex.dropLast())g", "xroothash=\(hex)", "a=\"roothash=\(hex)\"", "\"roothash=\(hex)\"",
        ])
    func refused(_ line: String) {
        #expect(throws: ParseError.self) { try RootHash(commandLine: line) }
    }
}

@Suite("Block device")
struct BlockDeviceTests {
    @Test("reads numbers and partition UUID from a uevent")
    func partition() throws {
        let text = "MAJOR=254\nMINOR=2\nDEVNAME=vda2\nDEVTYPE=partition\nPARTN=2\nPARTUUID=AA-BB=c\n"
        let device = try #require(BlockDevice(uevent: text))
        #expect(device.numbers == "254:2")
        #expect(device.partitionUUID == "aa-bb=c")
    }

    @Test("has no partition UUID for a whole disk, and does not exist without numbers")
    func others() {
        #expect(BlockDevice(uevent: "MAJOR=7\nMINOR=1\nDEVTYPE=disk\n")?.partitionUUID == nil)
        #expect(BlockDevice(uevent: "MAJOR=7\nPARTUUID=x\n") == nil)
        #expect(BlockDevice(uevent: "MAJOR=-7\nMINOR=1\n") == nil)
        #expect(BlockDevice(uevent: "") == nil)
    }
}

@Suite("Verity superblock")
struct VeritySuperblockTests {
    static let sample = VeritySuperblock(
        uuid: Array(1...16), dataBlocks: 1000, salt: [UInt8](repeating: 0xAB, count: 32))

    @Test("is read as it was written, whatever the salt's length", arguments: [0, 1, 32, 255, 256])
    func roundTrip(salt: Int) throws {
        let block = VeritySuperblock(
            uuid: Array(1...16), dataBlocks: 1 << 38, salt: [UInt8](repeating: 7, count: salt))
        #expect(block.bytes.count == VeritySuperblock.size)
        #expect(try VeritySuperblock(parsing: block.bytes) == block)
    }

    @Test("is refused at every other length")
    func length() {
        let bytes = Self.sample.bytes
        for count in 0..<bytes.count {
            #expect(throws: ParseError.self) { try VeritySuperblock(parsing: Array(bytes.prefix(count))) }
        }
        #expect(throws: ParseError.self) { try VeritySuperblock(parsing: bytes + [0]) }
    }

    @Test("differs or is refused after any flipped bit; never the same")
    func flips() {
        for index in 0..<VeritySuperblock.size * 8 {
            var bytes = Self.sample.bytes
            bytes[index / 8] ^= 1 << (index % 8)
            if let read = try? VeritySuperblock(parsing: bytes) {
                #expect(read != Self.sample)
                #expect(read.bytes == bytes)
            }
        }
    }

    @Test(
        "names the field that is wrong",
        arguments: [
            (0, UInt8(0), "verity.signature"), (8, 2, "verity.version"), (12, 0, "verity.hash_type"),
            (37, UInt8(ascii: "5"), "verity.algorithm"), (38, 1, "verity.algorithm"),
            (65, 0x20, "verity.data_block_size"),
            (69, 0, "verity.hash_block_size"), (79, 0xFF, "verity.data_blocks"), (81, 2, "verity.salt_size"),
            (82, 1, "verity.pad"), (120, 1, "verity.salt"), (511, 1, "verity.pad"),
        ])
    func fields(offset: Int, value: UInt8, field: String) {
        var bytes = Self.sample.bytes
        bytes[offset] = value
        let error = #expect(throws: ParseError.self) { try VeritySuperblock(parsing: bytes) }
        #expect(error?.field == field)
    }

    @Test("equals what veritysetup writes and reads")
    func veritysetup() throws {
        guard let tool = Tool.find("veritysetup") else { return }
        let folder = try TemporaryFolder()
        let data = try folder.file("data", [UInt8](repeating: 3, count: 8 * 4096))
        let hash = try folder.file("hash", "")
        let salt = String(repeating: "5a", count: 32)
        let uuid = "00112233-4455-6677-8899-aabbccddeeff"
        let made = try Tool.run([tool, "format", data, hash, "--salt", salt, "--uuid", uuid])
        #expect(made.status == 0 && made.text.contains("sha256"))
        let block = try VeritySuperblock(parsing: Array(try readFile(hash).prefix(512)))
        #expect(Hex.encode(block.uuid) == "00112233445566778899aabbccddeeff")
        #expect(block.dataBlocks == 8)
        #expect(Hex.encode(block.salt) == salt)
    }
}

@Suite("Device-mapper request")
struct DeviceMapperTests {
    @Test("has a table line that panics on corruption")
    func table() throws {
        let hash = try #require(RootHash(hex))
        let table = VerityTable(data: "8:2", hash: "8:3", superblock: VeritySuperblockTests.sample, rootHash: hash)
        #expect(table.sectors == 8000)
        let salt = String(repeating: "ab", count: 32)
        #expect(
            table.parameters == "1 8:2 8:3 4096 4096 1000 1 sha256 \(hex) \(salt) 1 panic_on_corruption")
        let plain = VeritySuperblock(uuid: Array(1...16), dataBlocks: 1, salt: [])
        #expect(
            VerityTable(data: "8:2", hash: "8:3", superblock: plain, rootHash: hash).parameters
                == "1 8:2 8:3 4096 4096 1 1 sha256 \(hex) - 1 panic_on_corruption")
    }

    @Test("lays out dm_ioctl and dm_target_spec")
    func layout() throws {
        let hash = try #require(RootHash(hex))
        let table = VerityTable(data: "8:2", hash: "8:3", superblock: VeritySuperblockTests.sample, rootHash: hash)
        let bytes = try DeviceMapperRequest(name: "root", uuid: "U", table: table).bytes
        var reader = ByteReader(bytes)
        for expected: UInt32 in [4, 0, 0, UInt32(bytes.count), 312, 1, 0, 1] {
            #expect(try reader.le(UInt32.self, "header") == expected)
        }
        try reader.zeros(16, "event, device")
        #expect(try reader.take(128, "name") == Array("root".utf8) + [UInt8](repeating: 0, count: 124))
        #expect(try reader.take(129, "uuid") == [0x55] + [UInt8](repeating: 0, count: 128))
        try reader.zeros(7, "data")
        #expect(reader.offset == 312)
        #expect(try reader.le(UInt64.self, "start") == 0)
        #expect(try reader.le(UInt64.self, "length") == 8000)
        try reader.zeros(8, "status, next")
        #expect(try reader.take(16, "type") == Array("verity".utf8) + [UInt8](repeating: 0, count: 10))
        #expect(try reader.take(table.parameters.utf8.count, "parameters") == Array(table.parameters.utf8))
        #expect(reader.remaining >= 1)
        #expect(bytes.count % 8 == 0)
    }

    @Test("refuses names that the kernel's fields cannot hold")
    func names() {
        for (name, uuid) in [
            ("", ""), (String(repeating: "n", count: 128), ""), ("n", String(repeating: "u", count: 129)),
        ] {
            #expect(throws: ParseError.self) { try DeviceMapperRequest(name: name, uuid: uuid) }
        }
    }

    @Test("finds the device number in an answer")
    func answer() throws {
        var bytes = try DeviceMapperRequest(name: "root").bytes
        bytes[40] = 3
        bytes[41] = 254
        #expect(try DeviceMapperRequest.device(answer: bytes) == 0xFE03)
        #expect(throws: ParseError.self) { try DeviceMapperRequest.device(answer: Array(bytes.prefix(47))) }
    }
}
