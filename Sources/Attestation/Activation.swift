import Bytes
import Crypto
import TPM

/// What a verifier sends so that a node shows its attestation key to be in the TPM of its endorsement key:
/// `nacre.activate.v1`. Worth something only to who made the credential, in the session it was made for.
public struct ActivationRequest: Sendable, Equatable {
    public static let schema = "nacre.activate.v1"
    /// `nacre.activation.v1`: the answer.
    public static let answerSchema = "nacre.activation.v1"
    /// Largest request and answer that are read, bytes.
    public static let maximumSize = 4096

    /// The nonce that the evidence was asked for, 16 to 32 bytes.
    public let nonce: [UInt8]
    public let credential: Credential

    public init(nonce: [UInt8], credential: Credential) {
        self.nonce = nonce
        self.credential = credential
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: Self.maximumSize), path: "activate")
        try Self.check(try fields.string("schema"), Self.schema, "activate.schema")
        nonce = try fields.hex("nonce")
        guard (16...32).contains(nonce.count) else {
            throw ParseError("range", field: "activate.nonce", offset: 0, "must be 16 to 32 bytes")
        }
        credential = try Credential(blob: try fields.base64("credential"), seed: try fields.base64("secret"))
        try fields.end()
    }

    public var json: JSON {
        [
            "schema": .string(Self.schema), "nonce": .hex(nonce), "credential": .base64(credential.blob),
            "secret": .base64(credential.seed),
        ]
    }

    /// What the node answers instead of the credential's secret: HMAC-SHA-256 under it over length-prefixed (u32,
    /// big-endian) {"nacre/v1/activate", nonce, attestation key}. A credential made for something else thus gives away
    /// nothing.
    public static func proof(_ secret: borrowing Secret, nonce: [UInt8], attestationKey: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        for part in [Array("nacre/v1/activate".utf8), nonce, attestationKey] {
            writer.be(UInt32(clamping: part.count))
            writer.append(part)
        }
        return HashAlgorithm.sha256.hmac(key: secret, writer.bytes)
    }

    public static func answer(_ proof: [UInt8]) -> JSON { ["schema": .string(answerSchema), "proof": .hex(proof)] }

    public static func proof(parsing bytes: [UInt8]) throws(ParseError) -> [UInt8] {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: Self.maximumSize), path: "activation")
        try check(try fields.string("schema"), answerSchema, "activation.schema")
        let proof = try fields.hex("proof", count: 32)
        try fields.end()
        return proof
    }

    private static func check(_ schema: String, _ expected: String, _ field: String) throws(ParseError) {
        guard schema == expected else {
            throw ParseError("version", field: field, offset: 0, "must be \(expected), is \(schema)")
        }
    }
}

/// A verifier's question to one node in one session, with the answer that only this node's TPM can give.
public struct ActivationChallenge: Sendable {
    public let request: ActivationRequest
    /// TPM2B_PUBLIC of the two keys that the credential is for.
    let endorsementKey: [UInt8]
    let attestationKey: [UInt8]
    /// The secret itself is gone once this is known.
    let expected: [UInt8]

    /// A credential with a fresh secret for the keys that `evidence` shows.
    ///
    /// - Throws: `parse-…`, `key-ek-attributes`, `key-ek-key`; `key-activation` for evidence without endorsement key.
    public init(_ evidence: Evidence, nonce: [UInt8]) throws(Finding) {
        guard let tpm = evidence.tpm, let endorsement = tpm.endorsementKey else {
            throw Finding(
                "key-activation", claim: "tpm endorsement key", expected: "an endorsement key", actual: "none",
                source: "policy.endorsementRoots")
        }
        let keys: (endorsement: TPMPublic, attestation: TPMPublic)
        do {
            keys = (try TPMPublic(parsing: endorsement.publicArea), try TPMPublic(parsing: tpm.attestationKey))
        } catch { throw error.finding }
        let secret = Secret(random: 32)
        do {
            request = ActivationRequest(
                nonce: nonce,
                credential: try Credential(secret, for: keys.attestation.name, to: keys.endorsement))
        } catch { throw error.finding.family(Appraisal.families) }
        endorsementKey = endorsement.publicArea
        attestationKey = tpm.attestationKey
        expected = ActivationRequest.proof(secret, nonce: nonce, attestationKey: attestationKey)
    }

    /// Whether `proof` answers this challenge, and the challenge is about these keys and this nonce.
    func isAnswered(by proof: [UInt8], _ tpm: Evidence.TPMEvidence, nonce: [UInt8]) -> Bool {
        constantTimeEqual(request.nonce, nonce) && constantTimeEqual(attestationKey, tpm.attestationKey)
            && constantTimeEqual(endorsementKey, tpm.endorsementKey?.publicArea ?? [])
            && constantTimeEqual(expected, proof)
    }
}

/// A challenge and what the node answered.
public struct Activation: Sendable {
    public let challenge: ActivationChallenge
    public let proof: [UInt8]

    public init(challenge: ActivationChallenge, proof: [UInt8]) {
        self.challenge = challenge
        self.proof = proof
    }
}
