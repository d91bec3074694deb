import Attestation
import Bytes
import Crypto
import DiskFormat
import Kubernetes
import Manifest

/// Who and what may be in a cluster, by its owner's word, `nacre.clusterpolicy.v1`. Nothing of it is secret.
public struct ClusterPolicy: Sendable, Equatable {
    public static let schema = "nacre.clusterpolicy.v1"
    /// Bytes of a signed document.
    public static let maximumSize = 768 << 10
    public static let maximumImages = 4
    /// Of a certificate, in seconds: below, a node would do nothing but renew; above, revoking means too little.
    public static let certificateLifetimes = 30...30 * 86400
    public static let standardLifetime = 86400

    public struct Node: Sendable, Equatable {
        public let name: NodeName
        public let role: NodeRole
        /// Never another's while this name is known.
        public let index: NodeIndex
        public var isRevoked: Bool

        public init(name: NodeName, role: NodeRole, index: NodeIndex, isRevoked: Bool = false) {
            self.name = name
            self.role = role
            self.index = index
            self.isRevoked = isRevoked
        }
    }

    public let clusterID: [UInt8]
    /// Grows with every change; an older one is refused.
    public var version: Int
    public var nodes: [Node]
    /// The manifests of images that nodes may run.
    public var images: [Manifest]
    /// Platforms, TCB floors, chips allowed and denied.
    public var attestation: AppraisalPolicy
    /// Seconds for which a node's certificates hold.
    public var certificateLifetime: Int
    public var podNetwork: PodNetwork
    /// Further names and addresses that the API server's certificate has.
    public var apiNames: [CertificateTemplate.Name]

    public init(
        clusterID: [UInt8], version: Int = 1, nodes: [Node], images: [Manifest], attestation: AppraisalPolicy,
        certificateLifetime: Int = standardLifetime, podNetwork: PodNetwork = .bridge,
        apiNames: [CertificateTemplate.Name] = []
    ) {
        self.clusterID = clusterID
        self.version = version
        self.nodes = nodes
        self.images = images
        self.attestation = attestation
        self.certificateLifetime = certificateLifetime
        self.podNetwork = podNetwork
        self.apiNames = apiNames
    }

    public subscript(name: NodeName) -> Node? { nodes.first { $0.name == name } }

    /// Control planes that are not revoked, as components see them.
    public var planes: [NodeConfiguration.Plane] {
        nodes.filter { $0.role == .controlPlane && !$0.isRevoked }.map { .init(name: $0.name, index: $0.index) }
    }

    /// The node of that name with what the policy gives it.
    ///
    /// - Throws: `policy-node` for a name that the policy does not have, `revoked-node`.
    public func member(_ name: NodeName) throws(Finding) -> Node {
        guard let node = self[name] else {
            throw Finding(
                "policy-node", claim: "node", expected: "a node of the cluster's policy", actual: "\(name)",
                source: "cluster policy, version \(version)", next: "the owner adds it: nacre policy sign, apply")
        }
        guard !node.isRevoked else {
            throw Finding(
                "revoked-node", claim: "node", expected: "a node that is not revoked", actual: "\(name)",
                source: "cluster policy, version \(version)")
        }
        return node
    }

    /// Whether evidence is good enough: by one of the images, as the one says that the node claims to run where it claims one.
    public func judge(
        _ evidence: Evidence, nonce: [UInt8]?, cluster: ClusterExpectation, account: Appraisal.Account = .full,
        at time: Instant
    ) -> Appraisal.Result {
        let claimed = images.filter { $0.imageDigest == evidence.imageDigest }
        var rejection: Appraisal.Result?
        for manifest in claimed.isEmpty ? images : claimed {
            let result = Appraisal.judge(
                evidence, nonce: nonce, reference: .pinned(manifest), policy: attestation, cluster: cluster,
                account: account, at: time)
            if result.verdict.isAccepted { return result }
            rejection = rejection ?? result
        }
        if let rejection, claimed.isEmpty, let digest = evidence.imageDigest,
            case let finding? = rejection.verdict.finding
        {
            // What it claims proves nothing, and is the likely explanation.
            let more =
                "the node says that it runs image \(Hex.encode(digest).prefix(16))…, which the policy does not have"
            return Appraisal.Result(verdict: .reject(finding.adding(next: more)), steps: rejection.steps)
        }
        return rejection
            ?? Appraisal.Result(
                verdict: .reject(
                    Finding("policy-image", claim: "image", expected: "an image of the policy", actual: "it has none")),
                steps: [])
    }

