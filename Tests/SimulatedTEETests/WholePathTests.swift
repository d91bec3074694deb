import Attestation
import Bytes
import Crypto
import Linux
import Manifest
import SEVSNP
import SimulatedTEE
import SyntheticNode
import TDX
import TPM
import TestKit
import Testing

/// From the kernel's file system to the verdict: the code that runs in a node issues, the code that runs at a relying
/// party judges, and only the TEE between them is made up.
@Suite(MountedTEE.possible) struct WholePathTests {
    static let time = Instant(seconds: 1_800_000_000)
    static let nonce = [UInt8](repeating: 0x5A, count: 32)
    static let digest = [UInt8](repeating: 0xA1, count: 48)

    let keys: SimulatedKeys
    /// Production, TCB floors and the simulated roots: nothing else is let through.
    var policy: AppraisalPolicy

    init() throws {
        keys = try #require(MountedTEE.keys)
        policy = AppraisalPolicy.production
        policy.snp = ["min_tcb": ["bl": 4, "snp": 27, "ucode": 222], "vmpl": 0]
        policy.tdx = ["min_tcb_eval": 20]
        policy.simulatedRoots = Set(keys.roots)
    }

    /// Evidence as a node makes it, through the mounted file system.
    private func evidence(_ provider: some ReportProvider, node: SyntheticNode? = nil) throws -> Evidence {
        let mounted = try MountedTEE(provider)
        let detected = try DetectedPlatform.detect(mounted.issuer, root: "/nowhere")
        let tpm = try node?.evidence().tpm
        let data = Evidence.reportData(nonce: Self.nonce, attestationKey: tpm?.attestationKey ?? [])
        let report = try #require(try detected.report(data: data, issuer: mounted.issuer))
        let tee = Evidence.TEEEvidence(report: report.report, auxiliary: report.auxiliary, eventLog: [])
        var collateral = CollateralBundle()
        if detected.platform == .tdx { try collateral.add("collateral", keys.collateral, for: tee) }
        let evidence = Evidence(
            platform: detected.platform, nonce: Self.nonce, tpm: tpm, tee: tee,
            collateral: collateral.items.isEmpty ? nil : collateral.json)
        // It reaches the judge as a document.
        return try Evidence(parsing: Array(evidence.json.compact.utf8))
    }

    private func snp(_ change: (inout SimulatedSNP) -> Void = { _ in }) -> SimulatedSNP {
        var machine = SimulatedSNP(keys)
        machine.measurement = Self.digest
        change(&machine)
        return machine
    }

    private func manifest(direct: Bool = true) throws -> Manifest {
        try SyntheticNode.manifest { document in
            document["snp"] = [
                .fields([
                    "vmm": "qemu", "vcpus": 2, "vcpuType": "EPYC-v4", "launchDigest": .hex(Self.digest),
                    "boot": direct ? "direct" : nil,
                ])
            ]
            document["tdx"] = ["mrtd": .hex(Self.digest), "rtmr1": .hex(rtmrs[1]), "rtmr2": .hex(rtmrs[2])]
        }
    }

    private var rtmrs: [[UInt8]] { (0..<4).map { [UInt8](repeating: $0 == 3 ? 0 : UInt8($0 + 1), count: 48) } }

    private func tdx(_ change: (inout SimulatedTDX) -> Void = { _ in }) -> SimulatedTDX {
        let rtmrs = rtmrs
        var machine = SimulatedTDX(keys)
        machine.mrTD = Self.digest
        machine.start = { rtmrs }
        change(&machine)
        return machine
    }

    private func judge(
        _ evidence: Evidence, _ manifest: Manifest? = nil, policy: AppraisalPolicy? = nil, nonce: [UInt8]? = nil
    ) throws -> Verdict {
        Appraisal.judge(
            evidence, nonce: nonce ?? Self.nonce, reference: .pinned(try manifest ?? self.manifest()),
            policy: policy ?? self.policy, at: Self.time
        ).verdict
    }

