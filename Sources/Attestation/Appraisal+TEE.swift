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
            policy[key] = .hex(value)
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

    /// Inputs of a kind that were stored with the evidence (`nacre.evidencecollateral.v1`): kind → input → base64.
    private func collateral(_ kind: String, _ names: [String]) throws(Finding) -> [String: [UInt8]] {
        guard let document = evidence.collateral else { return [:] }
        do {
            return try EvidenceCollateral(json: document).inputs[kind, default: [:]].filter { names.contains($0.key) }
        } catch { throw error.finding }
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

/// Certificates and other collateral stored beside evidence so that it can be judged with no network,
/// `nacre.evidencecollateral.v1`. Untrusted: everything in it is verified when it is used.
public struct EvidenceCollateral: Sendable, Equatable {
    public static let schema = "nacre.evidencecollateral.v1"

    /// kind (`snp`, `tdx`) → input name → bytes.
    public var inputs: [String: [String: [UInt8]]]

    public init(inputs: [String: [String: [UInt8]]]) { self.inputs = inputs }

    private static let names: [String: Set<String>] = [
        "snp": ["vek", "chain", "crl"], "tdx": ["collateral"],
    ]

    public init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "collateral")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "collateral.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        inputs = [:]
        for (kind, names) in Self.names {
            guard let object = fields.optional(kind) else { continue }
            var part = try JSONFields(object, path: "collateral.\(kind)")
            var values: [String: [UInt8]] = [:]
            for name in names { values[name] = try part.optionalBase64(name) }
            try part.end()
            inputs[kind] = values
        }
        try fields.end()
    }

    public var json: JSON {
        var object: [String: JSON] = ["schema": .string(Self.schema)]
        for (kind, values) in inputs { object[kind] = .object(values.mapValues { .base64($0) }) }
        return .object(object)
    }
}
