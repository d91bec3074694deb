import Testing

@testable import Cluster

/// The last lines, by number.
@Suite struct NodeLogTests {
    private func expect(_ log: NodeLog, from first: Int, count: Int, _ lines: [Int], next: Int) {
        let piece = log.lines(from: first, count: count)
        #expect(piece.lines == lines.map { "line \($0)" })
        #expect(piece.next == next)
    }

    @Test func `old lines make room and numbers go on`() {
        let log = NodeLog()
        expect(log, from: 0, count: 5, [], next: 0)
        for number in 0..<4500 {
            log.append("line \(number)")
            if number == 1999 { expect(log, from: 0, count: 2, [0, 1], next: 2) }
        }
        expect(log, from: 0, count: 2, [2500, 2501], next: 2502)
        expect(log, from: 3999, count: 3, [3999, 4000, 4001], next: 4002)
        expect(log, from: 4499, count: 200, [4499], next: 4500)
        expect(log, from: 9000, count: 200, [], next: 4500)
        #expect(log.lines(from: 0, count: 5000).lines.count == 2000)
    }
}
