import Bytes
import TestKit
import Testing

@testable import Attestation

/// Every case of the kind `tdx` in `shared/vectors`: verdict, family of the reason, and the values to reproduce.
@Suite struct TDXVectorTests {
    @Test(arguments: Vectors.cases("tdx"))
    func judgesAsTheIndexSays(_ vector: Vectors.Case) throws {
        let inputs = Dictionary(uniqueKeysWithValues: try vector.inputs.keys.map { ($0, try vector.read($0)) })
        let verdict = Judge.judge(
            EvidenceCase(kind: "tdx", inputs: inputs, policy: vector.policy, time: vector.time))
        #expect(verdict.isAccepted == (vector.verdict == "accept"), "\(verdict.reason)")
        #expect(vector.families.contains(String(verdict.reason.prefix { $0 != "-" })), "\(verdict.reason)")
        #expect(verdict.reason == vector.reason || vector.expect["also"] != nil)
        if let authentic = vector.expect["authentic"]?.bool {
            #expect(verdict.claims["authentic"]?.bool == authentic)
        }
        if let status = vector.expect["tcb_status"]?.string {
            #expect(verdict.claims["tcb_status"]?.string == status)
        }
        if let advisories = vector.expect["advisory_ids"] { #expect(verdict.claims["advisory_ids"] == advisories) }
    }
}
