import Bytes
import Crypto

/// A secret under a passphrase, `nacre.sealed.v1`: scrypt (RFC 7914) makes the key, AES-256-GCM seals. Every other field
/// of the document is authenticated with it.
public struct SealedDocument: Sendable, Equatable {
    public static let schema = "nacre.sealed.v1"
    public static let maximumSize = 1 << 16

    public enum Content: String, Sendable, CaseIterable {
        /// PKCS #8 PEM of a P-256 key.
        case ownerKey = "owner-key"
        /// `ClusterSecret.packed`.
        case clusterSecret = "cluster-secret"
    }

    /// 128 MiB and about half a second for each guess.
    public static let standardLogN = 17

    public let content: Content
    /// Public name of what is sealed: SHA-256 of the owner key's SPKI, or the cluster id.
    public let identifier: [UInt8]
    let logN: Int
    let blockSize: Int
    let parallelism: Int
    let salt: [UInt8]
    let nonce: [UInt8]
    let sealed: [UInt8]

    /// - Parameter passphrase: at least one byte; UTF-8 as typed.
    public init(
        sealing secret: borrowing Secret, _ content: Content, identifier: [UInt8], passphrase: borrowing Secret,
        logN: Int = standardLogN
    ) throws(Finding) {
        guard passphrase.count > 0 else {
            throw Finding("sealed-passphrase", claim: "passphrase", expected: "at least one character", actual: "none")
        }
        self.content = content
        self.identifier = identifier
        self.logN = logN
        blockSize = 8
        parallelism = 1
        salt = randomBytes(32)
        nonce = randomBytes(AES256GCM.nonceSize)
        do throws(CryptoError) {
            let parameters = try ScryptParameters(logN: logN, blockSize: blockSize, parallelism: parallelism)
            let key = try parameters.derive(passphrase, salt: salt, count: AES256GCM.keySize)
            sealed = try AES256GCM.seal(
                secret, key: key, nonce: nonce,
                additional: Self.authenticated(content, identifier, logN, blockSize, parallelism, salt, nonce))
        } catch { throw Finding("key-sealing", claim: content.rawValue, actual: error.message) }
    }

    /// - Throws: `sealed-passphrase` for another passphrase and for a document that was changed: nobody can tell which.
    public func open(passphrase: borrowing Secret) throws(Finding) -> Secret {
        do throws(CryptoError) {
            let parameters = try ScryptParameters(logN: logN, blockSize: blockSize, parallelism: parallelism)
            let key = try parameters.derive(passphrase, salt: salt, count: AES256GCM.keySize)
            return try AES256GCM.open(
                sealed, key: key, nonce: nonce,
                additional: Self.authenticated(content, identifier, logN, blockSize, parallelism, salt, nonce))
        } catch {
            throw Finding(
                "sealed-passphrase", claim: content.rawValue, expected: "the passphrase it was sealed with",
                actual: error.kind == .signature ? "another one, or a changed file" : error.message,
                source: Self.schema, next: "try again; without the passphrase it cannot be opened by anybody")
        }
    }

    private static func authenticated(
        _ content: Content, _ identifier: [UInt8], _ logN: Int, _ blockSize: Int, _ parallelism: Int, _ salt: [UInt8],
        _ nonce: [UInt8]
    ) -> [UInt8] {
        Array(fields(content, identifier, logN, blockSize, parallelism, salt, nonce, sealed: nil).compact.utf8)
    }

    private static func fields(
        _ content: Content, _ identifier: [UInt8], _ logN: Int, _ blockSize: Int, _ parallelism: Int, _ salt: [UInt8],
        _ nonce: [UInt8], sealed: [UInt8]?
    ) -> JSON {
        .fields([
            "schema": .string(schema), "content": .string(content.rawValue), "identifier": .hex(identifier),
            "kdf": [
                "name": "scrypt", "logN": .integer(Int128(logN)), "r": .integer(Int128(blockSize)),
                "p": .integer(Int128(parallelism)), "salt": .hex(salt),
            ],
            "cipher": "aes-256-gcm", "nonce": .hex(nonce), "sealed": sealed.map { .base64($0) },
        ])
    }

    public var json: JSON {
        Self.fields(content, identifier, logN, blockSize, parallelism, salt, nonce, sealed: sealed)
    }

    /// Strict: unknown fields, other algorithms and parameters beyond `ScryptParameters` are refused.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: Self.maximumSize), path: "sealed")
        try fields.schema(Self.schema)
        let name = try fields.string("content")
        guard let content = Content(rawValue: name) else {
            throw ParseError("form", field: "sealed.content", offset: 0, "unknown content \(name)")
        }
        self.content = content
        identifier = try fields.hex("identifier", count: 32)
        var kdf = try JSONFields(try fields.required("kdf"), path: "sealed.kdf")
        guard try kdf.string("name") == "scrypt", try fields.string("cipher") == "aes-256-gcm" else {
            throw ParseError("form", field: "sealed", offset: 0, "only scrypt and aes-256-gcm are known")
        }
        logN = try kdf.integer("logN")
        blockSize = try kdf.integer("r")
        parallelism = try kdf.integer("p")
        salt = try kdf.hex("salt", count: 32)
        try kdf.end()
        do { _ = try ScryptParameters(logN: logN, blockSize: blockSize, parallelism: parallelism) } catch {
            throw ParseError("range", field: "sealed.kdf", offset: 0, error.message)
        }
        nonce = try fields.hex("nonce", count: AES256GCM.nonceSize)
        sealed = try fields.base64("sealed")
        guard (AES256GCM.tagSize + 1...8192).contains(sealed.count) else {
            throw ParseError("length", field: "sealed.sealed", offset: 0, "\(sealed.count) bytes")
        }
        try fields.end()
    }
}
