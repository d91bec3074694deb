import Glibc

/// A point in time, whole seconds since 1970-01-01T00:00:00Z; read and written as RFC 3339 in UTC.
///
/// Judgement never reads a clock by itself: whoever asks passes the time in.
public struct Instant: Comparable, Hashable, Sendable, CustomStringConvertible {
    public let seconds: Int64

    public init(seconds: Int64) { self.seconds = seconds }

    /// The system's clock.
    public static var now: Instant {
        var time = timespec()
        _ = unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Instant(seconds: Int64(time.tv_sec))
    }

    /// `2026-01-01T00:00:00Z`, with optional fraction (dropped) and numeric offset. `nil` for anything else.
    public init?(_ text: some StringProtocol) {
        let parts = Array(text.utf8)
        func digits(_ start: Int, _ count: Int) -> Int64? {
            guard start + count <= parts.count else { return nil }
            var value: Int64 = 0
            for byte in parts[start..<start + count] {
                guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) else { return nil }
                value = value * 10 + Int64(byte - UInt8(ascii: "0"))
            }
            return value
        }
        func has(_ index: Int, _ characters: String) -> Bool {
            index < parts.count && characters.utf8.contains(parts[index])
        }
        guard let year = digits(0, 4), has(4, "-"), let month = digits(5, 2), has(7, "-"), let day = digits(8, 2),
            has(10, "Tt "), let hour = digits(11, 2), has(13, ":"), let minute = digits(14, 2), has(16, ":"),
            let second = digits(17, 2), (1...12).contains(month), day >= 1, hour < 24, minute < 60, second <= 60,
            day <= Self.daysIn(month: month, year: year)
        else { return nil }
        var index = 19
        if has(index, ".") {
            index += 1
            let start = index
            while has(index, "0123456789") { index += 1 }
            guard index > start else { return nil }
        }
        var offset: Int64 = 0
        if has(index, "Zz") {
            index += 1
        } else if has(index, "+-"), let hours = digits(index + 1, 2), has(index + 3, ":"),
            let minutes = digits(index + 4, 2), hours < 24, minutes < 60
        {
            offset = (hours * 60 + minutes) * 60 * (has(index, "-") ? -1 : 1)
            index += 6
        } else {
            return nil
        }
        guard index == parts.count else { return nil }
        self.init(
            seconds: Self.days(year: year, month: month, day: day) * 86400 + hour * 3600 + minute * 60 + second
                - offset)
    }

    /// Days from 1970-01-01 in the proleptic Gregorian calendar.
    public static func days(year: Int64, month: Int64, day: Int64) -> Int64 {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
        return era * 146097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719468
    }

    private static func daysIn(month: Int64, year: Int64) -> Int64 {
        days(year: month == 12 ? year + 1 : year, month: month == 12 ? 1 : month + 1, day: 1)
            - days(year: year, month: month, day: 1)
    }

    public static func < (left: Instant, right: Instant) -> Bool { left.seconds < right.seconds }

    public var description: String {
        var days = seconds >= 0 ? seconds / 86400 : (seconds - 86399) / 86400
        let rest = seconds - days * 86400
        days += 719468
        let era = (days >= 0 ? days : days - 146096) / 146097
        let dayOfEra = days - era * 146097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shifted = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * shifted + 2) / 5 + 1
        let month = shifted < 10 ? shifted + 3 : shifted - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        func pad(_ value: Int64, _ width: Int) -> String {
            let text = String(value)
            return String(repeating: "0", count: max(0, width - text.count)) + text
        }
        return "\(pad(year, 4))-\(pad(month, 2))-\(pad(day, 2))T\(pad(rest / 3600, 2)):\(pad(rest / 60 % 60, 2)):"
            + "\(pad(rest % 60, 2))Z"
    }
}
