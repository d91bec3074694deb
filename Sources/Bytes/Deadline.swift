import Glibc

/// A point on the monotonic clock by which an operation must be done; setting the system's time does not move it.
public struct Deadline: Sendable, Comparable {
    private let nanoseconds: UInt64

    private init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    private static var now: UInt64 {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(clamping: time.tv_nsec)
    }

    /// `count` milliseconds from now.
    public static func milliseconds(_ count: Int) -> Deadline {
        let (span, overflow) = UInt64(clamping: count).multipliedReportingOverflow(by: 1_000_000)
        let (sum, beyond) = now.addingReportingOverflow(span)
        return Deadline(nanoseconds: overflow || beyond ? .max : sum)
    }

    /// `count` seconds from now.
    public static func seconds(_ count: Int) -> Deadline {
        let (span, overflow) = count.multipliedReportingOverflow(by: 1000)
        return milliseconds(overflow ? .max : span)
    }

    /// Whole milliseconds left, rounded up; 0 once it has passed. Fits the timeout of `poll`.
    public var millisecondsLeft: Int32 {
        let now = Self.now
        guard nanoseconds > now else { return 0 }
        return Int32(clamping: (nanoseconds - now - 1) / 1_000_000 + 1)
    }

    public var hasPassed: Bool { millisecondsLeft == 0 }

    public static func < (left: Deadline, right: Deadline) -> Bool { left.nanoseconds < right.nanoseconds }
}
