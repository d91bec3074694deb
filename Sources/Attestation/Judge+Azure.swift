import Bytes
import Crypto
import TDX
import TPM

extension Judge {
    /// Kind `azure`: a confidential VM's vTPM quote, whose key an SEV-SNP report or a TDX quote vouches for through
    /// the HCL report's runtime data.
    ///
    /// Inputs `hcl`, `attest`, `signature`, `pcrs`, optional `log` and `userspace-log`; `vek`, `chain`, `roots`,
    /// optional `crl` (SNP) or `quote`, `collateral`, `root` (TDX); optional `ak_chain` with `ak_roots`. Policy as in
    /// `QuotePolicy`, and `snp`, `tdx` for the hardware's part, whose reasons start with `snp-` or `tdx-`.
    static func azure(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let (policy, snp, tdx) = try evidence.readPolicy { (fields) throws(ParseError) in
            let (snp, tdx) = (fields.optional("snp"), fields.optional("tdx"))
            return (try QuotePolicy(&fields), snp, tdx)
        }
        let report = try evidence.parse("hcl") { (bytes) throws(ParseError) in try HCLReport(parsing: bytes) }
        try checkHardware(report, snp: snp, tdx: tdx)
        let hardware = try hardware(report, evidence, snp: snp, tdx: tdx)
        if let finding = hardware.verdict.finding {
            let prefixed = Finding(
                "\(hardware.name)-\(finding.reason)", claim: finding.claim, expected: finding.expected,
                actual: finding.actual, source: finding.source, next: finding.next)
            return .reject(prefixed, claims: [hardware.name: .object(hardware.verdict.claims)])
        }
        try checkBinding(report, reportData: hardware.reportData)
        let unquoted = try checkQuoted(report, hardware.quoted)
        let runtime: HCLReport.RuntimeData
        do {
            runtime = try report.decodeRuntimeData()
        } catch { throw error.finding }

        let pcrs = try evidence.parse("pcrs") { (bytes) throws(ParseError) in try PCRBank(parsing: bytes) }
        var appraisal = try QuoteAppraisal(
            try quote(evidence), ak: AttestationKey(runtime.attestationKey), pcrs: pcrs,
            log: try evidence.eventLog(), userspace: try evidence.userspaceLog(), policy: policy)
        // The paravisor makes this key as an attestation key and says so in what the hardware vouches for.
        appraisal.unchecked.removeAll { $0 == "ak.attributes" }
        if evidence.inputs["ak_chain"] != nil {
            let trust = try trust(evidence, chain: "ak_chain", roots: "ak_roots")
            try trust.checkKey(runtime.attestationKey)
            appraisal.claims["ak"] = .object(trust.claims)
        }
        appraisal.claims["trust"] = .string(hardware.name)
        appraisal.claims[hardware.name] = .object(hardware.verdict.claims)
        appraisal.claims["configuration"] = runtime.configuration
        if let userData = runtime.userData { appraisal.claims["userData"] = .string(userData) }
        return .accept(
            claims: appraisal.claims,
            // The report data is the binding checked above.
            unchecked: appraisal.unchecked + unquoted
                + hardware.verdict.unchecked.filter { !$0.hasSuffix("report_data") }.map { "\(hardware.name).\($0)" },
            marks: hardware.verdict.marks)
    }

    private struct HardwareVerdict {
        let name: String
        let verdict: Verdict
        /// The report data that the hardware signed.
        let reportData: [UInt8]
        /// The body of the quote, which stands in for a TDREPORT.
        var quoted: TDBody?
    }

    /// A policy for one kind of hardware only is not met by the other: nobody would enforce it.
    private static func checkHardware(_ report: HCLReport, snp: JSON?, tdx: JSON?) throws(Finding) {
        let name =
            switch report.hardware {
            case .snp: "snp"
            case .tdx: "tdx"
            }
        guard (snp == nil && tdx == nil) || (name == "snp" ? snp : tdx) != nil else {
            throw Finding(
                "policy-hardware", claim: "hcl.reportType", expected: snp == nil ? "tdx" : "snp", actual: name,
                source: "the policy names only that hardware")
        }
    }

