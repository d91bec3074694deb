import Bytes
import TPM
import TestKit
import Testing

@testable import Attestation

/// Azure's evidence under damage and under policies.
@Suite struct AzureTests {
    static let samples = Vectors.cases("azure").filter { $0.verdict == "accept" }

    func reason(_ vector: Vectors.Case, _ change: (inout [String: [UInt8]], inout [String: JSON]) -> Void) throws
        -> String
    {
        var inputs: [String: [UInt8]] = [:]
        for name in vector.inputs.keys { inputs[name] = try vector.read(name) }
        var policy = vector.policy.object ?? [:]
        change(&inputs, &policy)
        return Judge.judge(
            EvidenceCase(kind: "azure", inputs: inputs, policy: .object(policy), time: vector.time)
        ).reason
    }

    @Test(arguments: samples)
    func refusesByPolicy(_ vector: Vectors.Case) throws {
        let isSNP = vector.inputs["vek"] != nil
        #expect(try reason(vector) { $1["nonce"] = "00" } == "nonce")
        #expect(try reason(vector) { $1["surprise"] = "00" } == "parse-form")
        // A policy for the other hardware only.
        #expect(
            try reason(vector) { $1 = ["nonce": $1["nonce"] ?? "", isSNP ? "tdx" : "snp": [:]] } == "policy-hardware")
        // The hardware's own reasons carry its name.
        let zero = JSON.string(String(repeating: "00", count: 48))
        let pinned = try reason(vector) { _, policy in
            var part = policy[isSNP ? "snp" : "tdx"]?.object ?? [:]
            part[isSNP ? "measurement" : "mr_td"] = [zero]
            policy[isSNP ? "snp" : "tdx"] = .object(part)
        }
        #expect(pinned.hasPrefix(isSNP ? "snp-policy-" : "tdx-policy-"), "\(pinned)")
        #expect(try reason(vector) { inputs, _ in inputs["pcrs"] = Array("{}".utf8) } == "pcr-missing")
        #expect(try reason(vector) { inputs, _ in inputs["hcl"] = nil } == "parse-missing")
    }

    /// Another machine's key: the chain is good, the key is not.
    @Test func refusesAnotherMachinesCertificate() throws {
        guard let vector = Self.samples.first(where: { $0.inputs["ak_chain"] != nil }),
            let other = Self.samples.first(where: { $0.inputs["ak_chain"] == nil && $0.inputs["quote"] != nil })
        else { return }
        let (chain, roots) = (try vector.read("ak_chain"), try vector.read("ak_roots"))
        var inputs: [String: [UInt8]] = ["ak_chain": chain, "ak_roots": roots]
        for name in other.inputs.keys { inputs[name] = try other.read(name) }
        let verdict = Judge.judge(
            EvidenceCase(kind: "azure", inputs: inputs, policy: other.policy, time: other.time))
        #expect(["ak-binding", "ak-not-yet-valid"].contains(verdict.reason), "\(verdict.reason)")
    }

    /// Damage anywhere: what is accepted makes the same claims as the original.
    @Test(arguments: samples)
    func believesNothingThatAMutationChanged(_ vector: Vectors.Case) throws {
        var inputs: [String: [UInt8]] = [:]
        for name in vector.inputs.keys { inputs[name] = try vector.read(name) }
        func judge(_ inputs: [String: [UInt8]]) -> Verdict {
            Judge.judge(EvidenceCase(kind: "azure", inputs: inputs, policy: vector.policy, time: vector.time))
        }
        let original = judge(inputs)
        var generator = SeededGenerator(seed: 5)
        for round in 0..<600 {
            let name = ["hcl", "attest", "signature"][round % 3]
            let changed = mutate(inputs[name] ?? [], with: &generator)
            guard changed != inputs[name] else { continue }
            var damaged = inputs
            damaged[name] = changed
            let verdict = judge(damaged)
            #expect(!verdict.isAccepted || (name == "hcl" && verdict.claims == original.claims))
        }
    }
}
