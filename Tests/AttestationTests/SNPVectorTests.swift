import Bytes
import Crypto
import TestKit
import Testing

@testable import Attestation

/// The recorded cases of the kinds `snp` and `certtable`: right verdict, right family of reasons.
@Suite struct SNPVectorTests {
    private func judge(_ vector: Vectors.Case) throws -> Verdict {
        var inputs: [String: [UInt8]] = [:]
        for name in vector.inputs.keys { inputs[name] = try vector.read(name) }
        return Judge.judge(
            EvidenceCase(kind: vector.kind, inputs: inputs, policy: vector.policy, time: vector.time))
    }

    @Test(arguments: Vectors.cases("snp", "certtable"))
    func verdict(_ vector: Vectors.Case) throws {
        let verdict = try judge(vector)
        #expect(verdict.isAccepted == (vector.verdict == "accept"), "\(verdict.reason): \(vector.json)")
        let family = String(verdict.reason.prefix { $0 != "-" })
        #expect(vector.families.contains(family), "\(verdict.reason), expected \(vector.families)")
        if vector.expect["authentic"]?.bool == true { #expect(verdict.claims["authentic"] == true) }
        if let entries = vector.expect["entries"] { #expect(verdict.claims["entries"] == entries) }
        if let finding = verdict.finding { #expect(!finding.claim.isEmpty && !finding.actual.isEmpty) }
    }

    /// What stands in no policy key is named as unchecked.
    @Test(arguments: Vectors.cases("snp").filter { $0.verdict == "accept" })
    func uncheckedNamesWhatThePolicyLeavesOut(_ vector: Vectors.Case) throws {
        let verdict = try judge(vector)
        for key in ["measurement", "report_data", "host_data"] {
            #expect(verdict.unchecked.contains(key) == (vector.policy[key] == nil))
        }
        #expect(verdict.unchecked.contains("revocation") == (vector.inputs["crl"] == nil))
    }

    /// Roots that are not AMD's mark the verdict.
    @Test(arguments: Vectors.cases("snp").filter { $0.verdict == "accept" })
    func verdictsUnderOtherRootsAreMarked(_ vector: Vectors.Case) throws {
        let isSynthetic = vector.inputs["roots"]?.string?.hasPrefix("synth") == true
        #expect(try judge(vector).marks == (isSynthetic ? ["simulated"] : []))
    }
}
