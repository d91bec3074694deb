import CLinux
import Glibc

/// Waits for many descriptors at once (epoll(7)).
public struct Poll: ~Copyable, Sendable {
    public enum Event: Sendable { case input, output }

    private let descriptor: Int32

    public init() throws(SystemError) {
        descriptor = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard descriptor >= 0 else { throw .last("epoll_create1") }
    }

    deinit { _ = Glibc.close(descriptor) }

    /// - Returns: `false` when the system has no room for it.
    public borrowing func add(_ other: Int32, _ event: Event) -> Bool {
        nacre_epoll_add(descriptor, other, event == .output ? 1 : 0) == 0
    }

    /// Tells of the next event of `other` and then no more.
    ///
    /// - Parameter again: it was waited for before, and never removed.
    /// - Returns: `false` when the system has no room for it.
    public borrowing func once(_ other: Int32, _ event: Event, again: Bool) -> Bool {
        nacre_epoll_once(descriptor, other, event == .output ? 1 : 0, again ? 1 : 0) == 0
    }

    /// Descriptors that are ready or have failed, at most 64; empty after `milliseconds`.
    public borrowing func wait(milliseconds: Int32) -> [Int32] {
        var ready = [Int32](repeating: -1, count: 64)
        let count = unsafe nacre_epoll_wait(descriptor, &ready, 64, milliseconds)
        return count > 0 ? Array(ready.prefix(Int(count))) : []
    }
}

/// Wakes a thread that waits in `Poll` (eventfd(2)).
public struct Waker: ~Copyable, Sendable {
    public let descriptor: Int32

    public init() throws(SystemError) {
        descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard descriptor >= 0 else { throw .last("eventfd") }
    }

    deinit { _ = Glibc.close(descriptor) }

    public borrowing func wake() {
        var one: UInt64 = 1
        _ = unsafe write(descriptor, &one, 8)
    }

    public borrowing func clear() {
        var count: UInt64 = 0
        _ = unsafe read(descriptor, &count, 8)
    }
}