    /// - Throws: `policy-rollback` for an older version, `policy-conflict` where the same version says something else or
    ///   an index would become another node's.
    public func check(after present: ClusterPolicy) throws(Finding) {
        let source = "cluster policy, version \(present.version)"
        guard version >= present.version else {
            throw Finding(
                "policy-rollback", claim: "version", expected: "\(present.version) or more", actual: "\(version)",
                source: source, next: "sign it again with a higher version")
        }
        if version == present.version, self != present {
            throw Finding(
                "policy-conflict", claim: "version", expected: "\(version + 1) or more for another policy",
                actual: "\(version)", source: source, next: "sign it again with a higher version")
        }
        for node in nodes {
            guard let other = present.nodes.first(where: { $0.index == node.index }), other.name != node.name else {
                continue
            }
            throw Finding(
                "policy-conflict", claim: "index \(node.index)", expected: "\(other.name)", actual: "\(node.name)",
                source: source, next: "give \(node.name) an index that nobody had")
        }
    }
}

extension ClusterPolicy {
    public var json: JSON {
        [
            "schema": .string(Self.schema), "clusterID": .hex(clusterID), "version": .integer(Int128(version)),
            "nodes": .array(
                nodes.map { node in
                    .fields([
                        "name": .string("\(node.name)"), "role": .string(node.role.rawValue),
                        "index": .integer(Int128(node.index.number)), "revoked": node.isRevoked ? true : nil,
                    ])
                }),
            "images": .array(images.map { .base64($0.bytes) }), "attestation": attestation.json,
            "certificateLifetime": .integer(Int128(certificateLifetime)), "cni": .string(podNetwork.rawValue),
            "apiNames": .array(
                apiNames.map { name in
                    switch name {
                    case .dns(let text): .string(text)
                    case .ip(let address): .string("\(address)")
                    }
                }),
        ]
    }

    /// Strict: unknown fields, names or indexes that stand twice, and a policy without a control plane are refused.
    public init(json: JSON) throws(ParseError) {
        func refuse(_ field: String, _ message: String) -> ParseError {
            ParseError("form", field: "clusterpolicy.\(field)", offset: 0, message)
        }
        var fields = try JSONFields(json, path: "clusterpolicy")
        try fields.schema(Self.schema)
        clusterID = try fields.hex("clusterID", count: 32)
        version = try fields.counter("version", from: 1)
        nodes = []
        let entries = try fields.array("nodes")
        guard entries.count <= NetworkPlan.maximumNodes else { throw refuse("nodes", "\(entries.count) nodes") }
        for entry in entries { nodes.append(try Node(json: entry)) }
        guard Set(nodes.map(\.name)).count == nodes.count, Set(nodes.map(\.index)).count == nodes.count else {
            throw refuse("nodes", "a name or an index stands twice")
        }
        guard nodes.contains(where: { $0.role == .controlPlane && !$0.isRevoked }) else {
            throw refuse("nodes", "no control plane is left")
        }
        images = []
        let manifests = try fields.array("images")
        guard (1...Self.maximumImages).contains(manifests.count) else {
            throw refuse("images", "\(manifests.count), must be 1 to \(Self.maximumImages)")
        }
        for entry in manifests {
            guard let bytes = entry.string.flatMap({ Base64.decode($0) }) else {
                throw refuse("images", "must be manifests in base64")
            }
            do { images.append(try Manifest(parsing: bytes)) } catch { throw refuse("images", "\(error)") }
        }
        attestation = try AppraisalPolicy(json: try fields.required("attestation"))
        certificateLifetime = try fields.integer("certificateLifetime")
        guard Self.certificateLifetimes.contains(certificateLifetime) else {
            throw ParseError(
                "range", field: "clusterpolicy.certificateLifetime", offset: 0, "\(certificateLifetime) seconds")
        }
        guard let network = PodNetwork(rawValue: try fields.string("cni")) else {
            throw refuse("cni", "must be \(PodNetwork.allCases.map(\.rawValue).joined(separator: " or "))")
        }
        podNetwork = network
        apiNames = []
        for entry in try fields.array("apiNames") {
            guard let text = entry.string, let name = CertificateTemplate.Name(text), !apiNames.contains(name),
                apiNames.count < 16
            else { throw refuse("apiNames", "must be at most 16 different host names or addresses") }
            apiNames.append(name)
        }
        try fields.end()
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        try self.init(json: try JSON(parsing: bytes, limit: Self.maximumSize))
    }
}

extension ClusterPolicy.Node {
    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "clusterpolicy.nodes[]")
        name = try fields.nodeName("name")
        guard name.description.utf8.count <= NodeCertificate.maximumNodeName else {
            throw ParseError(
                "length", field: "clusterpolicy.nodes[].name", offset: 0,
                "longer than \(NodeCertificate.maximumNodeName) characters")
        }
        role = try fields.role("role")
        index = try fields.nodeIndex("index")
        isRevoked = try fields.bool("revoked", default: false)
        try fields.end()
    }
}
