import Bytes
import Crypto
import Manifest

extension Appraisal {
    /// What a hardware report must carry so that it speaks for this nonce and this TPM key.
    private var reportData: [UInt8] {
        Evidence.reportData(nonce: evidence.nonce, attestationKey: evidence.tpm?.attestationKey ?? [])
    }

    private func report() throws(Finding) -> Evidence.TEEEvidence {
        guard let tee = evidence.tee else {
            throw Finding(
                "parse-missing", claim: "evidence.tee", expected: "a hardware report", actual: "none",
                source: "platform \(evidence.platform.rawValue)")
        }
        return tee
    }

    /// An SEV-SNP report whose launch digest is one of the manifest's.
    mutating func checkSNP() throws(Finding) {
        let tee = try report()
        let launches = reference.manifest.measurements.snp
        guard !launches.isEmpty else {
            throw Finding(
                "register-missing", claim: "snp.measurement", expected: "a launch digest in the manifest",
                actual: "none", source: "manifest \(reference.manifest.version)",
                next: "measure the image with --firmware and publish the manifest anew")
        }
        var policy = policy.snp
        policy["report_data"] = .hex(reportData)
        policy["measurement"] = .array(launches.map { .hex($0.digest) })
        var inputs = try collateral("snp", ["vek", "chain", "crl"])
        inputs["report"] = tee.report
        inputs["roots"] = self.policy.roots["snp"]
        if !tee.auxiliary.isEmpty { inputs["auxblob"] = tee.auxiliary }
        try judge("snp", inputs, .object(policy))
    }

    /// A TDX quote whose MRTD and RTMR 0–3 are the manifest's.
    mutating func checkTDX() throws(Finding) {
        let tee = try report()
        let registers = reference.manifest.measurements.tdx
        var policy = policy.tdx
        policy["report_data"] = .hex(reportData)
        for name in ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"] {
            let key = name == "mrtd" ? "mr_td" : name
            guard let value = registers[name] else {
                // RTMR 0 depends on the host's tables, RTMR 3 is unknown to older manifests. MRTD, the firmware, may not be left open: it is what extends the
                // others, and another firmware can extend whatever is expected.
                guard name == "rtmr0" || name == "rtmr3" else {
                    throw Finding(
                        "register-missing", claim: "tdx.\(name)", expected: "a value in the manifest", actual: "none",
                        source: "manifest \(reference.manifest.version)")
                }
                unchecked.append("tdx.\(name)")
                continue
            }
            if name == "rtmr3" {
                isClusterProved = true
                policy[key] = .hex(evidence.cluster?.extending(value, .sha384) ?? value)
            } else {
                policy[key] = .hex(value)
            }
        }
        var inputs = try collateral("tdx", ["collateral"])
        inputs["quote"] = tee.report
        inputs["root"] = try self.policy.roots["tdx"].map { pem throws(Finding) in
            do throws(CryptoError) { return try Certificate.read(pem).der } catch {
                throw Finding("parse-form", claim: "policy.roots.tdx", actual: error.message)
            }
        }
        try judge("tdx", inputs, .object(policy))
    }

    /// Inputs of a kind that were stored with the evidence (`nacre.collateral.v1`).
    private func collateral(_ kind: String, _ names: [String]) throws(Finding) -> [String: [UInt8]] {
        guard let document = evidence.collateral, let tee = evidence.tee else { return [:] }
        return try CollateralBundle(json: document).inputs(for: tee, evidence.platform)
            .filter { names.contains($0.key) }
    }

    /// Hands a report to the judge of its kind and takes over what that established.
    private mutating func judge(_ kind: String, _ inputs: [String: [UInt8]], _ policy: JSON) throws(Finding) {
        let verdict = Judge.judge(EvidenceCase(kind: kind, inputs: inputs, policy: policy, time: time))
        claims[kind] = .object(verdict.claims)
        unchecked += verdict.unchecked.map { "\(kind).\($0)" }
        for word in verdict.marks { mark(word) }
        if let finding = verdict.finding { throw finding }
        held("\(kind) report", "genuine, bound to this nonce and key, measures the manifest's image")
    }
}
