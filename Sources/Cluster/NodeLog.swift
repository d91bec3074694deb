import Bytes
import Synchronization

/// The last lines of what a node did, in memory, for its owner to read over the channel. Holds no secret.
public final class NodeLog: Sendable {
    private static let maximumLines = 2000
    /// Bytes; lines quote what strangers sent.
    private static let maximumLine = 1000

    private struct State {
        var lines: [String] = []
        /// Number of the first line held.
        var first = 0
    }
    private let state = Mutex(State())

    public init() {}

    public func append(_ line: String) {
        state.withLock { state in
            state.lines.append(PlainText.line(line, limit: Self.maximumLine))
            if state.lines.count > Self.maximumLines {
                state.lines.removeFirst()
                state.first += 1
            }
        }
    }

    /// Up to `count` lines from number `first` on, and the number of the one after them.
    func lines(from first: Int, count: Int) -> (lines: [String], next: Int) {
        state.withLock { state in
            let start = min(max(first, state.first), state.first + state.lines.count)
            let found = Array(state.lines.dropFirst(start - state.first).prefix(count))
            return (found, start + found.count)
        }
    }
}
