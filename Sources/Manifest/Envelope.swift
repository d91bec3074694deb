import Bytes
import Crypto

/// A DSSE envelope with one signature (Dead Simple Signing Envelope v1.0.2).
public struct Envelope: Sendable, Equatable {
    public static let inTotoPayloadType = "application/vnd.in-toto+json"

    public let payloadType: String
    public let payload: [UInt8]
    public let signature: [UInt8]

    public init(payloadType: String, payload: [UInt8], signature: [UInt8]) {
        self.payloadType = payloadType
        self.payload = payload
        self.signature = signature
    }

    /// Pre-authentication encoding: the bytes that are signed. Lengths are decimal, in bytes, between single spaces.
    public static func preAuthenticationEncoding(payloadType: String, payload: [UInt8]) -> [UInt8] {
        let type = Array(payloadType.utf8)
        return Array("DSSEv1 \(type.count) ".utf8) + type + Array(" \(payload.count) ".utf8) + payload
    }

    public var signedBytes: [UInt8] { Self.preAuthenticationEncoding(payloadType: payloadType, payload: payload) }

    init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        payloadType = try fields.string("payloadType")
        payload = try fields.base64("payload")
        let signatures = try fields.array("signatures")
        guard signatures.count == 1 else {
            throw ParseError(
                "form", field: "\(path).signatures", offset: 0, "exactly one signature, found \(signatures.count)")
        }
        var first = try JSONFields(signatures.first, path: "\(path).signatures[0]")
        signature = try first.base64("sig")
        // An unauthenticated hint; the pinned key decides.
        _ = try first.optionalString("keyid")
        try first.end()
        try fields.end()
    }

    var json: JSON {
        [
            "payloadType": .string(payloadType), "payload": .base64(payload),
            "signatures": [["sig": .base64(signature), "keyid": ""]],
        ]
    }
}

/// An in-toto Statement v1 whose one subject is a manifest file.
public struct Statement: Sendable, Equatable {
    public static let type = "https://in-toto.io/Statement/v1"
    public static let predicateType = "https://nacre.dev/manifest/v1"

    /// The file's name; a hint for people, the digest decides.
    public let subjectName: String
    public let subjectDigest: [UInt8]
    public let predicateType: String
    public let predicate: JSON

    /// A statement about `manifest`, read from a file `name` holding `bytes`.
    public init(manifest: Manifest, bytes: [UInt8], name: String) {
        subjectName = name
        subjectDigest = HashAlgorithm.sha256.hash(bytes)
        predicateType = Self.predicateType
        predicate = Self.predicate(of: manifest)
    }

    /// What a reader who has only the bundle can learn of the release.
    static func predicate(of manifest: Manifest) -> JSON {
        [
            "product": .string(manifest.product), "version": .string(manifest.version),
            "releaseCounter": .integer(Int128(manifest.releaseCounter)),
            "profile": .string(manifest.profile.rawValue), "imageDigest": .hex(manifest.imageDigest),
            "notAfter": .string(manifest.notAfter.description),
        ]
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(JSON(parsing: bytes, limit: 1 << 20), path: "statement")
        let type = try fields.string("_type")
        guard type == Self.type else {
            throw ParseError("version", field: "statement._type", offset: 0, "must be \(Self.type), is \(type)")
        }
        predicateType = try fields.string("predicateType")
        predicate = try fields.required("predicate")
        let subjects = try fields.array("subject")
        guard subjects.count == 1 else {
            throw ParseError("form", field: "statement.subject", offset: 0, "exactly one subject")
        }
        var subject = try JSONFields(subjects.first, path: "statement.subject[0]")
        subjectName = try subject.string("name")
        var digest = try JSONFields(subject.required("digest"), path: "statement.subject[0].digest")
        subjectDigest = try digest.hex("sha256", count: 32)
        try digest.end()
        try subject.end()
        try fields.end()
    }

