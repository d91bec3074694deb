import Bytes
import Crypto
import Manifest
import SEVSNP
import TDX
import TPM

/// Collateral, signatures and the other inputs of raw kinds.
extension EvidenceExplanation {
    static func describe(_ certificate: Certificate) -> String {
        "\(certificate.subject), issued by \(certificate.issuer), "
            + "\(certificate.notBefore?.description ?? "?") to \(certificate.notAfter?.description ?? "?")"
    }

    static func certificates(_ chain: [Certificate], _ kind: String) -> EvidenceExplanation {
        EvidenceExplanation(
            kind, chain.enumerated().map { row("certificate \($0.offset)", describe($0.element)) })
    }

    static func revocationList(_ list: RevocationList) -> EvidenceExplanation {
        let serials = list.revokedSerials.map { Hex.encode($0) }.sorted()
        return EvidenceExplanation(
            "revocation list",
            [
                row("issuer", list.issuer), row("this update", list.thisUpdate?.description ?? "not stated"),
                row("next update", list.nextUpdate?.description ?? "not stated"),
                row("revoked", "\(serials.count) serial numbers"),
            ] + serials.prefix(64).map { row("revoked serial", $0) })
    }

    /// `nacre.collateral.v1`.
    static func collateral(_ bundle: CollateralBundle) throws -> [Appraisal.Step] {
        try bundle.items.sorted { $0.key < $1.key }.flatMap { key, item -> [Appraisal.Step] in
            switch item {
            case .intel(_, let collateral):
                try self.collateral(collateral).map { row("\(key).\($0.claim)", $0.detail) }
            case .endorsement(let der): [row(key, describe(try Certificate(der: der)))]
            case .chain(_, _, let pem): try Certificate.chain(pem: pem).map { row(key, describe($0)) }
            case .revocationList(_, _, let der):
                revocationList(try RevocationList(der: der)).rows.map { row("\(key).\($0.claim)", $0.detail) }
            }
        }
    }

    /// Intel's collateral: what the two signed objects say of themselves, the chains and the lists.
    static func collateral(_ collateral: Collateral) throws -> [Appraisal.Step] {
        var rows: [Appraisal.Step] = []
        for (name, bytes) in [("tcb info", collateral.tcbInfo), ("qe identity", collateral.qeIdentity)] {
            let json = try JSON(parsing: bytes, limit: Collateral.maximumSize)
            let fields = [
                "id", "version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbEvaluationDataNumber", "mrsigner",
            ]
            for field in fields {
                if let value = json[field] { rows.append(row("\(name).\(field)", value.string ?? value.compact)) }
            }
            rows.append(row("\(name).levels", "\(json["tcbLevels"]?.array?.count ?? 0)"))
        }
        for (name, pem) in [
            ("pck crl chain", collateral.pckCRLIssuerChain), ("tcb info chain", collateral.tcbInfoIssuerChain),
            ("qe identity chain", collateral.qeIdentityIssuerChain),
        ] {
            rows += try Certificate.chain(pem: pem).map { row(name, describe($0)) }
        }
        for (name, der) in [("pck crl", collateral.pckCRL), ("root crl", collateral.rootCRL)] {
            rows += revocationList(try RevocationList(der: der)).rows.map { row("\(name).\($0.claim)", $0.detail) }
        }
        return rows
    }

    static func signature(_ signature: TPMSignature) -> EvidenceExplanation {
        let (scheme, parts): (String, [(String, [UInt8])]) =
            switch signature {
            case .rsaSSA(let hash, let value): ("RSASSA, \(hash.rawValue)", [("value", value)])
            case .rsaPSS(let hash, let value): ("RSAPSS, \(hash.rawValue)", [("value", value)])
            case .ecdsa(let hash, let r, let s): ("ECDSA, \(hash.rawValue)", [("r", r), ("s", s)])
            }
        return EvidenceExplanation(
            "TPM signature (TPMT_SIGNATURE)",
            [row("scheme", scheme)] + parts.map { row($0.0, Hex.encode($0.1)) })
    }

    static func localReport(_ report: TDReport) -> EvidenceExplanation {
        var rows = [
            // Both were checked while it was read.
            row("hashes", "of TEE_TCB_INFO and TDINFO, as in the report", held: true),
            row("mac", "only the processor that made it can check it"), row("cpusvn", Hex.encode(report.cpuSVN)),
            row("report_data", Hex.encode(report.body.reportData)), row("mr_td", Hex.encode(report.body.mrTD)),
        ]
        for (index, value) in report.body.rtmrs.enumerated() { rows.append(row("rtmr\(index)", Hex.encode(value))) }
        return EvidenceExplanation("TDREPORT", rows)
    }

    static func nitro(_ document: NitroTPMDocument) throws -> EvidenceExplanation {
        var rows = [row("module", document.moduleID), row("timestamp", "\(document.timestamp) ms since 1970")]
        for (name, value) in [("nonce", document.nonce), ("user data", document.userData)] {
            if let value { rows.append(row(name, Hex.encode(value))) }
        }
        let certificate = try Certificate(der: document.certificate)
        rows.append(row("certificate", describe(certificate)))
        for der in document.bundle { rows.append(row("issuer", describe(try Certificate(der: der)))) }
        rows += document.pcrs.sorted.map { row(PCRBank.claim($0.hash, $0.index), Hex.encode($0.digest)) }
        return EvidenceExplanation("AWS NitroTPM attestation document", rows)
    }

    /// A Sigstore bundle over a manifest, or over something else.
    static func signature(_ bundle: Bundle) -> EvidenceExplanation {
        var rows = [
            row("payload type", bundle.envelope.payloadType), row("key hint", bundle.publicKeyHint),
            row("log entries", "\(bundle.logEntries.count)"), row("timestamps", bundle.hasTimestamps ? "yes" : "none"),
        ]
        if let statement = try? Statement(parsing: bundle.envelope.payload) {
            rows += [
                row("subject", statement.subjectName), row("subject sha256", Hex.encode(statement.subjectDigest)),
                row("predicate", statement.predicateType),
            ]
        }
        return EvidenceExplanation("Sigstore bundle", rows)
    }

    static func trustRoot(_ root: TrustRoot) -> EvidenceExplanation {
        EvidenceExplanation(
            "trust root",
            root.keys.map { row("\($0.role.rawValue) key", Hex.encode(HashAlgorithm.sha256.hash($0.key.spki))) })
    }
}
