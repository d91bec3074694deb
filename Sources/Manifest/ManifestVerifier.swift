import Bytes
import Crypto

/// A manifest whose signature, content and validity have been checked; only `ManifestVerifier` makes one.
public struct VerifiedManifest: Sendable, Equatable {
    public let manifest: Manifest
    public let role: TrustRoot.Role
    /// SHA-256 of the signer's SubjectPublicKeyInfo, hexadecimal.
    public let signer: String
    /// What stands in the bundle and was not checked.
    public let unchecked: [String]

    fileprivate init(manifest: Manifest, role: TrustRoot.Role, signer: String, unchecked: [String]) {
        self.manifest = manifest
        self.role = role
        self.signer = signer
        self.unchecked = unchecked
    }
}

/// Signs manifests and verifies them against pinned keys (DSSE over an in-toto statement, in a Sigstore bundle).
public enum ManifestVerifier {
    /// Whether `bundle` is a signature over this manifest at all, by whatever key: before both are put into one file.
    public static func checkSubject(manifest bytes: [UInt8], bundle: [UInt8]) throws(Finding) {
        let statement: Statement
        do throws(ParseError) {
            statement = try Statement(parsing: try Bundle(parsing: bundle).envelope.payload)
        } catch { throw error.finding }
        try check(bytes, against: statement)
    }

    private static func check(_ bytes: [UInt8], against statement: Statement) throws(Finding) {
        let digest = HashAlgorithm.sha256.hash(bytes)
        guard constantTimeEqual(digest, statement.subjectDigest) else {
            throw Finding(
                "manifest-digest", claim: "manifest sha256", expected: Hex.encode(statement.subjectDigest),
                actual: Hex.encode(digest), source: "the signed statement",
                next: "this is not the file that was signed: fetch manifest and bundle again")
        }
    }

    /// A bundle for the manifest in `bytes`, called `name`. Refuses to sign what it would not accept.
    public static func sign(_ bytes: [UInt8], name: String, key: PrivateKey) throws(Finding) -> Bundle {
        let manifest = try Manifest(parsing: bytes)
        let publicKey = key.publicKey
        guard let scheme = publicKey.manifestScheme else {
            throw Finding(
                "key-type", claim: "signing key", expected: "P-256, P-384 or Ed25519", actual: "\(publicKey.kind)",
                source: "nacre.manifest.v1")
        }
        let payload = Statement(manifest: manifest, bytes: bytes, name: name).bytes
        let encoded = Envelope.preAuthenticationEncoding(payloadType: Envelope.inTotoPayloadType, payload: payload)
        do {
            let envelope = Envelope(
                payloadType: Envelope.inTotoPayloadType, payload: payload,
                signature: try key.sign(encoded, scheme: scheme))
            return Bundle(envelope: envelope, publicKeyHint: publicKey.hint)
        } catch {
            throw Finding("key-unusable", claim: "signing key", actual: error.message)
        }
    }

    /// Judges `manifest` (the file's bytes) with `bundle` under the pinned keys at `time`.
    ///
    /// In this order, so that nothing unauthenticated is interpreted: bundle's form; signature by a pinned key over the
    /// envelope; the statement names exactly these bytes; the manifest's form and its own consistency; the statement's
    /// predicate agrees; `notAfter`.
    public static func verify(
        manifest bytes: [UInt8], bundle: [UInt8], trustRoot: TrustRoot, at time: Instant
    ) throws(Finding) -> VerifiedManifest {
        let statement: Statement
        let bundleRead: Bundle
        let signer: TrustRoot.Key
        do {
            bundleRead = try Bundle(parsing: bundle)
            signer = try checkSignature(bundleRead.envelope, trustRoot)
            statement = try Statement(parsing: bundleRead.envelope.payload)
        } catch let error as ParseError {
            throw error.finding
        } catch let error as Finding {
            throw error
        } catch {
            throw Finding("parse-form", claim: "bundle", actual: "\(error)")
        }
        guard statement.predicateType == Statement.predicateType else {
            throw Finding(
                "manifest-predicate-type", claim: "statement.predicateType", expected: Statement.predicateType,
                actual: statement.predicateType, source: "nacre.manifest.v1",
                next: "the key signed something else than a manifest")
        }
        try check(bytes, against: statement)
        let manifest = try Manifest(parsing: bytes)
        guard statement.predicate == Statement.predicate(of: manifest) else {
            throw Finding(
                "manifest-predicate", claim: "statement.predicate", expected: Statement.predicate(of: manifest).compact,
                actual: statement.predicate.compact, source: "the manifest")
        }
        guard time <= manifest.notAfter else {
            throw Finding(
                "expired-manifest", claim: "manifest notAfter", expected: "not after \(manifest.notAfter)",
                actual: time.description, source: "the manifest", next: "upgrade to a current release")
        }
        var unchecked: [String] = []
        if !bundleRead.logEntries.isEmpty { unchecked.append("transparency log entries in the bundle") }
        if bundleRead.hasTimestamps { unchecked.append("signed timestamps in the bundle") }
        return VerifiedManifest(
            manifest: manifest, role: signer.role, signer: signer.key.fingerprint, unchecked: unchecked)
    }

    private static func checkSignature(_ envelope: Envelope, _ trustRoot: TrustRoot) throws(Finding) -> TrustRoot.Key {
        guard envelope.payloadType == Envelope.inTotoPayloadType else {
            throw Finding(
                "manifest-payload-type", claim: "dsseEnvelope.payloadType", expected: Envelope.inTotoPayloadType,
                actual: envelope.payloadType, source: "in-toto attestation framework v1")
        }
        let signed = envelope.signedBytes
        for candidate in trustRoot.keys {
            guard let scheme = candidate.key.manifestScheme else { continue }
            do {
                try candidate.key.verify(envelope.signature, of: signed, scheme: scheme)
                return candidate
            } catch {
                continue
            }
        }
        throw Finding(
            "signature-manifest", claim: "dsseEnvelope.signatures[0]",
            expected: "a signature by " + trustRoot.keys.map(\.key.fingerprint).joined(separator: " or "),
            actual: "none of these keys made it", source: "the trust root",
            next: "the manifest is forged or the trust root is another owner's")
    }
}
