import Attestation
import Bytes
import Cluster
import Crypto
import DiskFormat
import Host

/// `cluster.json`, schema `nacre.cluster.v1`: what this directory's cluster is made of.
public struct ClusterDocument: Equatable, Sendable {
    public static let schema = "nacre.cluster.v1"

    public typealias Role = Membership.Role

    public struct Node: Equatable, Sendable {
        public let name: String
        public let role: Role
        /// Loopback port of the node's evidence endpoint.
        public var port: UInt16
        /// Loopback port of the node's attested channel; `nil` for a machine of a release without one.
        public var channelPort: UInt16?
        /// Loopback port of a control plane's API server.
        public var apiPort: UInt16?
        /// The last opening of its state disk that it was seen with; an older one is a copy of the past.
        public var generation: Int?
        /// The key that its state disk was last seen to take; 1 where nothing is said.
        public var epoch: Int?
        public var endpoint: String { "\(Self.endpointPrefix)\(port)" }
    }

    /// What the nodes are judged by where no policy is given: chosen when the cluster was made.
    public enum Rules: String, Sendable, CaseIterable {
        /// Confidential VMs and owner keys only.
        case production
        /// The local machine's own TPM and development keys are let through.
        case development
        /// Debug images too.
        case debug

        public var policy: AppraisalPolicy {
            var policy = self == .production ? AppraisalPolicy.production : .development
            policy.allowDebugProfile = self == .debug
            return policy
        }
    }

    /// 16 random bytes that mark this directory's processes.
    public let instance: [UInt8]
    /// The cluster and its owner, from the moment their keys exist.
    public var identity: ClusterIdentity?
    public let created: Instant
    /// `up` made the directory itself, so `down` removes it.
    public let madeDirectory: Bool
    public let image: String?
    public let manifest: String?
    /// The manifest's signature and the keys that may have made it; both or neither.
    public let bundle: String?
    public let trustRoot: String?
    /// SHA-256 of the manifest file when the cluster was made.
    public let manifestDigest: [UInt8]?
    public let firmwareCode: String
    public let firmwareVariables: String
    public let memoryMiB: Int
    public let processors: Int
    /// Of each machine's state disk.
    public var diskMiB = UpRequest.defaultDiskMiB
    /// Which disk of each machine is its state disk.
    public var disk = DiskRule.only
    public let rules: Rules
    /// The owner's own policy for evidence, in place of `rules`.
    public var attestation: AppraisalPolicy?
    public var nodes: [Node]

    /// What the nodes are judged by, and words for where that comes from.
    public var judging: (policy: AppraisalPolicy, name: String) { Self.judging(attestation, rules) }

    static func judging(_ attestation: AppraisalPolicy?, _ rules: Rules) -> (policy: AppraisalPolicy, name: String) {
        attestation.map { ($0, "attestation in cluster.json") }
            ?? (rules.policy, "the cluster's rules: \(rules.rawValue)")
    }

    /// What every process of `node` carries in its environment.
    func marker(_ node: String) -> String { "\(Hex.encode(instance))/\(node)" }

    public var firmware: String { HostFiles.parent(of: firmwareCode) }
}

