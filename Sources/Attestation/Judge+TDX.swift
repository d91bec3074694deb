import Bytes
import TDX

extension Judge {
    /// Shared by every judgement of this process; bounded, and holds only what does not depend on time.
    private static let tdxCache = VerificationCache()

    /// The kind `tdx`: inputs `quote`, `collateral` and `root` (Intel's own where absent), policy as `TDXPolicy`.
    static func tdx(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let policy: TDXPolicy
        do {
            policy = try TDXPolicy(evidence.policy)
        } catch {
            throw error.finding
        }
        return tdx(
            quote: try evidence.input("quote"), collateral: try evidence.input("collateral"),
            root: evidence.inputs["root"], policy: policy, time: evidence.time)
    }

    /// Judges one quote; also for kinds that carry a TDX quote inside other evidence.
    ///
    /// Claims: `authentic`, `tcb_status`, `advisory_ids`, the decoded body, platform and collateral. A root other than
    /// Intel's is judged like any other and marked `simulated`.
    public static func tdx(
        quote bytes: [UInt8], collateral: [UInt8], root: [UInt8]?, policy: TDXPolicy, time: Instant
    ) -> Verdict {
        var claims: [String: JSON] = ["authentic": false, "tcb_status": .null]
        let verifier = QuoteVerifier(root: root ?? IntelRoot.der, cache: tdxCache)
        let marks = root == nil || verifier.trustsIntel ? [] : ["simulated"]
        let quote: Quote
        do {
            quote = try Quote(parsing: bytes)
        } catch {
            return .reject(error.finding, claims: claims, marks: marks)
        }
        quote.addClaims(to: &claims)
        let unchecked = policy.unchecked(quote.body)
        do {
            let verified = try verifier.verify(quote, collateral: collateral, at: time)
            verified.addClaims(to: &claims)
            try policy.appraise(verified)
            return .accept(claims: claims, unchecked: unchecked, marks: marks)
        } catch {
            return .reject(error, claims: claims, unchecked: unchecked, marks: marks)
        }
    }
}

extension Quote {
    /// What the TD says about itself, before anything is verified.
    func addClaims(to claims: inout [String: JSON]) {
        claims["quote_version"] = .integer(Int128(header.version))
        claims["td_report"] = body.extended == nil ? "1.0" : "1.5"
        claims["tee_tcb_svn"] = .hex(body.teeTCBSVN)
        claims["mr_signer_seam"] = .hex(body.mrSignerSEAM)
        claims["seam_attributes"] = .hex(body.seamAttributes)
        for register in TDXPolicy.Register.allCases {
            claims[register.rawValue] = register.value(in: body).map { .hex($0) }
        }
        if let extended = body.extended { claims["tee_tcb_svn2"] = .hex(extended.teeTCBSVN2) }
        let flags: [(String, TDAttributes)] = [
            ("DEBUG", .debug), ("SEPT_VE_DISABLE", .septVEDisable), ("MIGRATABLE", .migratable), ("PKS", .pks),
            ("KL", .keyLocker), ("PERFMON", .perfmon),
        ]
        claims["td_attributes_set"] = .array(
            flags.filter { body.attributes.contains($0.1) }.map { .string($0.0) })
        claims["qe_svn"] = .integer(Int128(signature.qeReport.isvSVN))
        claims["mr_qe"] = .hex(signature.qeReport.mrEnclave)
    }
}

extension VerifiedQuote {
    /// What verification established about the platform and how current it is.
    func addClaims(to claims: inout [String: JSON]) {
        claims["authentic"] = true
        claims["tcb_status"] = .string(tcb.status.rawValue)
        claims["advisory_ids"] = .array(tcb.advisories.map { .string($0) })
        claims["tcb"] = .fields([
            "sgx": .string(tcb.sgxStatus.rawValue),
            "platform": .string(tcb.platformStatus.rawValue),
            "module": tcb.moduleStatus.map { .string($0.rawValue) },
            "qe": .string(tcb.qeStatus.rawValue),
            "date": .string(tcb.platformDate.description),
        ])
        claims["tcb_eval"] = .integer(Int128(evaluationDataNumber))
        claims["collateral"] = .fields([
            "tcb_info_issued": .string(tcbInfo.issueDate.description),
            "qe_identity_issued": .string(qeIdentity.issueDate.description),
            "valid_until": .string(validUntil.description),
            "tcb_info_eval": .integer(Int128(tcbInfo.evaluationDataNumber)),
            "qe_identity_eval": .integer(Int128(qeIdentity.evaluationDataNumber)),
        ])
        claims["fmspc"] = .hex(platform.fmspc)
        claims["pce_id"] = .hex(platform.pceID)
        claims["pce_svn"] = .integer(Int128(platform.pceSVN))
        claims["ppid"] = .hex(platform.ppid)
        claims["piid"] = platform.platformInstanceID.map { .hex($0) }
        claims["pck_issuer"] = .string(issuer)
    }
}
