import Bytes
import Synchronization

/// Nodes that this one turned away, for whoever tells the cluster: alike ones counted together, and never more than a few
/// kinds, however many strangers knock.
public final class RefusalLog: Sendable {
    /// What was refused, why, and how often.
    public struct Entry: Sendable, Equatable {
        /// `join`, `rejoin`, `enroll` or `mesh`.
        public let purpose: String
        /// As in docs/reasons.md.
        public let reason: String
        /// Of the last one of them; quotes what strangers sent, as plain text of one line.
        public internal(set) var text: String
        public internal(set) var count: Int
        public let first: Instant
        public internal(set) var last: Instant
    }

    static let maximumKinds = 16
    private static let maximumText = 400
    /// Only nodes are told of: an owner who mistypes is no news.
    private static let purposes: Set<Purpose> = [.join, .rejoin, .enrol, .mesh]

    private let entries = Mutex<[Entry]>([])

    func add(_ purpose: Purpose?, _ reason: String, _ text: String, at time: Instant) {
        guard let purpose, Self.purposes.contains(purpose) else { return }
        let text = PlainText.line(text, limit: Self.maximumText)
        add(Entry(purpose: purpose.rawValue, reason: reason, text: text, count: 1, first: time, last: time))
    }

    /// Once more, for later: it could not be told yet.
    public func add(_ entry: Entry) {
        entries.withLock { entries in
            let known = entries.firstIndex { $0.purpose == entry.purpose && $0.reason == entry.reason }
            if let known {
                entries[known].count += entry.count
                if entry.last >= entries[known].last { entries[known].text = entry.text }
                entries[known].last = max(entries[known].last, entry.last)
            } else if entries.count < Self.maximumKinds {
                entries.append(entry)
            }
        }
    }

    /// Everything since the last time.
    public func take() -> [Entry] {
        entries.withLock { entries in
            defer { entries = [] }
            return entries
        }
    }
}
