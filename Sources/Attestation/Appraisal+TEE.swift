import Bytes
import Crypto
import Manifest
import SEVSNP
import TDX

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
        if !tee.auxiliary.isEmpty { inputs["auxblob"] = tee.auxiliary }
        inputs["roots"] = simulatedRoot(Self.ark(inputs)).map { Array($0.pem.utf8) }
        try judge("snp", inputs, .object(policy))
        let measurement = try? AttestationReport(tee.report).measurement
        hardwareCoversImage = launches.contains { $0.boot == .direct && $0.digest == measurement }
    }

    /// The root that the evidence itself brings, from where the judge will take the chain.
    private static func ark(_ inputs: [String: [UInt8]]) -> Certificate? {
        if inputs["vek"] != nil { return inputs["chain"].flatMap { try? Certificate.chain(pem: $0).last } }
        guard let table = inputs["auxblob"].flatMap({ try? CertificateTable($0) }) else { return nil }
        return table[.ark].flatMap { try? Certificate.read($0) }
    }

    /// `root` if the policy names its key as that of a simulated TEE; everything after is marked then. Whether anything
    /// really leads to that root is for the judge to find out.
    private mutating func simulatedRoot(_ root: Certificate?) -> Certificate? {
        guard let root, let key = try? root.publicKey(),
            policy.simulatedRoots.contains(HashAlgorithm.sha256.hash(key.spki))
        else { return nil }
        markSimulated()
        return root
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
            policy[key] = .hex(value)
        }
        var inputs = try collateral("tdx", ["collateral"])
        inputs["quote"] = tee.report
        let chain = (try? Quote(parsing: tee.report))?.signature.certificateChain ?? []
        inputs["root"] = simulatedRoot(try? Certificate.chain(pem: chain).last).map(\.der)
        try judge("tdx", inputs, .object(policy))
        // MRTD is the firmware, RTMR 1 and 2 are what it started.
        hardwareCoversImage = true
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
