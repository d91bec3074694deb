import Attestation
import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// What a member asks of a control plane, `nacre.enroll.v1`: certificates for its own keys, and a place in the mesh.
struct EnrollRequest: Sendable, Equatable {
    static let schema = "nacre.enroll.v1"
    static let maximumSize = 1 << 16
    static let proofSize = 32

    let node: NodeName
    /// Of the disk's key that proves the name.
    let epoch: Int
    /// SubjectPublicKeyInfo of P-256 keys, by the certificates that are wanted for them.
    let keys: [NodeCertificate: [UInt8]]
    let announcement: NodeRegistry.Announcement
    /// Version of the policy that the node has; 0 for none.
    let policyVersion: Int

    /// What both ends compute the proof over, after the session's binding.
    var json: JSON {
        [
            "schema": .string(Self.schema), "node": .string("\(node)"), "epoch": .integer(Int128(epoch)),
            "keys": .object(
                Dictionary(keys.map { ($0.key.rawValue, .base64($0.value)) }, uniquingKeysWith: { first, _ in first })),
            "sequence": .integer(Int128(announcement.sequence)), "wireGuard": .base64(announcement.key),
            "endpoints": .array(announcement.endpoints.map(\.json)), "policy": .integer(Int128(policyVersion)),
        ]
    }

    /// The request with its proof, as it is sent.
    func message(proof: [UInt8]) -> [UInt8] {
        var object = json.object ?? [:]
        object["proof"] = .hex(proof)
        return Array(JSON.object(object).compact.utf8)
    }

    init(
        node: NodeName, epoch: Int, keys: [NodeCertificate: [UInt8]], announcement: NodeRegistry.Announcement,
        policyVersion: Int
    ) {
        self.node = node
        self.epoch = epoch
        self.keys = keys
        self.announcement = announcement
        self.policyVersion = policyVersion
    }

    /// - Returns: the request, and the proof that came with it.
    static func parse(_ bytes: [UInt8]) throws(ParseError) -> (request: EnrollRequest, proof: [UInt8]) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: maximumSize), path: "enroll")
        try fields.schema(schema)
        let object = try fields.required("keys")
        guard let entries = object.object, (1...NodeCertificate.allCases.count).contains(entries.count) else {
            throw ParseError("form", field: "enroll.keys", offset: 0, "must be an object of keys")
        }
        var keys: [NodeCertificate: [UInt8]] = [:]
        var values = try JSONFields(object, path: "enroll.keys")
        for name in entries.keys {
            guard let certificate = NodeCertificate(rawValue: name) else {
                throw ParseError("form", field: "enroll.keys", offset: 0, "unknown certificate \(name)")
            }
            let spki = try values.base64(name)
            guard let key = try? PublicKey(spki: spki), key.kind == .p256, key.spki == spki else {
                throw ParseError("form", field: "enroll.keys.\(name)", offset: 0, "not a P-256 key")
            }
            keys[certificate] = spki
        }
        let request = EnrollRequest(
            node: try fields.nodeName("node"), epoch: try fields.counter("epoch", from: 1), keys: keys,
            announcement: try NodeRegistry.Announcement(&fields), policyVersion: try fields.counter("policy", from: 0))
        let proof = try fields.hex("proof", count: proofSize)
        try fields.end()
        return (request, proof)
    }
}

extension NodeRegistry.Announcement {
    init(_ fields: inout JSONFields) throws(ParseError) {
        sequence = try fields.sequence("sequence")
        key = try fields.wireGuardKey("wireGuard")
        endpoints = try MeshEndpoint.list(try fields.array("endpoints"), path: "endpoints")
    }
}

/// The answer, `nacre.enrolled.v1`.
struct EnrollAnswer: Sendable, Equatable {
    static let schema = "nacre.enrolled.v1"

    let index: NodeIndex
    /// DER.
    let certificates: [NodeCertificate: [UInt8]]
    let authorities: [ClusterAuthorityName: [UInt8]]
    /// Seconds for which the certificates hold.
    let lifetime: Int
    /// Of the control plane's policy.
    let policyVersion: Int
    /// Whether that policy follows as a message of its own.
    let policyFollows: Bool

    var json: JSON {
        [
            "schema": .string(Self.schema), "index": .integer(Int128(index.number)),
            "certificates": .object(
                Dictionary(
                    certificates.map { ($0.key.rawValue, .base64($0.value)) }, uniquingKeysWith: { first, _ in first })),
            "authorities": .object(
                Dictionary(
                    authorities.map { ($0.key.rawValue, .base64($0.value)) }, uniquingKeysWith: { first, _ in first })),
            "lifetime": .integer(Int128(lifetime)), "policy": .integer(Int128(policyVersion)),
            "policyFollows": .bool(policyFollows),
        ]
    }

    init(
        index: NodeIndex, certificates: [NodeCertificate: [UInt8]], authorities: [ClusterAuthorityName: [UInt8]],
        lifetime: Int, policyVersion: Int, policyFollows: Bool
    ) {
        self.index = index
        self.certificates = certificates
        self.authorities = authorities
        self.lifetime = lifetime
        self.policyVersion = policyVersion
        self.policyFollows = policyFollows
    }

    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "enrolled")
        try fields.schema(Self.schema)
        index = try fields.nodeIndex("index")
        certificates = try Self.map(try fields.required("certificates")) { NodeCertificate(rawValue: $0) }
        authorities = try Self.map(try fields.required("authorities")) { ClusterAuthorityName(rawValue: $0) }
        lifetime = try fields.integer("lifetime")
        guard ClusterPolicy.certificateLifetimes.contains(lifetime) else {
            throw ParseError("range", field: "enrolled.lifetime", offset: 0, "\(lifetime) seconds")
        }
        policyVersion = try fields.counter("policy", from: 1)
        policyFollows = try fields.bool("policyFollows", default: false)
        try fields.end()
    }

    private static func map<Key: Hashable>(
        _ json: JSON, _ read: (String) -> Key?
    ) throws(ParseError) -> [Key: [UInt8]] {
        guard let object = json.object else {
            throw ParseError("form", field: "enrolled", offset: 0, "must be an object of certificates")
        }
        var map: [Key: [UInt8]] = [:]
        for (name, value) in object {
            guard let key = read(name), let bytes = value.string.flatMap({ Base64.decode($0) }) else {
                throw ParseError("form", field: "enrolled", offset: 0, "no certificate of a known name")
            }
            map[key] = bytes
        }
        return map
    }
}
