import Attestation
import Bytes
import Crypto

/// A cluster's policy with its owner's signature, `nacre.signedpolicy.v1`.
///
/// Signed is `nacre/v1/cluster-policy`, a zero byte, and the policy in canonical form (RFC 8785): ECDSA with SHA-256 by the
/// owner key. No proof of an owner on the channel is of that form or length.
public struct SignedPolicy: Sendable, Equatable {
    public static let schema = "nacre.signedpolicy.v1"
    /// On a node's disk.
    static let file = "policy.json"

    public let policy: ClusterPolicy
    /// SubjectPublicKeyInfo of the owner key, DER.
    public let publicKey: [UInt8]
    let signature: [UInt8]
    /// The document as it is sent and kept; a thousand nodes may ask for it at once.
    public let bytes: [UInt8]

    public init(signing policy: ClusterPolicy, by owner: OwnerKey) throws(Finding) {
        // Only what would be read again is signed.
        do throws(ParseError) { self.policy = try ClusterPolicy(json: policy.json) } catch { throw error.finding }
        publicKey = owner.publicKey
        signature = try owner.sign(try Self.message(self.policy))
        bytes = Array(Self.json(self.policy, publicKey, signature).compact.utf8)
        guard bytes.count <= ClusterPolicy.maximumSize else {
            throw Finding(
                "parse-length", claim: "cluster policy", expected: "at most \(ClusterPolicy.maximumSize) bytes",
                actual: "\(bytes.count)")
        }
    }

    private static func message(_ policy: ClusterPolicy) throws(Finding) -> [UInt8] {
        guard let canonical = policy.json.canonical else {
            throw Finding(
                "parse-range", claim: "cluster policy", expected: "integers up to 2^53", source: "RFC 8785")
        }
        return Array("nacre/v1/cluster-policy".utf8) + [0] + canonical
    }

    private static func json(_ policy: ClusterPolicy, _ publicKey: [UInt8], _ signature: [UInt8]) -> JSON {
        [
            "schema": .string(schema), "policy": policy.json, "publicKey": .base64(publicKey),
            "signature": .base64(signature),
        ]
    }

    /// Reads it; says nothing about who signed.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: ClusterPolicy.maximumSize), path: "signedpolicy")
        try fields.schema(Self.schema)
        policy = try ClusterPolicy(json: try fields.required("policy"))
        publicKey = try fields.base64("publicKey")
        signature = try fields.base64("signature")
        try fields.end()
        // In our own form, whatever white space came.
        self.bytes = Array(Self.json(policy, publicKey, signature).compact.utf8)
    }

    /// - Throws: `cluster-other`, `cluster-other-owner`, `signature-policy`.
    public func verify(_ identity: ClusterIdentity) throws(Finding) {
        guard constantTimeEqual(policy.clusterID, identity.clusterID) else {
            throw Finding(
                "cluster-other", claim: "cluster policy", expected: Hex.encode(identity.clusterID),
                actual: Hex.encode(policy.clusterID), source: "the node's cluster")
        }
        let key: PublicKey
        do { key = try PublicKey(spki: publicKey) } catch {
            throw Finding("key-form", claim: "cluster policy", actual: error.message)
        }
        let owner = HashAlgorithm.sha256.hash(key.spki)
        guard key.kind == .p256, constantTimeEqual(owner, identity.owner) else {
            throw Finding(
                "cluster-other-owner", claim: "cluster policy", expected: Hex.encode(identity.owner),
                actual: Hex.encode(owner), source: "the node's owner")
        }
        let message = try Self.message(policy)
        do { try key.verify(signature, of: message, scheme: .ecdsa(.sha256)) } catch {
            throw Finding(
                "signature-policy", claim: "cluster policy", expected: "a signature by the owner key",
                actual: error.message)
        }
    }
}
