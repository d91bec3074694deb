import Bytes
import Crypto
import SEVSNP
import TestKit
import Testing

@testable import Attestation

/// Every key of the SNP policy, at both sides of its border; keys and forms that do not exist are refused.
@Suite(.enabled(if: SNPTestPKI.shared != nil)) struct SNPPolicyTests {
    let pki: SNPTestPKI
    /// 2026-02-01T00:00:00Z.
    let time = Instant(seconds: 1_769_904_000)

    init() throws { pki = try #require(SNPTestPKI.shared) }

    /// A report whose every field differs from zero, under a Milan VCEK.
    private func subject(_ change: (inout AttestationReport) -> Void = { _ in }) throws -> AttestationReport {
        try pki.report(version: 5) { report in
            report.guestSVN = 7
            report.policy = GuestPolicy(rawValue: 0x3_011F)
            report.platformInfo = PlatformInfo(rawValue: 0x25)
            report.reportData = [UInt8](repeating: 0xAA, count: 64)
            report.measurement = [UInt8](repeating: 0xBB, count: 48)
            report.hostData = [UInt8](repeating: 0xCC, count: 32)
            report.idKeyDigest = [UInt8](repeating: 0xDD, count: 48)
            report.familyID = [UInt8](repeating: 0x11, count: 16)
            report.imageID = [UInt8](repeating: 0x22, count: 16)
            report.launchMitigationVector = 3
            report.currentMitigationVector = 7
            change(&report)
        }
    }

    private func judge(
        _ policy: String, _ report: AttestationReport? = nil, shape: SNPTestPKI.Shape = SNPTestPKI.Shape()
    ) throws -> Verdict {
        let made = try pki.hierarchy(shape)
        let report = try report ?? subject()
        return Judge.judge(
            EvidenceCase(
                kind: "snp",
                inputs: [
                    "report": report.serialize(), "vek": made.vek.der, "chain": made.chainPEM, "roots": made.rootsPEM,
                ],
                policy: try JSON(parsing: policy), time: time))
    }

    @Test func everyKeyAtItsBorder() throws {
        let bb = String(repeating: "bb", count: 48)
        let aa = String(repeating: "aa", count: 64)
        let chip = Hex.encode((0..<64).map { UInt8($0 + 1) })
        let table: [(policy: String, reason: String)] = [
            (#"{}"#, "ok"),
            (#"{"measurement":"\#(bb)"}"#, "ok"), (#"{"measurement":["00","\#(bb)"]}"#, "ok"),
            (#"{"measurement":[]}"#, "policy-measurement"), (#"{"measurement":"bb"}"#, "policy-measurement"),
            (#"{"deny_measurement":"\#(bb)"}"#, "policy-measurement"),
            (#"{"deny_measurement":["\#(aa.prefix(96))"]}"#, "ok"),
            (#"{"report_data":"\#(aa)"}"#, "ok"), (#"{"report_data":"\#(aa.uppercased())"}"#, "ok"),
            (#"{"report_data":"\#(aa.dropLast(2))"}"#, "policy-report-data"),
            (#"{"report_data":"\#(aa)00"}"#, "policy-report-data"), (#"{"report_data":""}"#, "policy-report-data"),
            (#"{"host_data":"\#(String(repeating: "cc", count: 32))"}"#, "ok"),
            (#"{"host_data":"\#(String(repeating: "cd", count: 32))"}"#, "policy-host-data"),
            (#"{"id_key_digest":"\#(String(repeating: "dd", count: 48))"}"#, "ok"),
            (#"{"id_key_digest":"\#(bb)"}"#, "policy-id-key-digest"),
            (#"{"author_key_digest":"\#(bb)"}"#, "policy-author-key-digest"),
            (#"{"require_author_key":true}"#, "policy-author-key"),
            (#"{"family_id":"\#(String(repeating: "11", count: 16))"}"#, "ok"),
            (#"{"family_id":"\#(String(repeating: "12", count: 16))"}"#, "policy-family-id"),
            (#"{"image_id":"\#(String(repeating: "22", count: 16))"}"#, "ok"),
            (#"{"image_id":"\#(String(repeating: "23", count: 16))"}"#, "policy-image-id"),
            (#"{"report_id_ma":"\#(String(repeating: "ff", count: 32))"}"#, "ok"),
            (#"{"report_id":"\#(String(repeating: "ff", count: 32))"}"#, "policy-report-id"),
            (#"{"chip_id":["\#(chip)"]}"#, "ok"), (#"{"chip_id":"\#(chip.dropLast(112))"}"#, "policy-chip-id"),
            (#"{"deny_chip_id":["\#(chip)"]}"#, "policy-chip-id"),
            (#"{"deny_chip_id":"\#(chip.prefix(16))"}"#, "policy-chip-id"),
            (#"{"deny_chip_id":"\#(aa.prefix(16))"}"#, "ok"), (#"{"deny_chip_id":[]}"#, "ok"),
            (#"{"vmpl":0}"#, "ok"), (#"{"vmpl":[1,0]}"#, "ok"), (#"{"vmpl":1}"#, "policy-vmpl"),
            (#"{"min_guest_svn":7}"#, "ok"), (#"{"min_guest_svn":8}"#, "policy-min-guest-svn"),
            (#"{"min_report_version":5}"#, "ok"), (#"{"min_report_version":6}"#, "policy-min-report-version"),
            (#"{"min_fw":[1,55,40]}"#, "ok"), (#"{"min_fw":[1,55,41]}"#, "policy-min-fw"),
            (#"{"min_fw":[1,54,99]}"#, "ok"), (#"{"min_fw":[2,0,0]}"#, "policy-min-fw"),
            (#"{"min_fw":{"major":1,"minor":56,"build":0}}"#, "policy-min-fw"),
            (#"{"min_fw_committed":[1,55,40]}"#, "ok"), (#"{"min_fw_committed":[1,55,41]}"#, "policy-min-fw-committed"),
            (#"{"min_abi":[1,31]}"#, "ok"), (#"{"min_abi":[1,32]}"#, "policy-min-abi"),
            (#"{"min_tcb":{"bl":4,"tee":0,"snp":27,"ucode":222}}"#, "ok"), (#"{"min_tcb":{"bl":5}}"#, "policy-min-tcb"),
            (#"{"min_tcb":{"tee":1}}"#, "policy-min-tcb"), (#"{"min_tcb":{"snp":28}}"#, "policy-min-tcb"),
            (#"{"min_tcb":{"ucode":223}}"#, "policy-min-tcb"), (#"{"min_tcb":{"fmc":1}}"#, "policy-min-tcb"),
            (#"{"min_tcb_launch":{"snp":27}}"#, "ok"), (#"{"min_tcb_launch":{"snp":28}}"#, "policy-min-tcb-launch"),
            (#"{"min_tcb":{"snp":27},"min_tcb_launch":true}"#, "ok"),
            (#"{"min_tcb_committed":{"snp":28}}"#, "policy-min-tcb-committed"),
            (#"{"min_tcb_current":{"snp":28}}"#, "policy-min-tcb-current"),
            (#"{"min_tcb_by_product":{"Milan":{"snp":27},"Turin":{"fmc":9}}}"#, "ok"),
            (#"{"min_tcb_by_product":{"Milan":{"snp":28}}}"#, "policy-min-tcb"),
            (#"{"min_tcb_by_product":{"Genoa":{"snp":1}}}"#, "policy-min-tcb"),
            (#"{"min_tcb_by_product":{"Milan":{"snp":27}},"min_tcb_current":true}"#, "ok"),
            (#"{"min_tcb":{"bl":4},"min_tcb_by_product":{"Milan":{"snp":27}},"min_tcb_committed":true}"#, "ok"),
            (#"{"require_committed_eq_current":true}"#, "ok"),
            (#"{"allow_smt":true}"#, "ok"), (#"{"allow_smt":false}"#, "policy-smt"),
            (#"{"require_single_socket":true}"#, "policy-single-socket"), (#"{"require_single_socket":false}"#, "ok"),
            (#"{"platform_info_required_bits":37}"#, "ok"), (#"{"platform_info_required_bits":[0,5]}"#, "ok"),
            (#"{"platform_info_required_bits":"0x20"}"#, "ok"),
            (#"{"platform_info_required_bits":2}"#, "policy-platform-info"),
            (#"{"platform_info_forbidden_bits":2}"#, "ok"),
            (#"{"platform_info_forbidden_bits":[0]}"#, "policy-platform-info"),
            (#"{"guest_policy_required_bits":[24]}"#, "policy-guest-policy"),
            (#"{"launch_mit_vector_required_bits":3}"#, "ok"),
            (#"{"launch_mit_vector_required_bits":4}"#, "policy-launch-mit-vector"),
            (#"{"current_mit_vector_required_bits":7}"#, "ok"),
            (#"{"product":"Milan"}"#, "ok"), (#"{"product":["Genoa","Turin"]}"#, "policy-product"),
            (#"{"deny_product":"Milan"}"#, "policy-product"), (#"{"deny_product":["Turin"]}"#, "ok"),
            (#"{"signing_key":["vcek"]}"#, "ok"), (#"{"signing_key":"vlek"}"#, "policy-signing-key"),
            (#"{"csp_id":"CN=x"}"#, "policy-csp-id"), (#"{"require_crl":true}"#, "policy-crl"),
        ]
        for (policy, reason) in table {
            let verdict = try judge(policy)
            #expect(verdict.reason == reason, "\(policy)")
            let read = try SNPPolicy(try JSON(parsing: policy))
            #expect(try SNPPolicy(read.json) == read, "\(policy) as a document again")
            #expect(verdict.claims["authentic"] == true, "\(policy)")
        }
    }

    /// What is refused without any key, and the key that allows it.
    @Test func defaultsRefuse() throws {
        let debug = try subject { $0.policy.rawValue |= 1 << 19 }
        #expect(try judge("{}", debug).reason == "policy-debug")
        #expect(try judge(#"{"allow_debug":true}"#, debug).reason == "ok")
        let migrating = try subject { $0.policy.rawValue |= 1 << 18 }
        #expect(try judge("{}", migrating).reason == "policy-migrate-ma")
        #expect(try judge(#"{"allow_migrate_ma":true}"#, migrating).reason == "ok")
        let masked = try subject { $0.chipID = [UInt8](repeating: 0, count: 64) }
        #expect(try judge("{}", masked).reason == "hwid-masked")
        #expect(try judge(#"{"allow_masked_chip_id":true}"#, masked).reason == "ok")
        let host = try subject { $0.vmpl = AttestationReport.hostRequestedVMPL }
        #expect(try judge("{}", host).reason == "policy-vmpl")
        #expect(try judge(#"{"vmpl":4294967295}"#, host).reason == "policy-vmpl")
    }

    @Test func committedAndSocketAndSMT() throws {
        let provisional = try subject { $0.currentTCB = RawTCBVersion(0xDF1B_0000_0000_0004) }
        #expect(try judge(#"{"require_committed_eq_current":true}"#, provisional).reason == "policy-committed")
        let newer = try subject { $0.currentFirmware.build = 41 }
        #expect(try judge(#"{"require_committed_eq_current":true}"#, newer).reason == "policy-committed")
        #expect(try judge("{}", newer).reason == "ok")
        let lowLaunch = try subject { $0.launchTCB = RawTCBVersion(0xDE1A_0000_0000_0004) }
        #expect(
            try judge(#"{"min_tcb":{"snp":27},"min_tcb_launch":true}"#, lowLaunch).reason == "policy-min-tcb-launch")
        #expect(try judge(#"{"min_tcb":{"snp":27}}"#, lowLaunch).reason == "ok")
        let byProduct = #"{"min_tcb_by_product":{"Milan":{"snp":27}},"min_tcb_launch":true}"#
        #expect(try judge(byProduct, lowLaunch).reason == "policy-min-tcb-launch")
        #expect(try !judge(byProduct, lowLaunch).unchecked.contains("launch_tcb"))
        // Both minima hold.
        let both = #"{"min_tcb":{"bl":4},"min_tcb_by_product":{"Milan":{"snp":27}},"min_tcb_launch":true}"#
        #expect(try judge(both, lowLaunch).reason == "policy-min-tcb-launch")
        let impossible = try subject { $0.currentTCB = RawTCBVersion(0xDE1A_0000_0000_0004) }
        #expect(try judge("{}", impossible).reason == "tcb-order")
        #expect(try judge(#"{"require_committed_eq_current":true}"#, impossible).reason == "policy-committed")
        let single = try subject { $0.policy.rawValue |= 1 << 20 }
        #expect(try judge(#"{"require_single_socket":true}"#, single).reason == "ok")
        let withoutSMT = try subject {
            $0.policy.rawValue &= ~(1 << 16)
            $0.platformInfo.rawValue = 0
        }
        #expect(try judge(#"{"allow_smt":false}"#, withoutSMT).reason == "ok")
    }

    @Test func turinAndVLEK() throws {
        let turin = try pki.report(.turin, version: 5)
        func judged(_ policy: String) throws -> String { try judge(policy, turin, shape: .turin).reason }
        #expect(try judged(#"{"min_tcb":{"fmc":1,"bl":2,"tee":1,"snp":5,"ucode":90}}"#) == "ok")
        #expect(try judged(#"{"min_tcb":{"fmc":2}}"#) == "policy-min-tcb")
        #expect(try judged(#"{"chip_id":"0102030405060708"}"#) == "ok")
        #expect(try judged(#"{"deny_chip_id":["0102030405060708"]}"#) == "policy-chip-id")
        let vlek = try pki.report(.vlek)
        #expect(try judge(#"{"csp_id":["CN=cc-test.example.com"]}"#, vlek, shape: .vlek).reason == "ok")
        #expect(try judge(#"{"signing_key":"vcek"}"#, vlek, shape: .vlek).reason == "policy-signing-key")
    }

    /// The policy is read before anything else and as strictly.
    @Test(arguments: [
        #"{"measurment":"00"}"#, #"{"measurement":"0g"}"#, #"{"measurement":5}"#, #"{"vmpl":-1}"#, #"{"vmpl":"0"}"#,
        #"{"min_fw":[1,55]}"#, #"{"min_fw":[1,55,256]}"#, #"{"min_fw":{"major":1}}"#, #"{"min_tcb":{"microcode":1}}"#,
        #"{"min_tcb":{"bl":256}}"#, #"{"min_tcb":5}"#, #"{"min_tcb_by_product":{"Naples":{}}}"#,
        #"{"product":"Naples"}"#, #"{"signing_key":"pek"}"#, #"{"allow_debug":"yes"}"#, #"{"allow_debug":1}"#,
        #"{"platform_info_required_bits":[64]}"#, #"{"platform_info_required_bits":"zz"}"#,
        #"{"platform_info_required_bits":1.5}"#, "[]", "null",
        // What would be no floor, deny nobody or accept anybody.
        #"{"min_tcb":true}"#, #"{"min_tcb_launch":true}"#, #"{"min_tcb_current":true}"#, #"{"min_tcb_committed":true}"#,
        #"{"deny_measurement":"00"}"#, #"{"deny_measurement":""}"#, #"{"deny_chip_id":["0102030405060708090a"]}"#,
        #"{"deny_host_data":"00"}"#, #"{"deny_report_data":"00"}"#, #"{"deny_family_id":"00"}"#,
        #"{"deny_id_key_digest":"00"}"#, #"{"deny_author_key_digest":"00"}"#, #"{"deny_image_id":"00"}"#,
        #"{"deny_report_id":"00"}"#, #"{"deny_report_id_ma":"00"}"#, #"{"csp_id":""}"#, #"{"csp_id":["CN=x",""]}"#,
        #"{"platform_info_required_bits":"+1"}"#, #"{"platform_info_required_bits":"-0"}"#,
        #"{"platform_info_forbidden_bits":"0x+1"}"#, #"{"platform_info_required_bits":"0x"}"#,
    ])
    func unknownKeysAndFormsAreRefused(_ policy: String) throws {
        #expect(try judge(policy).reason.hasPrefix("parse-"), "\(policy)")
    }

    /// What a full policy leaves over is what is unchecked.
    @Test func uncheckedShrinksWithThePolicy() throws {
        let empty = try judge("{}")
        #expect(Set(empty.unchecked).isSuperset(of: ["measurement", "report_data", "reported_tcb", "revocation"]))
        #expect(empty.marks == ["simulated"])
        let some = try judge(#"{"measurement":"\#(String(repeating: "bb", count: 48))","min_tcb":{"bl":1},"vmpl":0}"#)
        #expect(Set(empty.unchecked).subtracting(some.unchecked) == ["measurement", "reported_tcb", "vmpl"])
    }

    @Test func claimsDecodeTheReport() throws {
        let claims = try judge("{}").claims
        #expect(claims["product"] == "Milan" && claims["signing_key"] == "vcek" && claims["guest_svn"] == 7)
        #expect(claims["reported_tcb"] == ["bl": 4, "tee": 0, "snp": 27, "ucode": 222])
        #expect(claims["policy"]?["abi"] == "1.31" && claims["policy"]?["debug"] == false)
        #expect(claims["measurement"]?.string == String(repeating: "bb", count: 48))
        #expect(claims["current_version"] == "1.55.40" && claims["current_mit_vector"] == 7)
        #expect(claims["cpuid"] == ["family": 25, "model": 1, "stepping": 1])
    }
}
