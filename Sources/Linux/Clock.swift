import CLinux
import Glibc

/// Time since the kernel started, including suspend.
public enum BootClock {
    public static var milliseconds: Int { Int(nanoseconds / 1_000_000) }
    public static var microseconds: UInt64 { nanoseconds / 1000 }

    private static var nanoseconds: UInt64 {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_BOOTTIME, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    /// Sleeps for about `milliseconds`.
    public static func sleep(milliseconds: UInt32) { _ = usleep(milliseconds * 1000) }
}
