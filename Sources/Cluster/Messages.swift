import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Manifest

/// What an owner tells a node that becomes part of the cluster, `nacre.init.v1`. No secret: that follows as a message of
/// its own, and only where the node asks for it.
public struct InitRequest: Sendable, Equatable {
    public static let schema = "nacre.init.v1"

    public let node: NodeName
    public let role: Membership.Role
    /// The manifest and policy by which this node judges others.
    public let manifest: [UInt8]
    public let policy: AppraisalPolicy
    public let disk: DiskRule
    /// The owner says of this very disk that whatever it holds may go.
    public let allowForeign: Bool
    public let epoch: Int
    /// The last opening of this node's disk that the owner remembers; 0 before the first.
    public let generation: Int
    /// Where the others are; hints.
    public let peers: [PeerEndpoint]

    public init(
        node: NodeName, role: Membership.Role, manifest: [UInt8], policy: AppraisalPolicy, disk: DiskRule = .only,
        allowForeign: Bool = false, epoch: Int = 1, generation: Int = 0, peers: [PeerEndpoint] = []
    ) {
        self.node = node
        self.role = role
        self.manifest = manifest
        self.policy = policy
        self.disk = disk
        self.allowForeign = allowForeign
        self.epoch = epoch
        self.generation = generation
        self.peers = peers
    }

    public var json: JSON {
        [
            "schema": .string(Self.schema), "node": .string(node.description), "role": .string(role.rawValue),
            "manifest": .base64(manifest), "policy": policy.json, "disk": disk.json,
            "allowForeign": .bool(allowForeign), "epoch": .integer(Int128(epoch)),
            "generation": .integer(Int128(generation)), "peers": .array(peers.map(\.json)),
        ]
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 20), path: "init")
        try fields.schema(Self.schema)
        node = try fields.nodeName("node")
        role = try fields.role("role")
        manifest = try fields.base64("manifest")
        policy = try AppraisalPolicy(json: try fields.required("policy"))
        disk = try DiskRule(json: try fields.required("disk"), path: "init.disk")
        allowForeign = try fields.bool("allowForeign", default: false)
        epoch = try fields.counter("epoch", from: 1)
        generation = try fields.counter("generation", from: 0)
        peers = try PeerEndpoint.list(try fields.array("peers"), path: "init.peers")
        try fields.end()
    }
}

/// What an owner tells a node before the key of the disk that it asked for, `nacre.recovery.v1`.
struct RecoveryGrant: Equatable {
    static let schema = "nacre.recovery.v1"

    /// The last opening of this disk that the owner remembers.
    let generation: Int
    let peers: [PeerEndpoint]

    var json: JSON {
        [
            "schema": .string(Self.schema), "generation": .integer(Int128(generation)),
            "peers": .array(peers.map(\.json)),
        ]
    }

    init(generation: Int, peers: [PeerEndpoint]) {
        self.generation = generation
        self.peers = peers
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 16), path: "recovery")
        try fields.schema(Self.schema)
        generation = try fields.counter("generation", from: 0)
        peers = try PeerEndpoint.list(try fields.array("peers"), path: "recovery.peers")
        try fields.end()
    }
}

extension JSONFields {
    /// An epoch or a generation.
    mutating func counter(_ key: String, from first: Int) throws(ParseError) -> Int {
        let value = try integer(key)
        guard (first...1 << 40).contains(value) else { throw ParseError("range", field: key, offset: 0, "\(value)") }
        return value
    }

    mutating func role(_ key: String) throws(ParseError) -> Membership.Role {
        let name = try string(key)
        guard let role = Membership.Role(rawValue: name) else {
            throw ParseError("form", field: key, offset: 0, "unknown role \(name)")
        }
        return role
    }
}

/// A node's answer to its owner, `nacre.answer.v1`. The owner has proved the key, so that a refusal says everything.
public enum BootstrapAnswer: Sendable, Equatable {
    public static let schema = "nacre.answer.v1"

    /// The cluster secret (`ClusterSecret.packed`) is to follow.
    case wantSecret
    /// The key of this disk is to follow.
    case wantDiskKey(DiskBinding)
    case done(NodeStatus)
    case refused(Finding)

    public var json: JSON {
        switch self {
        case .wantSecret: ["schema": .string(Self.schema), "answer": "secret"]
        case .wantDiskKey(let claim):
            [
                "schema": .string(Self.schema), "answer": "disk-key", "clusterID": .hex(claim.clusterID),
                "node": .string(claim.node.description), "epoch": .integer(Int128(claim.epoch)),
                "generation": .integer(Int128(claim.generation)),
            ]
        case .done(let status): ["schema": .string(Self.schema), "answer": "done", "status": status.json]
        case .refused(let finding):
            ["schema": .string(Self.schema), "answer": "refused", "finding": finding.json]
        }
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 20), path: "answer")
        try fields.schema(Self.schema)
        let kind = try fields.string("answer")
        switch kind {
        case "secret": self = .wantSecret
        case "disk-key":
            self = .wantDiskKey(
                DiskBinding(
                    clusterID: try fields.hex("clusterID", count: 32), node: try fields.nodeName("node"),
                    epoch: try fields.counter("epoch", from: 0),
                    generation: try fields.counter("generation", from: 0)))
        case "done": self = .done(try NodeStatus(json: try fields.required("status")))
        case "refused": self = .refused(try Finding(json: try fields.required("finding")))
        default: throw ParseError("form", field: "answer.answer", offset: 0, "unknown answer")
        }
        try fields.end()
    }
}

