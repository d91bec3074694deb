import Bytes
import Crypto
import DiskFormat
import Glibc
import Linux
import StateDisk

/// Why a case failed.
struct Failure: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

func expect(_ condition: Bool, _ what: @autoclosure () throws -> String) throws {
    guard condition else { throw Failure(try what()) }
}

/// The reason that `body` is refused with.
func expectRefusal(_ reason: String, _ body: () throws -> Void) throws {
    do {
        try body()
    } catch let error as DiskError {
        guard error.finding.reason == reason else { throw Failure("expected \(reason), got \(error.finding)") }
        return
    }
    throw Failure("expected \(reason), and nothing was refused")
}

func expectUnopened(_ reason: String, _ body: () throws -> OpenDisk) throws {
    var opened: OpenDisk?
    try expectRefusal(reason) { () throws -> Void in opened = try body() }
    _ = consume opened
}

/// Nodes of the tests.
let testNode = namedNode("control-plane-0")
func namedNode(_ name: String) -> NodeName {
    guard let node = NodeName(name) else { preconditionFailure("\(name) is no node's name") }
    return node
}

/// Keys of the tests: bytes of a number.
func testKey(_ number: UInt8) -> Secret {
    Secret(count: 32) { span in for index in span.indices { span[index] = number } }
}

/// A raw disk as the host sees and changes it.
struct Disk {
    let device: BlockDevice
    var name: String { device.ids.first ?? device.name }

    init(_ serial: String) throws { device = try StateDisk.find(.id(serial)) }
    init(_ device: BlockDevice) { self.device = device }

    func read(_ offset: Int, _ count: Int) throws -> [UInt8] {
        let source = try ByteSource(file: device.path)
        return try source.read(at: offset, count: count, "disk")
    }

    func write(_ bytes: [UInt8], at offset: Int) throws {
        let file = try File(device.path, O_RDWR)
        let put = unsafe bytes.withUnsafeBytes { unsafe pwrite(file.descriptor, $0.baseAddress, $0.count, offset) }
        guard put == bytes.count, fsync(file.descriptor) == 0 else { throw SystemError.last("write \(device.path)") }
    }

    /// What is before the data.
    func header() throws -> [UInt8] { try read(0, DiskLayout.headerSize) }

    /// Runs `body` and puts back header and superblock as they were.
    func restoring(_ body: () throws -> Void) throws {
        let before = try read(0, DiskLayout.dataOffset + 4096)
        let result = Result(catching: body)
        try write(before, at: 0)
        try result.get()
    }

    var state: DiskState { get throws { try StateDisk.inspect(device) } }

    func ours() throws -> (header: DiskHeader, binding: DiskBinding) {
        guard case .ours(let header, let binding) = try state else { throw Failure("\(name): not ours: \(try state)") }
        return (header, binding)
    }

    func open(key number: UInt8, expecting binding: DiskBinding? = nil) throws -> OpenDisk {
        let (header, found) = try ours()
        let key = testKey(number)
        return try StateDisk.open(device, header: header, key: key, expecting: binding ?? found)
    }

    /// Opens, mounts, runs `body` on the folder, and puts everything away again; the generation on the disk then.
    @discardableResult
    func mounted(key number: UInt8, expecting binding: DiskBinding? = nil, _ body: (String) throws -> Void) throws
        -> Int
    {
        let disk = try open(key: number, expecting: binding)
        let generation = disk.binding.generation
        var result: Result<Void, any Error> = .success(())
        do {
            try disk.mount(at: "/mnt")
            result = Result { try body("/mnt") }
            try disk.unmount("/mnt")
        } catch { result = .failure(error) }
        try disk.close()
        try result.get()
        return generation
    }
}

/// Names and bytes of files.
enum Content {
    /// Bytes that follow from a seed and that no compressor or zero-detector changes.
    static func bytes(_ seed: UInt64, _ count: Int) -> [UInt8] {
        var state = seed &+ 0x9E37_79B9_7F4A_7C15
        var bytes = [UInt8]()
        bytes.reserveCapacity(count + 8)
        while bytes.count < count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let value = state ^ (state >> 29)
            for shift in stride(from: 0, to: 64, by: 8) { bytes.append(UInt8(truncatingIfNeeded: value >> shift)) }
        }
        return Array(bytes.prefix(count))
    }

    static func write(_ path: String, _ bytes: [UInt8]) throws {
        let file = try File(path, O_CREAT | O_WRONLY | O_TRUNC, mode: 0o600)
        try file.write(bytes)
        guard fsync(file.descriptor) == 0 else { throw SystemError.last("fsync \(path)") }
        let folder = try File("/mnt", O_DIRECTORY)
        guard fsync(folder.descriptor) == 0 else { throw SystemError.last("fsync /mnt") }
    }

    static func check(_ path: String, _ bytes: [UInt8]) throws {
        let found = try File.contents(path, limit: 1 << 28)
        try expect(found == bytes, "\(path) holds other bytes")
    }
}
