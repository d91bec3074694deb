import Bytes
import TestKit
import Testing

@testable import Attestation

/// Every case of the kinds about TPMs and logs, as `vectors/README.md` describes them.
@Suite struct TPMKindsTests {
    @Test(arguments: Vectors.cases("tpmquote", "akcert", "evlog", "ccel", "azure"))
    func judgedAsTheIndexSays(_ vector: Vectors.Case) throws {
        let verdict = Judge.judge(try vector.evidence())
        let family = verdict.finding.map { String($0.family) } ?? "ok"
        #expect(verdict.isAccepted == (vector.verdict == "accept"), "\(verdict.json().compact)")
        #expect(vector.families.contains(family), "\(verdict.json().compact)")
        #expect(vector.reason == verdict.reason || vector.expect["also"] != nil, "\(verdict.reason)")
    }
}

extension Vectors.Case {
    /// The case as the judge takes it.
    func evidence() throws -> EvidenceCase {
        var bytes: [String: [UInt8]] = [:]
        for name in inputs.keys { bytes[name] = try read(name) }
        return EvidenceCase(kind: kind, inputs: bytes, policy: policy, time: time)
    }
}