extension Finding {
    var json: JSON {
        [
            "reason": .string(reason), "claim": .string(claim), "expected": .string(expected),
            "actual": .string(actual), "source": .string(source), "next": .string(next),
        ]
    }

    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "finding")
        let reason = try fields.string("reason")
        guard ChannelRefusal(reason).reason == reason else {
            throw ParseError("form", field: "finding.reason", offset: 0, "not a reason")
        }
        func words(_ key: String) throws(ParseError) -> String { PlainText.line(try fields.string(key)) }
        self.init(
            reason, claim: try words("claim"), expected: try words("expected"), actual: try words("actual"),
            source: try words("source"), next: try words("next"))
        try fields.end()
    }
}

/// What a node says of itself to its owner, `nacre.nodestatus.v1`.
public struct NodeStatus: Sendable, Equatable {
    public static let schema = "nacre.nodestatus.v1"

    public let phase: NodePhase
    public private(set) var way: KeyWay?
    public private(set) var membership: Membership?
    /// In words.
    public let disk: String
    /// Of the open state disk: how often it was opened, which its owner remembers.
    public private(set) var generation: Int?
    /// Of the open state disk: which key it takes.
    public private(set) var epoch: Int?
    public private(set) var failure: Finding?
    public let timings: [NodeProgress.Timing]
    /// Of a member.
    public private(set) var kubernetes: KubernetesStatus?

    /// - Parameter search: why the last peer that was asked gave no key.
    public init(
        progress: NodeProgress, disk: NodeDiskState, search: Finding? = nil, kubernetes: KubernetesStatus? = nil
    ) {
        self.kubernetes = kubernetes
        phase = progress.phase
        way = progress.way
        membership = progress.membership
        var failure = progress.failure
        if case .unusable(let finding) = disk { failure = failure ?? finding }
        if progress.phase == .wait { failure = failure ?? search }
        self.failure = failure
        timings = progress.timings
        self.disk = disk.description
        generation = disk.generation
        epoch = disk.epoch
    }

    public var json: JSON {
        .fields([
            "schema": .string(Self.schema), "phase": .string(phase.rawValue), "way": way.map { .string($0.rawValue) },
            "membership": membership?.json, "disk": .string(disk), "failure": failure?.json,
            "kubernetes": kubernetes?.json,
            "generation": generation.map { .integer(Int128($0)) }, "epoch": epoch.map { .integer(Int128($0)) },
            "timings": .array(
                timings.map {
                    ["phase": .string($0.phase.rawValue), "milliseconds": .integer(Int128($0.milliseconds))]
                }
            ),
        ])
    }

    public init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "status")
        try fields.schema(Self.schema)
        phase = try Self.word(&fields, "phase")
        way = nil
        if let name = try fields.optionalString("way") {
            guard let way = KeyWay(rawValue: name) else {
                throw ParseError("form", field: "status.way", offset: 0, "unknown word")
            }
            self.way = way
        }
        membership = nil
        if let json = fields.optional("membership") { membership = try Membership(json: json) }
        disk = try fields.string("disk")
        generation = try fields.optional("generation") == nil ? nil : fields.counter("generation", from: 0)
        epoch = try fields.optional("epoch") == nil ? nil : fields.counter("epoch", from: 1)
        failure = nil
        if let json = fields.optional("failure") { failure = try Finding(json: json) }
        var timings: [NodeProgress.Timing] = []
        for entry in try fields.array("timings").prefix(256) {
            var part = try JSONFields(entry, path: "status.timings[]")
            timings.append(
                NodeProgress.Timing(
                    phase: try Self.word(&part, "phase"), milliseconds: try part.integer("milliseconds")))
            try part.end()
        }
        self.timings = timings
        kubernetes = nil
        if let json = fields.optional("kubernetes") {
            kubernetes = try KubernetesStatus(json: json, path: "status.kubernetes")
        }
        try fields.end()
    }

    private static func word(_ fields: inout JSONFields, _ key: String) throws(ParseError) -> NodePhase {
        guard let phase = NodePhase(rawValue: try fields.string(key)) else {
            throw ParseError("form", field: "status.\(key)", offset: 0, "unknown phase")
        }
        return phase
    }
}

extension Membership {
    var json: JSON {
        ["cluster": identity.json, "node": .string(node.description), "role": .string(role.rawValue)]
    }

    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "membership")
        let identity = try ClusterIdentity(json: try fields.required("cluster"), path: "membership.cluster")
        self.init(identity: identity, node: try fields.nodeName("node"), role: try fields.role("role"))
        try fields.end()
    }
}

/// What a node keeps on its own disk beside the secret, `nacre.membership.v1`: enough to go on after a restart.
struct KeptMembership: Sendable {
    static let schema = "nacre.membership.v1"
    static let file = "membership.json"
    static let secretFile = "cluster-secret"

    let membership: Membership
    let manifest: [UInt8]
    let policy: AppraisalPolicy
    /// Where the others are; hints.
    var peers: [PeerEndpoint]

    var bytes: [UInt8] {
        let json: JSON = [
            "schema": .string(Self.schema), "membership": membership.json, "manifest": .base64(manifest),
            "policy": policy.json, "peers": .array(peers.map(\.json)),
        ]
        return Array(json.compact.utf8)
    }

    init(membership: Membership, manifest: [UInt8], policy: AppraisalPolicy, peers: [PeerEndpoint]) {
        self.membership = membership
        self.manifest = manifest
        self.policy = policy
        self.peers = peers
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 16 << 20), path: "membership")
        try fields.schema(Self.schema)
        membership = try Membership(json: try fields.required("membership"))
        manifest = try fields.base64("manifest")
        policy = try AppraisalPolicy(json: try fields.required("policy"))
        peers = try PeerEndpoint.list(try fields.array("peers"), path: "membership.peers")
        try fields.end()
    }
}
