import Bytes
import Testing

@testable import Cluster

@Suite struct RefusalLogTests {
    @Test func `alike refusals are one entry, with the last one's words`() {
        let log = RefusalLog()
        log.add(.enrol, "policy-role", "first", at: Instant(seconds: 10))
        log.add(.enrol, "policy-role", "second", at: Instant(seconds: 20))
        log.add(.enrol, "revoked-node", "other", at: Instant(seconds: 30))
        // An owner is told at once, and not the cluster.
        log.add(.initialise, "policy-role", "owner", at: Instant(seconds: 40))
        log.add(nil, "parse", "nobody", at: Instant(seconds: 40))
        let taken = log.take()
        #expect(taken.map(\.reason) == ["policy-role", "revoked-node"] && taken.map(\.count) == [2, 1])
        #expect(taken.first?.text == "second" && taken.first?.first == Instant(seconds: 10))
        #expect(taken.first?.last == Instant(seconds: 20))
        #expect(log.take().isEmpty)
        // What could not be told comes back, and joins what came meanwhile.
        log.add(.enrol, "policy-role", "third", at: Instant(seconds: 50))
        for entry in taken { log.add(entry) }
        let again = log.take()
        #expect(again.map(\.count) == [3, 1] && again.first?.text == "third")
    }

    @Test func `strangers do not fill it, and write nothing but a line of text`() {
        let log = RefusalLog()
        for number in 0..<1000 { log.add(.join, "parse-\(number)", "a\nb\u{1B}[31m", at: Instant(seconds: 1)) }
        let taken = log.take()
        #expect(taken.count == RefusalLog.maximumKinds)
        #expect(taken.allSatisfy { $0.text.utf8.allSatisfy { $0 >= 0x20 } })
    }
}
