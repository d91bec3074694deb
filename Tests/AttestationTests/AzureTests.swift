import Bytes
import TDX
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

    /// The TDREPORT beside a genuine quote must say what the quote says, in every field that both have.
    @Test(arguments: samples.filter { $0.inputs["quote"] != nil })
    func refusesATDReportThatIsNotTheQuotes(_ vector: Vectors.Case) throws {
        let changes: [(name: String, change: (inout TDBody) -> Void)] = [
            ("mr_td", { $0.mrTD[0] ^= 1 }), ("mr_config_id", { $0.mrConfigID[1] ^= 1 }),
            ("mr_owner", { $0.mrOwner[2] ^= 1 }), ("mr_owner_config", { $0.mrOwnerConfig[3] ^= 1 }),
            ("rtmr0", { $0.rtmrs[0][47] ^= 1 }), ("rtmr1", { $0.rtmrs[1][47] ^= 1 }),
            ("rtmr2", { $0.rtmrs[2][47] ^= 1 }), ("rtmr3", { $0.rtmrs[3][47] ^= 1 }),
            ("xfam", { $0.xfam[0] ^= 1 }), ("mr_seam", { $0.mrSEAM[0] ^= 1 }),
            ("mr_signer_seam", { $0.mrSignerSEAM[0] ^= 1 }), ("seam_attributes", { $0.seamAttributes[0] ^= 1 }),
            ("tee_tcb_svn", { $0.teeTCBSVN[0] ^= 1 }),
            ("td_attributes", { $0.attributes = TDAttributes(rawValue: $0.attributes.rawValue ^ 0x4000_0000) }),
        ]
        for (name, change) in changes {
            let found = try reason(vector) { inputs, _ in
                guard let hcl = inputs["hcl"], var report = try? TDReport(parsing: Array(hcl[32..<1056])) else {
                    return
                }
                change(&report.body)
                inputs["hcl"] = Array(hcl[..<32]) + report.serialize() + Array(hcl[1056...])
            }
            #expect(found == "hcl-tdreport", "\(name)")
        }
        // The same damage without the hash that goes with it.
        #expect(try reason(vector) { inputs, _ in inputs["hcl"]?[32 + 512 + 16] ^= 1 } == "parse-hash")
        var inputs: [String: [UInt8]] = [:]
        for name in vector.inputs.keys { inputs[name] = try vector.read(name) }
        let verdict = Judge.judge(
            EvidenceCase(kind: "azure", inputs: inputs, policy: vector.policy, time: vector.time))
        #expect(verdict.isAccepted && verdict.unchecked.contains("hcl.tdreport.mac"))
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
