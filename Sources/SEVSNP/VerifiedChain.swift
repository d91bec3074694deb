import Bytes
import Crypto

/// An endorsement key under its ASK or ASVK and a pinned ARK, with every signature on the way verified once.
///
/// What depends on the time (validity, currency of the revocation list) is kept as a window and checked by each
/// `verify`, so that one value serves any number of reports at any times and each costs one P-384 verification.
/// The order of checks is that of the reference, "SEV-SNP: certificates".
public struct VerifiedChain: Sendable {
    public let endorsement: EndorsementKey
    /// ASK or ASVK.
    public let signer: Certificate
    /// ARK.
    public let root: Certificate
    public let product: Product
    /// Whether the root is one of AMD's shipped keys rather than one that only the caller trusts.
    public let isAMDRoot: Bool
    let windows: [ValidityWindow]
    private let verifier: PreparedVerifier
    let revocation: RevocationState

    /// - Parameters:
    ///   - chain: ASK or ASVK, then ARK, as the KDS serves them.
    ///   - roots: trusted ARKs; compared by public key, since AMD may reissue a certificate for the same key.
    ///   - revocationList: the ARK's list; what is wrong with it is reported by `requireValid` and `verify`.
    ///
    /// Errors: `chain` and details (length, names, CA flag, algorithm, signature, root), `product-mismatch`,
    /// `parse-certificate` (a certificate without usable dates).
    public init(
        endorsement: EndorsementKey, chain: [Certificate], roots: [Certificate], revocationList: RevocationList?
    ) throws(Finding) {
        guard chain.count == 2, let signer = chain.first, let root = chain.last else {
            throw ChainRule.broken(
                "length", "chain", expected: "two certificates: ASK or ASVK, then ARK", actual: "\(chain.count)")
        }
        let product = endorsement.product
        try ChainRule.name(signer, endorsement.kind.issuerCommonName(product), "chain.signer")
        try ChainRule.name(root, "ARK-\(product.rawValue)", "chain.root")
        guard !endorsement.certificate.isCA else {
            throw ChainRule.broken("ca", "vek", expected: "not a certificate authority", actual: "CA")
        }
        try ChainRule.noUnknownCritical(endorsement.certificate, "vek")
        let rootKey = try ChainRule.rsa4096(root, "chain.root")
        let signerKey = try ChainRule.rsa4096(signer, "chain.signer")
        let pins = roots.compactMap { try? $0.publicKey() }
        guard pins.contains(rootKey) else {
            throw ChainRule.broken(
                "root", "chain.root", expected: "one of \(roots.count) trusted root keys",
                actual: "key with SHA-256 \(Hex.encode(HashAlgorithm.sha256.hash(rootKey.spki)))")
        }
        try ChainRule.issued(root, by: root, key: rootKey, "chain.root")
        try ChainRule.issued(signer, by: root, key: rootKey, "chain.signer")
        try ChainRule.issued(endorsement.certificate, by: signer, key: signerKey, "vek")
        windows = [
            try ValidityWindow(endorsement.certificate, "vek"), try ValidityWindow(signer, "chain.signer"),
            try ValidityWindow(root, "chain.root"),
        ]
        do { verifier = try PreparedVerifier(endorsement.key, hash: .sha384) } catch {
            throw Finding("key-curve", claim: "vek.key", expected: "a P-384 key", actual: error.message)
        }
        self.endorsement = endorsement
        self.signer = signer
        self.root = root
        self.product = product
        isAMDRoot = AMDAnchors.contains(root: rootKey)
        revocation = revocationList.map { RevocationState($0, signer: signer, root: root) } ?? .notGiven
    }

    /// Whether a revocation list was given.
    public var checksRevocation: Bool { if case .notGiven = revocation { false } else { true } }

    /// Every certificate is valid at `time`, and the revocation list, if given, is the root's, current, and names none
    /// of them. Errors: `cert-expired`, `cert-not-yet-valid`, `crl` and details.
    public func requireValid(at time: Instant) throws(Finding) {
        for window in windows { try window.require(time, family: "cert") }
        switch revocation {
        case .notGiven: break
        case .bad(let finding): throw finding
        case .good(let window): try window.require(time, family: "crl")
        }
    }

