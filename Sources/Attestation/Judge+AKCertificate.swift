import Bytes
import Crypto
import TPM

extension Judge {
    /// Kind `akcert`: a certificate chain for a TPM's attestation key.
    ///
    /// Inputs `chain` (PEM leaf first, or the leaf's DER as read from NV), `roots`; policy `instance`.
    static func akCertificate(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let instance = try evidence.readPolicy { (fields) throws(ParseError) in fields.optional("instance") }
        let trust = try trust(evidence, chain: "chain", roots: "roots")
        if let instance { try trust.checkInstance(instance) }
        let isUnchecked = trust.leaf.instance != nil && instance == nil
        return .accept(claims: trust.claims, unchecked: isUnchecked ? ["ak.instance"] : [])
    }

    /// The trust that the certificates in two inputs give.
    static func trust(_ evidence: EvidenceCase, chain: String, roots: String) throws(Finding) -> AttestationKeyTrust {
        let trust = try AttestationKeyTrust(
            chain: try evidence.parse(chain) { (bytes) throws(ParseError) in
                try AttestationKeyCertificate.chain(bytes)
            },
            roots: try evidence.parse(roots) { (bytes) throws(ParseError) in
                try AttestationKeyCertificate.chain(bytes, limit: 64)
            },
            at: evidence.time)
        try trust.checkProduction()
        return trust
    }
}
