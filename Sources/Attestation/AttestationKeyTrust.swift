import Bytes
import Crypto
import TPM

/// Whether somebody trustworthy vouches for a TPM attestation key: certificates up to a given root (endorsement
/// authorities of TPM vendors, Google, Azure).
public struct AttestationKeyTrust: Sendable {
    /// The attestation key's certificate.
    public let leaf: AttestationKeyCertificate
    /// Subject of the last certificate given or the root's issuer name, for people.
    public let issuer: String

    public static let maximumChain = 8

    /// What the certified key is for (TCG EK Credential Profile §3.5).
    public enum Usage: Sendable {
        /// Signs quotes: digitalSignature, tcg-kp-AIKCertificate where purposes are limited.
        case attestation
        /// Receives the secret that proves an attestation key to be in the same TPM: tcg-kp-EKCertificate where
        /// purposes are limited. It signs nothing.
        case endorsement
    }

    /// Judges a chain.
    ///
    /// - Parameters:
    ///   - chain: leaf first; the order of the rest does not matter.
    ///   - roots: trust anchors; self-signed, but for endorsement keys, where a vendor's issuing authority may be named
    ///     itself: few TPMs bring the certificates between their own and the root's.
    ///   - time: the time to judge at.
    ///   - usage: what the leaf's key has to be for.
    /// - Throws: reasons `ak-chain`, `ak-expired`, `ak-not-yet-valid`, `ak-usage`, `parse-form`.
    public init(chain: [Certificate], roots: [Certificate], at time: Instant, usage: Usage = .attestation)
        throws(Finding)
    {
        guard let first = chain.first, chain.count <= Self.maximumChain, !roots.isEmpty else {
            throw Finding(
                "ak-chain", claim: "ak.chain", expected: "1 to \(Self.maximumChain) certificates and a root",
                actual: "\(chain.count) certificates, \(roots.count) roots")
        }
        do { leaf = try AttestationKeyCertificate(first) } catch { throw error.finding }
        issuer = first.issuer
        // OpenSSL's default policy still takes SHA-1 below the root.
        if let weak = chain.first(where: { Self.isWeak($0.signatureAlgorithm) }) {
            throw Finding(
                "ak-chain", claim: weak.subject, expected: "a signature by SHA-256 or stronger",
                actual: weak.signatureAlgorithm, source: "this verifier")
        }
        do {
            try first.verifyPath(
                intermediates: Array(chain.dropFirst()), roots: roots, at: time, endsAtAny: usage == .endorsement)
        } catch {
            throw Self.finding(error, chain: chain + roots, at: time)
        }
        try Self.checkUsage(leaf, usage)
    }

    private static func isWeak(_ algorithm: String) -> Bool {
        let name = algorithm.lowercased()
        return name.contains("sha1") || name.contains("md5") || name == "unknown"
    }

    private static func finding(_ error: PathError, chain: [Certificate], at time: Instant) -> Finding {
        guard error.isExpired else {
            return Finding(
                "ak-chain", claim: "ak.chain", expected: "a path to one of the given roots", actual: error.message,
                source: "the given roots", next: "name the root of the machine's cloud or TPM vendor")
        }
        let early = chain.first { $0.notBefore.map { time < $0 } ?? true }
        let culprit = early ?? chain.first { !$0.isValid(at: time) }
        return Finding(
            early == nil ? "ak-expired" : "ak-not-yet-valid", claim: culprit?.subject ?? "ak.chain",
            expected: "valid at \(time)",
            actual: "\(culprit?.notBefore?.description ?? "?") to \(culprit?.notAfter?.description ?? "?")",
            source: "the certificate", next: "fetch a current certificate for the key")
    }

    /// The leaf is an end entity and for this use: an endorsement key's certificate is not an attestation key's.
    private static func checkUsage(_ leaf: AttestationKeyCertificate, _ usage: Usage) throws(Finding) {
        let purpose =
            usage == .attestation
            ? AttestationKeyCertificate.attestationUsage : AttestationKeyCertificate.endorsementUsage
        let isFor = leaf.extendedUsages?.contains(purpose) ?? true
        guard leaf.maySign || usage == .endorsement, isFor, !leaf.certificate.isCA else {
            throw Finding(
                "ak-usage", claim: leaf.certificate.subject,
                expected: usage == .attestation
                    ? "digitalSignature, no CA, purpose \(purpose) where limited"
                    : "no CA, purpose \(purpose) where limited",
                actual: "signs: \(leaf.maySign), CA: \(leaf.certificate.isCA), "
                    + "purposes: \(leaf.extendedUsages?.joined(separator: " ") ?? "any")",
                source: "TCG EK Credential Profile", next: "give the certificate of the right key")
        }
    }

    /// Refuses a certificate for another key than `key`.
    public func checkKey(_ key: PublicKey) throws(Finding) {
        guard let certified = try? leaf.certificate.publicKey(), certified == key else {
            throw Finding(
                "ak-binding", claim: "ak", expected: "the key of \(leaf.certificate.subject)", actual: "another key",
                source: "the attestation key's certificate", next: "give the certificate of this machine's key")
        }
    }

    /// Refuses another machine than `policy` describes: fields of Google's extension, those that are present.
    ///
    /// - Throws: `ak-instance`, also where the certificate says that the machine is not a production one;
    ///   `parse-form` for a field that is unknown or of another type.
    public func checkInstance(_ policy: JSON) throws(Finding) {
        guard let instance = leaf.instance else {
            throw Finding(
                "ak-instance", claim: "ak.instance", expected: "Google's extension \(GCEInstance.oid)", actual: "none",
                source: "policy.instance")
        }
        guard let actual = instance.json.object, let expected = policy.object else {
            throw ParseError("form", field: "policy.instance", offset: 0, "must be an object").finding
        }
        for (key, value) in expected.sorted(by: { $0.key < $1.key }) {
            let known = ["zone", "project_number", "project_id", "instance_id", "instance_name", "production"]
            guard known.contains(key) else {
                throw ParseError("form", field: "policy.instance.\(key)", offset: 0, "unknown field").finding
            }
            guard actual[key] == value else {
                throw Finding(
                    "ak-instance", claim: "ak.instance.\(key)", expected: value.compact,
                    actual: actual[key]?.compact ?? "not stated", source: "policy.instance",
                    next: "the key belongs to another machine")
            }
        }
    }

    /// A key of a machine that says it is not in production is nobody's to trust.
    public func checkProduction() throws(Finding) {
        guard leaf.instance?.isProduction != false else {
            throw Finding(
                "ak-instance", claim: "ak.instance.production", expected: "true", actual: "false",
                source: "Google's extension \(GCEInstance.oid)")
        }
    }

    /// What the chain established.
    public var claims: [String: JSON] {
        var claims: [String: JSON] = [
            "subject": .string(leaf.certificate.subject), "issuer": .string(issuer),
            "certificate": .hex(leaf.certificate.sha256),
        ]
        if let key = try? leaf.certificate.publicKey() { claims["key"] = .hex(HashAlgorithm.sha256.hash(key.spki)) }
        if let instance = leaf.instance { claims["instance"] = instance.json }
        return claims
    }
}