extension ClusterDocument {
    public var json: JSON {
        .fields([
            "schema": .string(Self.schema), "provider": "qemu", "instance": .hex(instance),
            "clusterID": identity.map { .hex($0.clusterID) }, "owner": identity.map { .hex($0.owner) },
            "created": .string(created.description), "madeDirectory": .bool(madeDirectory),
            "rules": .string(rules.rawValue), "attestation": attestation?.json,
            "image": image.map { .string($0) }, "manifest": manifest.map { .string($0) },
            "bundle": bundle.map { .string($0) }, "trustRoot": trustRoot.map { .string($0) },
            "manifestDigest": manifestDigest.map { .hex($0) },
            "firmware": ["code": .string(firmwareCode), "variables": .string(firmwareVariables)],
            "memoryMiB": .integer(Int128(memoryMiB)), "processors": .integer(Int128(processors)),
            "diskMiB": .integer(Int128(diskMiB)),
            "stateDisk": disk == .only ? nil : disk.json,
            "nodes": .array(
                nodes.map {
                    .fields([
                        "name": .string($0.name), "role": .string($0.role.rawValue),
                        "endpoint": .string($0.endpoint),
                        "channel": $0.channelPort.map { .string("\(Node.channelPrefix)\($0)") },
                        "api": $0.apiPort.map { .string("\(Node.endpointPrefix)\($0)") },
                        "generation": $0.generation.map { .integer(Int128($0)) },
                        "epoch": $0.epoch.map { .integer(Int128($0)) },
                    ])
                }),
        ])
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 20), path: "cluster")
        func refuse(_ key: String, _ message: String) -> ParseError {
            ParseError("form", field: "cluster.\(key)", offset: 0, message)
        }
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "cluster.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        guard try fields.string("provider") == "qemu" else { throw refuse("provider", "must be qemu") }
        let id = try fields.optionalHex("clusterID", count: 32)
        // A document of a release without owners: its id was random and marked the processes.
        instance = try fields.optionalHex("instance", count: 16) ?? Array((id ?? []).prefix(16))
        guard instance.count == 16 else { throw refuse("instance", "missing") }
        if let id, let owner = try fields.optionalHex("owner", count: 32) {
            identity = try ClusterIdentity(clusterID: id, owner: owner)
        }
        guard let created = Instant(try fields.string("created")) else { throw refuse("created", "must be a time") }
        self.created = created
        madeDirectory = try fields.bool("madeDirectory", default: false)
        guard let rules = Rules(rawValue: try fields.string("rules")) else {
            throw refuse("rules", "must be one of \(Rules.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        self.rules = rules
        attestation = try fields.optional("attestation").map { (json) throws(ParseError) in
            try AppraisalPolicy(json: json)
        }
        image = try fields.optionalString("image")
        manifest = try fields.optionalString("manifest")
        bundle = try fields.optionalString("bundle")
        trustRoot = try fields.optionalString("trustRoot")
        manifestDigest = try fields.optionalHex("manifestDigest", count: 32)
        var firmware = try JSONFields(try fields.required("firmware"), path: "cluster.firmware")
        firmwareCode = try firmware.string("code")
        firmwareVariables = try firmware.string("variables")
        try firmware.end()
        memoryMiB = try fields.integer("memoryMiB")
        processors = try fields.integer("processors")
        guard (128...1 << 20).contains(memoryMiB) else { throw refuse("memoryMiB", "out of range") }
        guard (1...256).contains(processors) else { throw refuse("processors", "out of range") }
        diskMiB = try fields.optionalInteger("diskMiB") ?? UpRequest.defaultDiskMiB
        guard (UpRequest.minimumDiskMiB...1 << 20).contains(diskMiB) else { throw refuse("diskMiB", "out of range") }
        if let json = fields.optional("stateDisk") { disk = try DiskRule(json: json, path: "cluster.stateDisk") }
        nodes = []
        for entry in try fields.array("nodes") {
            nodes.append(try Node(json: entry))
            guard nodes.count <= LocalCluster.maximumNodes else { throw refuse("nodes", "too many") }
        }
        guard Set(nodes.map(\.name)).count == nodes.count else { throw refuse("nodes", "one name stands twice") }
        try fields.end()
    }
}

extension ClusterDocument.Node {
    init(json: JSON) throws(ParseError) {
        let path = "cluster.nodes[]"
        var fields = try JSONFields(json, path: path)
        name = try fields.string("name")
        guard Self.isName(name) else { throw ParseError("form", field: "\(path).name", offset: 0, "not a node's name") }
        guard let role = ClusterDocument.Role(rawValue: try fields.string("role")) else {
            throw ParseError("form", field: "\(path).role", offset: 0, "unknown role")
        }
        self.role = role
        func port(_ text: String, after prefix: String, _ key: String) throws(ParseError) -> UInt16 {
            guard text.hasPrefix(prefix), let port = UInt16(text.dropFirst(prefix.count)), port > 0 else {
                throw ParseError("form", field: "\(path).\(key)", offset: 0, "must be \(prefix)PORT")
            }
            return port
        }
        self.port = try port(try fields.string("endpoint"), after: Self.endpointPrefix, "endpoint")
        if let channel = try fields.optionalString("channel") {
            channelPort = try port(channel, after: Self.channelPrefix, "channel")
        }
        if let api = try fields.optionalString("api") { apiPort = try port(api, after: Self.endpointPrefix, "api") }
        generation = try fields.optionalInteger("generation")
        guard generation ?? 0 >= 0 else {
            throw ParseError("range", field: "\(path).generation", offset: 0, "negative")
        }
        epoch = try fields.optionalInteger("epoch")
        guard (1...1 << 40).contains(epoch ?? 1) else {
            throw ParseError("range", field: "\(path).epoch", offset: 0, "out of range")
        }
        try fields.end()
    }

    static let channelPrefix = "127.0.0.1:"
    static let endpointPrefix = "https://127.0.0.1:"

    /// Lower-case letters, digits and inner hyphens, at most 63: also a safe file name.
    static func isName(_ name: String) -> Bool {
        let bytes = Array(name.utf8)
        return (1...63).contains(bytes.count) && bytes.first != UInt8(ascii: "-") && bytes.last != UInt8(ascii: "-")
            && bytes.allSatisfy { byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
            }
    }
}
