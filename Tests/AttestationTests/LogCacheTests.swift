import Attestation
import Bytes
import Crypto
import Manifest
import SyntheticNode
import TPM
import Testing

/// Logs are replayed once for their exact bytes; what they prove of a quote is decided each time.
@Suite struct LogCacheTests {
    private let manifest: Manifest
    private let node: SyntheticNode

    init() throws {
        manifest = try SyntheticNode.manifest()
        node = try SyntheticNode()
    }

    private func judge(_ evidence: Evidence) -> Verdict {
        Appraisal.judge(
            evidence, nonce: evidence.nonce, reference: .pinned(manifest), policy: .development,
            at: Instant(seconds: 1_800_000_000)
        ).verdict
    }

    @Test func `known logs give the same verdict`() throws {
        let evidence = try node.evidence()
        let (first, second) = (judge(evidence), judge(evidence))
        #expect(first.isAccepted)
        #expect(first == second)
    }

    @Test func `known logs do not explain other registers`() throws {
        var other = node
        other.events.append(.init(4, 0x8000_0003, "something else", "one more program"))
        #expect(judge(try node.evidence()).isAccepted)
        // The quote covers what was really measured, the logs shown are those of the untouched boot.
        var forged = try other.evidence()
        forged.tpm?.eventLog = node.eventLog
        #expect(judge(forged).finding?.reason == "eventlog-mismatch")
        // And with its own logs the boot is another one, each time.
        for _ in 0..<2 { #expect(judge(try other.evidence()).finding?.reason == "register-mismatch") }
    }

    /// Text that no digest binds may change; everything else may not, whatever is known by then.
    @Test func `a log that differs from a known one is judged by itself`() throws {
        let evidence = try node.evidence()
        #expect(judge(evidence).isAccepted)
        let tpm = try #require(evidence.tpm)
        let registers = try PCRBank(values: tpm.registers)
        let userspace = try UserspaceLog(parsing: tpm.userspaceLog)
        var accepted = 0
        for offset in stride(from: 0, to: tpm.eventLog.count, by: 7) {
            var changed = evidence
            var log = tpm.eventLog
            log[offset] ^= 1
            changed.tpm?.eventLog = log
            let isWhole: Bool
            do {
                let parsed = try EventLog(parsing: log)
                try parsed.verify(replaysTo: registers, userspace: userspace)
                try parsed.verifyEventData()
                try parsed.verifySeparators()
                isWhole = true
            } catch { isWhole = false }
            for _ in 0..<2 { #expect(judge(changed).isAccepted == isWhole, "bit 0 of byte \(offset)") }
            accepted += isWhole ? 1 : 0
        }
        #expect((1..<tpm.eventLog.count / 7).contains(accepted))
    }

    @Test func `bytes moved from one log to the other are other logs`() throws {
        let evidence = try node.evidence()
        #expect(judge(evidence).isAccepted)
        var moved = evidence
        moved.tpm?.eventLog = node.eventLog + node.userspaceLog
        moved.tpm?.userspaceLog = []
        #expect(!judge(moved).isAccepted)
    }

    @Test func `a separator that was forged stays refused after its registers were replayed`() throws {
        var other = node
        other.events.insert(.init(4, 0x04, "\0\0\0\0", "separator"), at: 9)
        for _ in 0..<2 { #expect(judge(try other.evidence()).finding?.reason == "eventlog-separator") }
    }
}