    // MARK: Accepted, and marked

    @Test(arguments: [UInt32(2), 3, 4, 5])
    func `a production policy that names the root accepts an SNP node, marked simulated`(version: UInt32) throws {
        let verdict = try judge(evidence(snp { $0.reportVersion = version }))
        #expect(verdict.isAccepted, "\(verdict)")
        #expect(verdict.marks == ["simulated"])
        #expect(verdict.claims["protection"] == "simulated")
        #expect(verdict.claims["snp"]?["version"] == .integer(Int128(version)))
        #expect(verdict.unchecked.contains { $0.hasPrefix("tpm: this node has none") })
    }

    @Test(arguments: [UInt16(4), 5])
    func `and a TDX node`(version: UInt16) throws {
        let verdict = try judge(evidence(tdx { $0.quoteVersion = version }))
        #expect(verdict.isAccepted, "\(verdict)")
        #expect(verdict.marks == ["simulated"])
        #expect(verdict.claims["protection"] == "simulated")
        #expect(verdict.claims["tdx"]?["tcb_status"] == "UpToDate")
    }

    @Test func `a TPM beside it is believed where the report covers the image, and only there`() throws {
        let evidence = try evidence(snp(), node: SyntheticNode())
        let covered = try judge(evidence)
        #expect(covered.isAccepted, "\(covered)")
        #expect(covered.marks == ["simulated"])
        // A launch digest of the firmware alone leaves the image to the TPM, which is the host's.
        let firmwareOnly = try manifest(direct: false)
        #expect(try judge(evidence, firmwareOnly).reason == "policy-tpm-root")
        var lenient = policy
        lenient.allowTPMRoot = .development
        let verdict = try judge(evidence, firmwareOnly, policy: lenient)
        #expect(verdict.isAccepted, "\(verdict)")
        #expect(verdict.marks == ["simulated", "development"])
        let other = try SyntheticNode()
        var swapped = evidence
        swapped.tpm = try other.evidence().tpm
        #expect(try judge(swapped, policy: lenient).reason == "policy-report-data", "another TPM than the report's")
    }

    @Test func `without a TPM, a launch digest of the firmware alone is not enough`() throws {
        #expect(try judge(evidence(snp()), manifest(direct: false)).reason == "register-missing")
        var named = policy
        named.registers = [11]
        #expect(try judge(evidence(snp()), policy: named).reason == "register-missing", "the policy asks for it")
    }

    @Test func `policies carry the roots by the digest of their keys, and say so`() throws {
        #expect(try AppraisalPolicy(json: policy.json) == policy)
        let rows = policy.outline(try manifest())
        for root in keys.roots {
            #expect(rows.contains { $0.claim == "simulated root" && $0.detail.contains(Hex.encode(root)) })
        }
        for wrong in [JSON.string("00"), [.string("00")], ["xx"], [1]] {
            var document = try #require(policy.json.object)
            document["simulatedRoots"] = wrong
            #expect(throws: ParseError.self) { try AppraisalPolicy(json: .object(document)) }
        }
    }

    // MARK: Refused

    @Test func `nobody accepts the root unless a policy names it`() throws {
        for evidence in [try evidence(snp()), try evidence(tdx())] {
            let reason = evidence.platform == .snp ? "chain-root" : "pck-chain"
            for roots in [[], [[UInt8](repeating: 1, count: 32)], [keys.roots[evidence.platform == .snp ? 1 : 0]]] {
                var other = policy
                other.simulatedRoots = Set(roots)
                let verdict = try judge(evidence, policy: other)
                #expect(verdict.reason == reason)
                #expect(verdict.marks.isEmpty)
            }
            #expect(try judge(evidence, policy: .development).reason == reason, "not even the policy for development")
            var debug = AppraisalPolicy.production
            debug.tdx = policy.tdx
            #expect(try judge(evidence, policy: debug).reason == reason)
        }
    }

