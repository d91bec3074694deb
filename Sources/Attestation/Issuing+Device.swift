import CLinux
import Glibc
import Linux

/// The one operation that guest devices are made of: an ioctl whose argument may point to further memory.
///
/// The kernel's are `DeviceFile`; tests answer them from memory.
public protocol GuestDevice: Sendable {
    /// Runs ioctl `number` on `blocks[0]` after writing the address of each link's target into it; what the kernel writes
    /// into the blocks is found there afterwards, whether it succeeded or not.
    func control(_ number: UInt, _ blocks: inout [[UInt8]], _ links: [BlockLink]) throws(SystemError)
}

/// A pointer inside an ioctl's argument: eight bytes at `offset` of block `source` hold the address of block `target`.
public struct BlockLink: Equatable, Sendable {
    public let source: Int
    public let offset: Int
    public let target: Int

    public init(_ source: Int, _ offset: Int, to target: Int) {
        self.source = source
        self.offset = offset
        self.target = target
    }
}

/// A device node, opened for each request: the drivers keep no state between them.
public struct DeviceFile: GuestDevice {
    public let path: String

    public init(_ path: String) { self.path = path }

    /// Every block begins on a page of its own, as drivers that hand pages to the hypervisor prefer.
    private static let page = 4096

    public func control(_ number: UInt, _ blocks: inout [[UInt8]], _ links: [BlockLink]) throws(SystemError) {
        let file = try File(path, O_RDWR)
        var starts: [Int] = []
        var size = 0
        for block in blocks {
            starts.append(size)
            size += (max(1, block.count) + Self.page - 1) / Self.page * Self.page
        }
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: Self.page)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
        guard let base = memory.baseAddress else { throw SystemError("allocate \(size) bytes", code: ENOMEM) }
        for (block, start) in zip(blocks, starts) {
            unsafe UnsafeMutableRawBufferPointer(rebasing: memory[start..<(start + block.count)])
                .copyBytes(from: block)
        }
        for link in links {
            guard blocks.indices.contains(link.source), starts.indices.contains(link.target), link.offset >= 0,
                link.offset <= blocks[link.source].count - 8
            else { throw SystemError("link to block \(link.target)", code: EINVAL) }
            let address = UInt64(UInt(bitPattern: unsafe base + starts[link.target]))
            unsafe memory.storeBytes(of: address, toByteOffset: starts[link.source] + link.offset, as: UInt64.self)
        }
        let result = unsafe nacre_ioctl(file.descriptor, number, base)
        let failure = SystemError.last("ioctl 0x\(String(number, radix: 16)) on \(path)")
        for (index, start) in starts.enumerated() {
            unsafe blocks[index] = Array(memory[start..<(start + blocks[index].count)])
        }
        guard result == 0 else { throw failure }
    }
}
