import CSystemd
import Glibc

/// The service manager's side channel (sd_notify(3)).
enum ServiceManager {
    /// Lines of `NAME=value`; does nothing where no service manager listens.
    static func notify(_ state: String) { _ = unsafe sd_notify(0, state) }

    /// Within how long a sign of life is expected; `nil` without a watchdog.
    static let watchdogMilliseconds: Int? = {
        var microseconds: UInt64 = 0
        guard unsafe sd_watchdog_enabled(0, &microseconds) > 0 else { return nil }
        return Int(clamping: microseconds / 1000)
    }()
}

/// Structured lines in the journal (sd_journal_sendv(3)); `journalctl -t bootstrapper -o json` shows every field.
enum Journal {
    enum Priority: Int {
        case critical = 2, error, warning, notice, info
    }

    /// - Parameter fields: names in upper case, values without secrets.
    static func write(_ priority: Priority, _ message: String, _ fields: [String: String] = [:]) {
        var lines = ["MESSAGE=\(message)", "PRIORITY=\(priority.rawValue)", "SYSLOG_IDENTIFIER=bootstrapper"]
        lines += fields.sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
        // One allocation that outlives the call, and entries that point into it.
        let bytes = lines.map { Array($0.utf8) }
        let all = bytes.flatMap { $0 }
        unsafe all.withUnsafeBytes { buffer in
            var entries: [iovec] = unsafe []
            var offset = 0
            for line in bytes {
                let start = unsafe buffer.baseAddress.map { unsafe UnsafeMutableRawPointer(mutating: $0 + offset) }
                unsafe entries.append(iovec(iov_base: start, iov_len: line.count))
                offset += line.count
            }
            _ = unsafe sd_journal_sendv(entries, Int32(entries.count))
        }
    }
}
