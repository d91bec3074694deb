import Attestation
import Bytes
import Testing

@testable import Provisioning

@Suite("From start to verdict")
struct BootWatchTests {
    private func accepted() -> BootWatch.Event {
        .answer(
            .judged(NodeVerdict(verdict: .accept(), protection: .noneLocalTPM, imageDigest: nil, stages: [])))
    }

    private func failure(_ watch: BootWatch) -> Finding? {
        if case .failed(let finding) = watch.outcome { finding } else { nil }
    }

    @Test("a node that boots and answers is judged, its stages in order of appearance")
    func verified() {
        var watch = BootWatch(node: "n")
        watch.apply(.console(.firmware), at: .seconds(8))
        watch.apply(.console(.kernel), at: .seconds(12))
        watch.apply(.answer(.silent("connection reset")), at: .seconds(15))
        watch.apply(.console(.stages([BootStage(name: "attestable", milliseconds: 9000)])), at: .seconds(20))
        #expect(watch.outcome == nil)
        watch.apply(accepted(), at: .seconds(21))
        #expect(watch.stages.map(\.name) == ["firmware", "kernel", "attestable", "verified"])
        guard case .judged(let verdict) = watch.outcome else { Issue.record("no verdict"); return }
        #expect(verdict.verdict.isAccepted)
    }

    @Test("nothing changes an outcome")
    func final() {
        var watch = BootWatch(node: "n", limits: .init(time: .seconds(10), resets: 0))
        watch.apply(accepted(), at: .seconds(1))
        watch.apply(.guestReset, at: .seconds(2))
        watch.apply(.ended("gone"), at: .seconds(3))
        watch.apply(.tick, at: .seconds(100))
        guard case .judged = watch.outcome else { Issue.record("changed"); return }
    }

    @Test("a node that resets again and again is given up, with its own words")
    func rebootLoop() {
        var watch = BootWatch(node: "n", limits: .init(time: .seconds(600), resets: 2))
        watch.apply(.console(.failure("Kernel panic - not syncing: verity")), at: .seconds(5))
        for time in 6...7 { watch.apply(.guestReset, at: .seconds(time)) }
        #expect(watch.outcome == nil)
        watch.apply(.guestReset, at: .seconds(8))
        #expect(failure(watch)?.reason == "local-reboots" && watch.isRebooting)
        #expect(failure(watch)?.actual.contains("Kernel panic - not syncing: verity") == true)
    }

    @Test("a silent node is given up at the limit, with where it got to")
    func timeout() {
        var watch = BootWatch(node: "n", limits: .init(time: .seconds(60)))
        watch.apply(.console(.kernel), at: .seconds(10))
        watch.apply(.answer(.silent("connection refused")), at: .seconds(59))
        #expect(watch.outcome == nil)
        watch.apply(.tick, at: .seconds(60))
        #expect(failure(watch)?.reason == "local-timeout")
        #expect(failure(watch)?.actual == "it got as far as kernel; its endpoint: connection refused")
    }

    @Test("firmware without anything to boot, and a machine that ends, are failures at once")
    func ends() {
        var empty = BootWatch(node: "n")
        empty.apply(.console(.nothingToBoot), at: .seconds(9))
        #expect(failure(empty)?.reason == "local-boot")
        var ended = BootWatch(node: "n")
        ended.apply(.ended("QEMU has ended"), at: .seconds(1))
        #expect(failure(ended)?.reason == "local-ended")
    }

    @Test("a resumed machine is asked at once and has the whole time from now")
    func resumed() {
        var watch = BootWatch(node: "n", limits: .init(time: .seconds(60)), resumedAfter: .seconds(3600))
        #expect(watch.shouldAsk(at: .seconds(3600)))
        watch.apply(.tick, at: .seconds(3659))
        #expect(watch.outcome == nil)
        watch.apply(.tick, at: .seconds(3660))
        #expect(failure(watch)?.reason == "local-timeout")
    }

    @Test("asked seldom while it boots, often once it says that it is ready")
    func questions() {
        var watch = BootWatch(node: "n")
        #expect(!watch.shouldAsk(at: .seconds(29)))
        #expect(watch.shouldAsk(at: .seconds(30)))
        #expect(watch.questionPatience == .seconds(5))
        watch.apply(.answer(.silent("")), at: .seconds(35))
        #expect(!watch.shouldAsk(at: .seconds(44)))
        #expect(watch.shouldAsk(at: .seconds(45)))
        watch.apply(.console(.stages([BootStage(name: "a", milliseconds: 1)])), at: .seconds(36))
        #expect(watch.shouldAsk(at: .seconds(36)))
        #expect(watch.questionPatience == .seconds(30))
    }
}
