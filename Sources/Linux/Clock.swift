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

    /// How long the machine ran before the kernel's clock began, in milliseconds, by the processor's time stamp counter:
    /// it starts at zero with the (virtual) machine. `nil` where the answer is not plausible, as after a migration.
    ///
    /// Takes about 60 ms: the counter's rate is measured against the kernel's clock.
    public static func millisecondsBeforeKernel() -> Int? {
        let (start, startTime) = (nacre_timestamp_counter(), nanoseconds)
        sleep(milliseconds: 60)
        let (end, endTime) = (nacre_timestamp_counter(), nanoseconds)
        guard end > start, endTime > startTime else { return nil }
        let ticksPerMillisecond = Double(end - start) * 1e6 / Double(endTime - startTime)
        let before = Double(end) / ticksPerMillisecond - Double(endTime) / 1e6
        return before > 0 && before < 3_600_000 ? Int(before) : nil
    }
}
