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

    /// Waits for one descriptor that is ready or has failed. Several threads may wait at once: the one that came last is
    /// woken first, and each gets another descriptor of those that are told of `once`.
    ///
    /// - Returns: `nil` when a signal came in between.
    public borrowing func next() -> Int32? {
        var ready: Int32 = -1
        return unsafe nacre_epoll_wait(descriptor, &ready, 1, -1) == 1 ? ready : nil
    }
}

/// Wakes a thread that waits in `Poll`, once after a time (timerfd_create(2)).
public struct Alarm: ~Copyable, Sendable {
    public let descriptor: Int32

    public init() throws(SystemError) {
        descriptor = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
        guard descriptor >= 0 else { throw .last("timerfd_create") }
    }

    deinit { _ = Glibc.close(descriptor) }

    /// In `milliseconds`, at least 1; what was set before no longer counts.
    public borrowing func set(milliseconds: Int) {
        var time = itimerspec()
        time.it_value.tv_sec = milliseconds / 1000
        time.it_value.tv_nsec = milliseconds % 1000 * 1_000_000
        _ = unsafe timerfd_settime(descriptor, 0, &time, nil)
    }

    public borrowing func clear() {
        var count: UInt64 = 0
        _ = unsafe read(descriptor, &count, 8)
    }
}

/// Wakes threads that wait in `Poll` (eventfd(2)).
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
