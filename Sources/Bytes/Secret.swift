import Glibc
import Synchronization

/// Key bytes: never copied, in pages for nothing else that are locked in memory and left out of core dumps where the system
/// allows it, wiped when they go out of scope.
@safe public struct Secret: ~Copyable, @unchecked Sendable {
    // Sendable by hand: the storage is never mutated after initialisation and has exactly one owner.
    private let storage: UnsafeMutableBufferPointer<UInt8>

    /// Fills `count` bytes through `fill`, which may throw; nothing of the buffer survives a failure.
    public init<E: Error>(count: Int, fill: (inout MutableSpan<UInt8>) throws(E) -> Void) throws(E) {
        let buffer = unsafe Self.pages(for: count)
        do throws(E) {
            var span = unsafe MutableSpan(_unsafeElements: buffer)
            try fill(&span)
        } catch {
            unsafe Self.wipe(buffer)
            throw error
        }
        unsafe storage = buffer
    }

    /// Moves `bytes` here and wipes them where they were. Copies that others hold of them are not reached.
    public init(wiping bytes: inout [UInt8]) {
        self.init(count: bytes.count) { span in
            for index in bytes.indices { span[index] = bytes[index] }
        }
        unsafe bytes.withUnsafeMutableBytes { buffer in
            if let base = buffer.baseAddress { unsafe explicit_bzero(base, buffer.count) }
        }
        bytes = []
    }

    /// `count` of the bytes of `other`, from `offset` on.
    public init(_ other: borrowing Secret, from offset: Int, count: Int) {
        self.init(count: count) { span in
            other.withBytes { bytes in for index in 0..<count { span[index] = bytes[offset + index] } }
        }
    }

    public var count: Int { unsafe storage.count }

    /// Lends the bytes for the duration of `body`; do not let them escape.
    public func withBytes<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
        let span = unsafe Span(_unsafeElements: UnsafeBufferPointer(storage))
        return try body(span)
    }

    /// Whether both hold the same bytes, in time that depends on the lengths only.
    public func equals(_ other: borrowing Secret) -> Bool {
        guard count == other.count else { return false }
        var difference: UInt8 = 0
        withBytes { left in
            other.withBytes { right in for index in 0..<left.count { difference |= left[index] ^ right[index] } }
        }
        return difference == 0
    }

    /// From the pool, or pages of its own where it is too large for a slot.
    private static func pages(for count: Int) -> UnsafeMutableBufferPointer<UInt8> {
        let base = count <= SecretPool.slotSize ? unsafe SecretPool.shared.take() : unsafe LockedPages.map(count)
        return unsafe UnsafeMutableBufferPointer(start: base, count: count)
    }

    private static func wipe(_ storage: UnsafeMutableBufferPointer<UInt8>) {
        guard let base = storage.baseAddress else { return }
        unsafe explicit_bzero(base, storage.count)
        if storage.count <= SecretPool.slotSize {
            unsafe SecretPool.shared.giveBack(base)
        } else {
            unsafe LockedPages.unmap(base, storage.count)
        }
    }

    deinit { unsafe Self.wipe(storage) }
}

/// Whole pages: locking and leaving out of dumps work by the page, and unlocking one secret must not unlock another.
enum LockedPages {
    static func map(_ count: Int) -> UnsafeMutablePointer<UInt8> {
        let size = Self.size(count)
        guard let base = unsafe mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0),
            unsafe base != MAP_FAILED
        else { preconditionFailure("no memory") }
        _ = unsafe madvise(base, size, MADV_DONTDUMP)
        _ = unsafe mlock(base, size)
        return unsafe base.bindMemory(to: UInt8.self, capacity: size)
    }

    static func unmap(_ base: UnsafeMutablePointer<UInt8>, _ count: Int) {
        _ = unsafe munmap(base, size(count))
    }

    private static func size(_ count: Int) -> Int {
        let page = sysconf(Int32(_SC_PAGESIZE))
        return max(1, (count + page - 1) / page) * page
    }
}

/// Slots for keys in pages that are locked once and never given back: a call of mmap and one of munmap for each key would
/// interrupt every processor of the machine. A slot holds zeros while nobody has it.
@safe final class SecretPool: Sendable {
    static let shared = SecretPool()
    static let slotSize = 128
    private static let blockSize = 4096

    // Sendable by hand: an address, whose memory belongs to whoever took it.
    @safe private struct Slot: @unchecked Sendable {
        let base: UnsafeMutablePointer<UInt8>
    }
    private let free = Mutex<[Slot]>([])

    func take() -> UnsafeMutablePointer<UInt8> {
        let slot = free.withLock { free -> Slot in
            if let slot = free.popLast() { return slot }
            let block = unsafe LockedPages.map(Self.blockSize)
            for offset in stride(from: Self.slotSize, to: Self.blockSize, by: Self.slotSize) {
                unsafe free.append(Slot(base: block + offset))
            }
            return unsafe Slot(base: block)
        }
        return unsafe slot.base
    }

    /// The memory must hold zeros by now.
    func giveBack(_ base: UnsafeMutablePointer<UInt8>) {
        let slot = unsafe Slot(base: base)
        free.withLock { $0.append(slot) }
    }
}
