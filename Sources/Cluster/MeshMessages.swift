import Attestation
import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// A member's regular question, `nacre.mesh.v1`: here I am, what is new?
struct MeshRequest: Sendable, Equatable {
    static let schema = "nacre.mesh.v1"

    let announcement: NodeRegistry.Announcement
    let policyVersion: Int
    /// Digest of the last view that the node was given; empty for none.
    let view: [UInt8]

    var json: JSON {
        [
            "schema": .string(Self.schema), "sequence": .integer(Int128(announcement.sequence)),
            "wireGuard": .base64(announcement.key), "endpoints": .array(announcement.endpoints.map(\.json)),
            "policy": .integer(Int128(policyVersion)), "view": .hex(view),
        ]
    }

    init(announcement: NodeRegistry.Announcement, policyVersion: Int, view: [UInt8]) {
        self.announcement = announcement
        self.policyVersion = policyVersion
        self.view = view
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 14), path: "mesh")
        try fields.schema(Self.schema)
        announcement = try NodeRegistry.Announcement(&fields)
        policyVersion = try fields.counter("policy", from: 0)
        view = try fields.hex("view")
        guard view.isEmpty || view.count == 32 else {
            throw ParseError("length", field: "mesh.view", offset: 0, "\(view.count) bytes")
        }
        try fields.end()
    }
}

/// The mesh as a control plane knows it, `nacre.meshview.v1`: every node that is not revoked, the one that asks included.
struct MeshView: Sendable, Equatable {
    static let schema = "nacre.meshview.v1"

    struct Node: Sendable, Equatable {
        let peer: MeshPeer
        let sequence: Int
    }

    let nodes: [Node]

    var bytes: [UInt8] {
        let entries = nodes.sorted { $0.peer.index < $1.peer.index }.map { node -> JSON in
            ["peer": node.peer.json, "sequence": .integer(Int128(node.sequence))]
        }
        return Array((["schema": .string(Self.schema), "nodes": .array(entries)] as JSON).compact.utf8)
    }

    init(nodes: [Node]) { self.nodes = nodes }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 20), path: "meshview")
        try fields.schema(Self.schema)
        let entries = try fields.array("nodes")
        try fields.end()
        guard entries.count <= NetworkPlan.maximumNodes else {
            throw ParseError("range", field: "meshview.nodes", offset: 0, "\(entries.count) nodes")
        }
        var nodes: [Node] = []
        for entry in entries {
            var node = try JSONFields(entry, path: "meshview.nodes[]")
            nodes.append(
                Node(
                    peer: try MeshPeer(json: try node.required("peer"), path: "meshview.nodes[].peer"),
                    sequence: try node.sequence("sequence")))
            try node.end()
        }
        // Two with one address or key would take each other's packets.
        guard Set(nodes.map(\.peer.name)).count == nodes.count, Set(nodes.map(\.peer.index)).count == nodes.count,
            Set(nodes.map(\.peer.publicKey)).count == nodes.count
        else { throw ParseError("form", field: "meshview.nodes", offset: 0, "a name, index or key stands twice") }
        self.nodes = nodes
    }
}

/// What follows a mesh question, `nacre.meshnews.v1`: which of view and policy come as messages of their own.
struct MeshNews: Sendable, Equatable {
    static let schema = "nacre.meshnews.v1"

    let policyFollows: Bool
    let viewFollows: Bool

    var json: JSON {
        [
            "schema": .string(Self.schema), "policyFollows": .bool(policyFollows), "viewFollows": .bool(viewFollows),
        ]
    }

    init(policyFollows: Bool, viewFollows: Bool) {
        self.policyFollows = policyFollows
        self.viewFollows = viewFollows
    }

    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "meshnews")
        try fields.schema(Self.schema)
        policyFollows = try fields.bool("policyFollows", default: false)
        viewFollows = try fields.bool("viewFollows", default: false)
        try fields.end()
    }
}

/// A member's proof by the certificate of its last enrolment, `nacre.memberproof.v1`: whoever is at this end of this session
/// holds the key that was certified for the node. It says nothing about the machine's state now, so that it is good
/// for news of the mesh and nothing else.
struct MemberProof: Sendable, Equatable {
    static let schema = "nacre.memberproof.v1"
    private static let label = Array("nacre/v1/member-proof".utf8) + [0]

    let certificate: [UInt8]
    let signature: [UInt8]

    var json: JSON {
        [
            "schema": .string(Self.schema), "certificate": .base64(certificate), "signature": .base64(signature),
        ]
    }

    init(_ certificate: Certificate, key: PrivateKey, binding: [UInt8]) throws(CryptoError) {
        self.certificate = certificate.der
        signature = try key.sign(Self.label + binding, scheme: .ecdsa(.sha256))
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 14), path: "memberproof")
        try fields.schema(Self.schema)
        certificate = try fields.base64("certificate")
        signature = try fields.base64("signature")
        try fields.end()
    }

    /// - Returns: whose certificate it is.
    /// - Throws: `chain-member`, `expired-member`, `signature-member`.
    func judge(binding: [UInt8], authority: Certificate, at time: Instant) throws(Finding) -> NodeName {
        func refuse(_ reason: String, _ actual: String) -> Finding {
            Finding(
                reason, claim: "member's certificate", expected: "one of the cluster's mesh, in this session",
                actual: actual, next: "the node enrols again")
        }
        let read: Certificate
        let key: PublicKey
        do throws(CryptoError) {
            read = try Certificate(der: certificate)
            try read.verify(issuedBy: authority)
            key = try read.publicKey()
        } catch { throw refuse("chain-member", error.message) }
        guard let name = read.commonName.flatMap({ NodeName($0) }) else {
            throw refuse("chain-member", "\(PlainText.line(read.subject)) is no node")
        }
        guard read.isValid(at: time) else { throw refuse("expired-member", "not valid at \(time)") }
        do throws(CryptoError) {
            try key.verify(signature, of: Self.label + binding, scheme: .ecdsa(.sha256))
        } catch { throw refuse("signature-member", error.message) }
        return name
    }
}