    @Test func `images with a simulated TEE need a policy that names a root`() throws {
        let simulated = try SyntheticNode.manifest(profile: .simulated) { document in
            document["snp"] = [
                ["vmm": "qemu", "vcpus": 2, "vcpuType": "EPYC-v4", "launchDigest": .hex(Self.digest), "boot": "direct"]
            ]
        }
        let evidence = try evidence(snp())
        #expect(try judge(evidence, simulated).isAccepted)
        #expect(try judge(evidence, simulated, policy: .production).reason == "policy-simulated-profile")
        #expect(try judge(evidence, simulated, policy: .development).reason == "policy-simulated-profile")
    }

    @Test func `another nonce, another policy, another launch, an older TCB: each by its reason`() throws {
        let good = try evidence(snp())
        #expect(try judge(good, nonce: [UInt8](repeating: 1, count: 32)).reason == "nonce")
        var stale = good
        stale.nonce = [UInt8](repeating: 1, count: 32)
        #expect(try judge(stale, nonce: stale.nonce).reason == "policy-report-data", "the report is for another nonce")
        #expect(try judge(evidence(snp { $0.policy |= 1 << 19 })).reason == "policy-debug")
        #expect(try judge(evidence(snp { $0.policy |= 1 << 18 })).reason == "policy-migrate-ma")
        #expect(try judge(evidence(snp { $0.measurement[0] ^= 1 })).reason == "policy-measurement")
        var newer = policy
        newer.snp["min_tcb"] = ["snp": 28]
        #expect(try judge(good, policy: newer).reason == "policy-min-tcb")
        #expect(try judge(evidence(snp { $0.change = { $0.reportedTCB.value -= 1 } })).reason == "tcb-mismatch")
        #expect(try judge(evidence(snp { $0.change = { $0.chipID[0] ^= 1 } })).reason == "hwid-mismatch")
        for verdict in [try judge(evidence(snp { $0.policy |= 1 << 19 })), try judge(good, policy: newer)] {
            #expect(verdict.marks == ["simulated"])
            #expect(verdict.claims["protection"] == "simulated", "rejected ones too")
        }
    }

    @Test func `the same for TDX`() throws {
        let good = try evidence(tdx())
        var stale = good
        stale.nonce = [UInt8](repeating: 1, count: 32)
        #expect(try judge(stale, nonce: stale.nonce).reason == "policy-report-data")
        #expect(try judge(evidence(tdx { $0.attributes = [.septVEDisable, .debug] })).reason == "policy-debug")
        #expect(try judge(evidence(tdx { $0.mrTD[0] ^= 1 })).reason == "policy-mr-td")
        var moved = tdx()
        moved.change = { body in body.rtmrs[2][0] ^= 1 }
        #expect(try judge(evidence(moved)).reason == "policy-rtmr2")
        #expect(
            try judge(evidence(tdx { $0.change = { $0.teeTCBSVN[0] = 4 } })).reason == "status-OutOfDate",
            "an old TDX module")
        var newer = policy
        newer.tdx["min_tcb_eval"] = 21
        #expect(try judge(good, policy: newer).reason == "policy-min-tcb-eval")
        var bare = good
        bare.collateral = nil
        #expect(try judge(bare).reason == "parse-missing")
    }

    @Test func `no bit of a report or quote may change`() throws {
        for evidence in [try evidence(snp()), try evidence(tdx())] {
            let report = try #require(evidence.tee?.report)
            var accepted: [Int] = []
            for bit in stride(from: 0, to: report.count * 8, by: 61) {
                var flipped = evidence
                flipped.tee?.report[bit / 8] ^= 1 << UInt8(bit % 8)
                if try judge(flipped).isAccepted { accepted.append(bit) }
            }
            #expect(accepted.isEmpty, "\(evidence.platform.rawValue): \(accepted)")
        }
    }
}