    /// Verifies `report` at `time`: key kind, validity, signature, and that report and certificate speak of the same
    /// product, TCB and chip. Says nothing of policy.
    ///
    /// - Parameter allowMaskedChipID: accept a report whose host hides the chip id; nothing binds it to the chip then.
    ///
    /// Errors: those of `requireValid`, `key-kind`, `signature` and details, `product-mismatch`, `product-unknown`,
    /// `tcb-mismatch`, `tcb-reserved`, `hwid-masked`, `hwid-mismatch`.
    public func verify(
        _ report: AttestationReport, at time: Instant, allowMaskedChipID: Bool = false
    ) throws(Finding) -> VerifiedReport {
        try endorsement.requireKind(of: report.signingKey)
        try requireValid(at: time)
        try verifySignature(report)
        return try VerifiedReport(report, chain: self, allowMaskedChipID: allowMaskedChipID)
    }

    private func verifySignature(_ report: AttestationReport) throws(Finding) {
        guard let signature = report.signature.bigEndian else {
            throw Finding(
                "signature-range", claim: "report.signature", expected: "r and s from 1 to n - 1",
                actual: report.masksChipKey ? "no signature: the host masks the chip key" : "a number out of range",
                source: "FIPS 186-4 §6.4", next: "ask the guest for a new report")
        }
        do {
            try verifier.verify(raw: signature, of: report.signedBytes)
        } catch {
            throw Finding(
                "signature", claim: "report.signature",
                expected: "a signature by the \(endorsement.kind.rawValue) over the report", actual: error.message,
                source: "SEV-SNP ABI, ATTESTATION_REPORT",
                next: "the report was changed, or the certificate is of another chip or TCB")
        }
    }
}

/// The rules one certificate of the chain must keep.
enum ChainRule {
    static let source = "VCEK certificate specification"

    static func broken(_ detail: String, _ claim: String, expected: String, actual: String) -> Finding {
        Finding(
            "chain-\(detail)", claim: claim, expected: expected, actual: actual, source: source,
            next: "give the chain that AMD's KDS serves for this product and kind of key")
    }

    static func name(_ certificate: Certificate, _ expected: String, _ claim: String) throws(Finding) {
        guard certificate.commonName == expected else {
            throw broken("name", "\(claim).subject", expected: "CN=\(expected)", actual: certificate.subject)
        }
    }

    /// The key of an authority: flags, unknown critical extensions, RSA-4096.
    static func rsa4096(_ certificate: Certificate, _ claim: String) throws(Finding) -> PublicKey {
        guard certificate.isCA else {
            throw broken("ca", claim, expected: "a certificate authority", actual: "no CA flag or key usage")
        }
        try noUnknownCritical(certificate, claim)
        let key: PublicKey
        do { key = try certificate.publicKey() } catch {
            throw broken("key", claim, expected: "an RSA-4096 key", actual: error.message)
        }
        guard key.kind == .rsa(bits: 4096) else {
            throw broken("key", claim, expected: "an RSA-4096 key", actual: "\(key.kind)")
        }
        return key
    }

    /// basicConstraints and keyUsage may be critical; anything else that must be understood is not.
    static func noUnknownCritical(_ certificate: Certificate, _ claim: String) throws(Finding) {
        let known = ["2.5.29.15", "2.5.29.19"]
        if let item = certificate.extensions.first(where: { $0.critical && !known.contains($0.oid) }) {
            throw broken("extension", claim, expected: "no unknown critical extension", actual: item.oid)
        }
    }

    /// Issuer name, stated algorithm, signature.
    static func issued(
        _ certificate: Certificate, by issuer: Certificate, key: PublicKey, _ claim: String
    ) throws(Finding) {
        guard certificate.issuerDER == issuer.subjectDER else {
            throw broken("issuer", "\(claim).issuer", expected: issuer.subject, actual: certificate.issuer)
        }
        guard RSASSAPSS.isStated(in: certificate.der) else {
            throw broken(
                "algorithm", "\(claim).signatureAlgorithm", expected: "RSASSA-PSS, SHA-384, MGF1 SHA-384, salt 48",
                actual: certificate.signatureAlgorithm)
        }
        do { try certificate.verifySignature(by: key) } catch {
            throw broken(
                "signature", claim, expected: "a signature by \(issuer.subject)", actual: error.message)
        }
    }
}
