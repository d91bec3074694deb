import AttestedTLS
import Bytes
import Crypto

/// The key that owns a cluster: P-256, made by the owner, sealed at rest.
public struct OwnerKey: Sendable {
    private let key: PrivateKey

    /// A new one.
    public init() throws(Finding) {
        do { key = try PrivateKey(generating: .p256) } catch { throw Self.finding(error) }
    }

    /// From a sealed document, whose identifier must be this key's.
    public init(opening document: SealedDocument, passphrase: borrowing Secret) throws(Finding) {
        guard document.content == .ownerKey else {
            throw Finding(
                "parse-form", claim: "owner key", expected: SealedDocument.Content.ownerKey.rawValue,
                actual: document.content.rawValue, source: SealedDocument.schema)
        }
        let pem = try document.open(passphrase: passphrase)
        do { key = try PrivateKey(secret: pem) } catch { throw Self.finding(error) }
        guard key.publicKey.kind == .p256, constantTimeEqual(digest, document.identifier) else {
            throw Finding("key-kind", claim: "owner key", expected: "the P-256 key that the document names")
        }
    }

    public func sealed(
        passphrase: borrowing Secret, logN: Int = SealedDocument.standardLogN
    ) throws(Finding) -> SealedDocument {
        let pem: Secret
        do { pem = try key.secret() } catch { throw Self.finding(error) }
        return try SealedDocument(
            sealing: pem, .ownerKey, identifier: digest, passphrase: passphrase, logN: logN)
    }

    /// SHA-256 over SubjectPublicKeyInfo: what nodes measure.
    public var digest: [UInt8] { HashAlgorithm.sha256.hash(key.publicKey.spki) }

    /// The proof for the session whose own binding this is.
    public func prove(_ binding: [UInt8]) throws(Finding) -> OwnerProof {
        do {
            return OwnerProof(
                publicKey: key.publicKey.spki, signature: try key.sign(binding, scheme: .ecdsa(.sha256)))
        } catch { throw Self.finding(error) }
    }

    /// SubjectPublicKeyInfo, DER.
    var publicKey: [UInt8] { key.publicKey.spki }

    /// ECDSA with SHA-256 over a message that says itself what it is.
    func sign(_ message: [UInt8]) throws(Finding) -> [UInt8] {
        do { return try key.sign(message, scheme: .ecdsa(.sha256)) } catch { throw Self.finding(error) }
    }

    private static func finding(_ error: CryptoError) -> Finding {
        Finding("key-form", claim: "owner key", actual: error.message)
    }
}

/// `nacre.ownerproof.v1`: who holds the owner key is at this end of this session. ECDSA with SHA-256 over the 64 bytes of
/// the sender's binding, which names protocol, session, direction, cluster and purpose.
public struct OwnerProof: Sendable, Equatable {
    public static let schema = "nacre.ownerproof.v1"

    /// SubjectPublicKeyInfo, DER.
    public let publicKey: [UInt8]
    /// ECDSA-Sig-Value, DER.
    public let signature: [UInt8]

    public init(publicKey: [UInt8], signature: [UInt8]) {
        self.publicKey = publicKey
        self.signature = signature
    }

    public var json: JSON {
        ["schema": .string(Self.schema), "publicKey": .base64(publicKey), "signature": .base64(signature)]
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 4096), path: "ownerproof")
        try fields.schema(Self.schema)
        publicKey = try fields.base64("publicKey")
        signature = try fields.base64("signature")
        try fields.end()
    }

    /// - Returns: SHA-256 of the key that was proved.
    /// - Throws: `parse-…`, `key-kind`, or `signature-binding` for a proof about another session, end, cluster or purpose.
    public static func judge(_ proof: [UInt8], binding: [UInt8]) throws(ChannelRefusal) -> [UInt8] {
        let parsed: OwnerProof
        do { parsed = try OwnerProof(parsing: proof) } catch {
            throw ChannelRefusal("parse-\(error.detail)", explanation: "\(error)")
        }
        let key: PublicKey
        do { key = try PublicKey(spki: parsed.publicKey) } catch {
            throw ChannelRefusal("key-form", explanation: error.message)
        }
        guard key.kind == .p256 else { throw ChannelRefusal("key-kind", explanation: "an owner key is P-256") }
        do { try key.verify(parsed.signature, of: binding, scheme: .ecdsa(.sha256)) } catch {
            throw ChannelRefusal("signature-binding", explanation: "not a signature over this session")
        }
        // Of the key as it was read: another encoding of the same key is the same owner.
        return HashAlgorithm.sha256.hash(key.spki)
    }
}
