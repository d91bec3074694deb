import Bytes
import Synchronization

/// The last lines of what a node did, in memory, for its owner to read over the channel. Holds no secret.
public final class NodeLog: Sendable {
    private static let maximumLines = 2000
    /// Bytes; lines quote what strangers sent.
    private static let maximumLine = 1000

    private struct State {
        /// A ring once it is full: line number n stands at n modulo `maximumLines`.
        var lines: [String] = []
        /// Number of the first line held.
        var first = 0
    }
    private let state = Mutex(State())

    public init() {}

    public func append(_ line: String) {
        state.withLock { state in
            let line = PlainText.line(line, limit: Self.maximumLine)
            if state.lines.count < Self.maximumLines {
                state.lines.append(line)
            } else {
                state.lines[state.first % Self.maximumLines] = line
                state.first += 1
            }
        }
    }

    /// Up to `count` lines from number `first` on, and the number of the one after them.
    func lines(from first: Int, count: Int) -> (lines: [String], next: Int) {
        state.withLock { state in
            let start = min(max(first, state.first), state.first + state.lines.count)
            let end = start + min(count, state.first + state.lines.count - start)
            return ((start..<end).map { state.lines[$0 % Self.maximumLines] }, end)
        }
    }
}
