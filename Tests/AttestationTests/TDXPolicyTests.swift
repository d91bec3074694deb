import Bytes
import TDX
import TestKit
import Testing

@testable import Attestation

/// `TDXPolicy` on recorded quotes: each key rejects what it should, and only that.
@Suite struct TDXPolicyTests {
    static let zero48 = String(repeating: "00", count: 48)
    static let zero64 = String(repeating: "00", count: 64)

    /// Case of the index, policy, reason.
    static let table: [(String, String, String)] = [
        ("tdx-synth-good", "{}", "ok"),
        ("tdx-synth-good", #"{"min_tcb_eval":20}"#, "ok"),
        ("tdx-synth-good", #"{"min_tcb_eval":21}"#, "policy-min-tcb-eval"),
        ("tdx-synth-good", #"{"report_data":"\#(String(repeating: "5b", count: 64))"}"#, "policy-report-data"),
        ("tdx-synth-good", #"{"mr_td":["\#(String(repeating: "5a", count: 48))"]}"#, "policy-mr-td"),
        ("tdx-synth-good", #"{"rtmr3":"\#(String(repeating: "5a", count: 48))"}"#, "policy-rtmr3"),
        ("tdx-synth-good", #"{"xfam":"ffffffffffffffff"}"#, "policy-xfam"),
        ("tdx-synth-good", #"{"td_attributes":"ffffffffffffffff"}"#, "policy-td-attributes"),
        ("tdx-synth-good", #"{"mr_service_td":"\#(zero48)"}"#, "policy-mr-service-td"),
        ("tdx-synth-good", #"{"piid":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"}"#, "policy-piid"),
        ("tdx-synth-good", #"{"fmspc":["70c06f000000","000000000000"]}"#, "ok"),
        ("tdx-synth-good", #"{"fmspc":"000000000000"}"#, "policy-fmspc"),
        ("tdx-synth-good", #"{"min_tee_tcb_svn":"ff000000000000000000000000000000"}"#, "policy-min-tee-tcb-svn"),
        ("tdx-synth-good", #"{"min_qe_svn":65536}"#, "policy-min-qe-svn"),
        ("tdx-synth-good", #"{"min_pce_svn":65536}"#, "policy-min-pce-svn"),
        ("tdx-synth-good", #"{"allow_perfmon":false,"allow_migratable":false}"#, "ok"),
        ("tdx-synth-good", #"{"allow_statuses":[]}"#, "status-UpToDate"),
        ("tdx-synth-debug-td", #"{"allow_debug":true}"#, "ok"),
        ("tdx-synth-status-swhardeningneeded", #"{"allow_statuses":["SWHardeningNeeded"]}"#, "ok"),
        (
            "tdx-synth-status-swhardeningneeded",
            #"{"allow_statuses":["SWHardeningNeeded"],"forbidden_advisories":["INTEL-SA-00002"]}"#, "policy-advisory"
        ),
        ("tdx-synth-status-revoked", #"{"allow_statuses":["UpToDate","Revoked"]}"#, "status-Revoked"),
        ("tdx-synth-v5-td15-relaunch", #"{"allow_statuses":["TDRelaunchAdvised"]}"#, "ok"),
        (
            "tdx-synth-v5-td15-relaunch", #"{"allow_statuses":["TDRelaunchAdvised"],"mr_service_td":"\#(zero48)"}"#,
            "ok"
        ),
        (
            "tdx-v4-azure-no-septve-00806f05-2025-06",
            #"{"require_sept_ve_disable":false,"allow_statuses":["OutOfDate"]}"#, "ok"
        ),
        // Not of their form: refused before anything is judged.
        ("tdx-synth-good", #"{"mrtd":"00"}"#, "parse-form"),
        ("tdx-synth-good", #"{"mr_td":"00"}"#, "parse-form"),
        ("tdx-synth-good", #"{"mr_td":[]}"#, "parse-form"),
        ("tdx-synth-good", #"{"report_data":"\#(zero64)00"}"#, "parse-form"),
        ("tdx-synth-good", #"{"allow_statuses":["uptodate"]}"#, "parse-form"),
        ("tdx-synth-good", #"{"allow_debug":"yes"}"#, "parse-form"),
        ("tdx-synth-good", #"{"min_tcb_eval":"20"}"#, "parse-form"),
        ("tdx-synth-good", "[]", "parse-form"),
    ]

    private func judge(_ id: String, _ policy: JSON) throws -> Verdict? {
        guard let vector = Vectors.cases("tdx").first(where: { $0.id == id }) else { return nil }
        let inputs = Dictionary(uniqueKeysWithValues: try vector.inputs.keys.map { ($0, try vector.read($0)) })
        return Judge.judge(EvidenceCase(kind: "tdx", inputs: inputs, policy: policy, time: vector.time))
    }

    @Test(arguments: table.indices)
    func eachKeyRejectsWhatItShould(_ index: Int) throws {
        let (id, policy, reason) = Self.table[index]
        guard let verdict = try judge(id, try JSON(parsing: policy)) else { return }
        #expect(verdict.reason == reason, "\(policy)")
    }

    /// Pinning every field to the quote's own values is accepted and leaves nothing of the body unchecked.
    @Test func pinnedToItselfItIsAcceptedWithNothingUnchecked() throws {
        guard let free = try judge("tdx-synth-good", .object([:])) else { return }
        #expect(free.unchecked.contains("mr_td") && free.unchecked.contains("rtmr3"))
        #expect(free.marks == ["simulated"])
        var keys: [String: JSON] = ["min_tcb_eval": 1, "allow_perfmon": false, "allow_migratable": false]
        for name in TDXPolicy.Register.allCases.map(\.rawValue) + ["fmspc"] { keys[name] = free.claims[name] }
        let pinned = try #require(try judge("tdx-synth-good", .object(keys)))
        #expect(pinned.isAccepted)
        #expect(pinned.unchecked.isEmpty)
    }

    @Test func genuineHardwareIsNotMarked() throws {
        guard let verdict = try judge("tdx-v4-phala-b0c06f-2025-06", .object([:])) else { return }
        #expect(verdict.isAccepted && verdict.marks.isEmpty)
        #expect(verdict.claims["fmspc"] == "b0c06f000000")
    }

    @Test func policyReadsWhatItWrites() throws {
        for (_, text, reason) in Self.table where !reason.hasPrefix("parse") {
            let policy = try TDXPolicy(JSON(parsing: text))
            #expect(try TDXPolicy(policy.json) == policy)
        }
    }

    @Test(arguments: ["min_tcb_eval", "min_qe_svn", "min_pce_svn"])
    func aFloorBelowZeroIsMalformed(_ key: String) throws {
        #expect(throws: ParseError.self) { try TDXPolicy(.object([key: .integer(-1)])) }
        #expect(throws: ParseError.self) { try TDXPolicy(.object([key: "1"])) }
        _ = try TDXPolicy(.object([key: 0]))
    }

    @Test func missingInputsAreNamed() {
        let verdict = Judge.judge(EvidenceCase(kind: "tdx", inputs: [:], time: Instant(seconds: 0)))
        #expect(verdict.reason == "parse-missing")
        #expect(verdict.finding?.claim == "quote")
    }
}
