import CLinux
import Glibc

/// Seconds on the monotonic clock.
func monotonicSeconds() -> Double {
    var time = timespec()
    _ = unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

/// Resident memory of this process in KiB, from /proc/self/statm; 0 where it cannot be read.
func residentKiB() -> Int {
    guard let file = unsafe fopen("/proc/self/statm", "r") else { return 0 }
    defer { _ = unsafe fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    guard unsafe fgets(&line, Int32(line.count), file) != nil else { return 0 }
    let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let fields = text.split(separator: " ")
    guard fields.count > 1, let pages = Int(fields[1]) else { return 0 }
    return pages * Int(sysconf(Int32(_SC_PAGESIZE))) / 1024
}

/// Runs `body` for at least `seconds` and returns how often per second it ran.
func rate(seconds: Double, _ body: () throws -> Void) rethrows -> Double {
    let start = monotonicSeconds()
    var count = 0
    var now = start
    repeat {
        try body()
        count += 1
        now = monotonicSeconds()
    } while now - start < seconds
    return Double(count) / (now - start)
}

/// `value` with `digits` decimals.
func fixed(_ value: Double, _ digits: Int) -> String {
    var scale = 1.0
    for _ in 0..<digits { scale *= 10 }
    let scaled = Int((value * scale).rounded())
    let whole = scaled / Int(scale)
    let rest = String(scaled % Int(scale))
    return digits == 0 ? String(whole) : "\(whole).\(String(repeating: "0", count: digits - rest.count))\(rest)"
}