    public var bytes: [UInt8] {
        let json: JSON = [
            "_type": .string(Self.type),
            "subject": [["name": .string(subjectName), "digest": ["sha256": .hex(subjectDigest)]]],
            "predicateType": .string(predicateType), "predicate": predicate,
        ]
        return Array(json.compact.utf8)
    }
}

/// A Sigstore bundle v0.3 that holds a DSSE envelope signed with a key that the verifier already has.
public struct Bundle: Sendable, Equatable {
    public static let mediaType = "application/vnd.dev.sigstore.bundle.v0.3+json"
    /// Largest bundle that is read, bytes.
    public static let maximumSize = 4 << 20

    public let envelope: Envelope
    /// Says which key to try, never which to trust.
    public let publicKeyHint: String
    /// Transparency-log entries as they stand.
    public let logEntries: [JSON]
    /// Whether signed timestamps are present.
    public let hasTimestamps: Bool

    public init(envelope: Envelope, publicKeyHint: String) {
        self.envelope = envelope
        self.publicKeyHint = publicKeyHint
        logEntries = []
        hasTimestamps = false
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(JSON(parsing: bytes, limit: Self.maximumSize), path: "bundle")
        let mediaType = try fields.string("mediaType")
        guard mediaType == Self.mediaType else {
            throw ParseError(
                "version", field: "bundle.mediaType", offset: 0, "must be \(Self.mediaType), is \(mediaType)")
        }
        var material = try JSONFields(fields.required("verificationMaterial"), path: "bundle.verificationMaterial")
        var key = try JSONFields(material.required("publicKey"), path: "bundle.verificationMaterial.publicKey")
        publicKeyHint = try key.optionalString("hint") ?? ""
        try key.end()
        logEntries = try Self.objects(
            material.optional("tlogEntries"), "bundle.verificationMaterial.tlogEntries")
        hasTimestamps = try Self.hasTimestamps(
            material.optional("timestampVerificationData"), "bundle.verificationMaterial.timestampVerificationData")
        try material.end()
        envelope = try Envelope(json: fields.required("dsseEnvelope"), path: "bundle.dsseEnvelope")
        try fields.end()
    }

    /// A list of messages; absent and `null` are the empty list in protobuf's JSON mapping.
    private static func objects(_ json: JSON?, _ path: String) throws(ParseError) -> [JSON] {
        guard let json, json != .null else { return [] }
        guard let list = json.array, list.allSatisfy({ $0.object != nil }) else {
            throw ParseError("form", field: path, offset: 0, "must be an array of objects")
        }
        return list
    }

    /// Whether `TimestampVerificationData` holds anything, of a kind that is known or not.
    private static func hasTimestamps(_ json: JSON?, _ path: String) throws(ParseError) -> Bool {
        guard let json, json != .null else { return false }
        guard let object = json.object else {
            throw ParseError("form", field: path, offset: 0, "must be an object")
        }
        let known = "rfc3161Timestamps"
        let timestamps = try objects(object[known], "\(path).\(known)")
        return !timestamps.isEmpty || object.keys.contains { $0 != known }
    }

    public var json: JSON {
        [
            "mediaType": .string(Self.mediaType),
            "verificationMaterial": [
                "publicKey": ["hint": .string(publicKeyHint)], "tlogEntries": .array(logEntries),
            ],
            "dsseEnvelope": envelope.json,
        ]
    }

    public var bytes: [UInt8] { Array(json.pretty.utf8) }
}

extension PublicKey {
    /// How this key signs manifests: the curve's usual hash, as Sigstore does.
    var manifestScheme: SignatureScheme? {
        switch kind {
        case .p256: .ecdsa(.sha256)
        case .p384: .ecdsa(.sha384)
        case .ed25519: .ed25519
        case .rsa, .other: nil
        }
    }

    /// Sigstore's hint: base64 of SHA-256 of the SubjectPublicKeyInfo.
    public var hint: String { Base64.encode(HashAlgorithm.sha256.hash(spki)) }
    /// Lower-case hexadecimal SHA-256 of the SubjectPublicKeyInfo, for people.
    public var fingerprint: String { Hex.encode(HashAlgorithm.sha256.hash(spki)) }
}