    /// The hardware's part, judged by its own kind.
    private static func hardware(
        _ report: HCLReport, _ evidence: EvidenceCase, snp: JSON?, tdx: JSON?
    ) throws(Finding) -> HardwareVerdict {
        switch report.hardware {
        case .snp(let bytes):
            var inputs = evidence.inputs.filter { ["vek", "chain", "roots", "crl"].contains($0.key) }
            inputs["report"] = bytes
            let verdict = judge(
                EvidenceCase(kind: "snp", inputs: inputs, policy: snp ?? .object([:]), time: evidence.time))
            return HardwareVerdict(name: "snp", verdict: verdict, reportData: report.reportData)
        case .tdx:
            let inputs = evidence.inputs.filter { ["quote", "collateral", "root"].contains($0.key) }
            let quote = try evidence.parse("quote") { (bytes) throws(ParseError) in try TDX.Quote(parsing: bytes) }
            let verdict = judge(
                EvidenceCase(kind: "tdx", inputs: inputs, policy: tdx ?? .object([:]), time: evidence.time))
            return HardwareVerdict(
                name: "tdx", verdict: verdict, reportData: quote.body.reportData, quoted: quote.body)
        }
    }

    /// Refuses runtime data that the hardware does not vouch for: SHA256(runtime data) ‖ 0³² is the signed report data,
    /// and for TDX also that of the TDREPORT in the HCL report, so that report and quote belong together.
    private static func checkBinding(_ report: HCLReport, reportData: [UInt8]) throws(Finding) {
        for actual in [reportData, report.reportData] {
            guard constantTimeEqual(actual, report.expectedReportData) else {
                throw Finding(
                    "hcl-binding", claim: "hcl.runtimeData", expected: Hex.encode(report.expectedReportData),
                    actual: Hex.encode(actual), source: "the hardware's report data; expected: the runtime data's hash",
                    next: "the runtime data was changed, or belongs to another machine")
            }
        }
    }

    /// Refuses a TDREPORT whose claims are not those of the quote: it would be of another TD, or of another moment of
    /// this one. Returns what of it nothing vouches for: its MAC, which only its own CPU can check, and claims that only
    /// one of the two makes.
    private static func checkQuoted(_ report: HCLReport, _ quoted: TDBody?) throws(Finding) -> [String] {
        guard case .tdx(let bytes) = report.hardware, let quoted else { return [] }
        let body: TDBody
        do { body = try TDReport(parsing: bytes).body } catch { throw error.finding }
        var unchecked = ["hcl.tdreport.cpusvn", "hcl.tdreport.mac"]
        func compare(_ name: String, _ reported: [UInt8]?, _ expected: [UInt8]?) throws(Finding) {
            guard let reported, let expected else {
                if reported != nil || expected != nil { unchecked.append("hcl.tdreport.\(name)") }
                return
            }
            guard constantTimeEqual(reported, expected) else {
                throw Finding(
                    "hcl-tdreport", claim: "hcl.tdreport.\(name)", expected: Hex.encode(expected),
                    actual: Hex.encode(reported), source: "the quote",
                    next: "the HCL report and the quote are of different machines or moments: take both again")
            }
        }
        for register in TDXPolicy.Register.allCases {
            try compare(register.rawValue, register.value(in: body), register.value(in: quoted))
        }
        try compare("tee_tcb_svn", body.teeTCBSVN, quoted.teeTCBSVN)
        try compare("mr_signer_seam", body.mrSignerSEAM, quoted.mrSignerSEAM)
        try compare("seam_attributes", body.seamAttributes, quoted.seamAttributes)
        try compare("tee_tcb_svn2", body.extended?.teeTCBSVN2, quoted.extended?.teeTCBSVN2)
        return unchecked
    }
}
