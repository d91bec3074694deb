import Attestation
import Bytes
import DiskFormat

/// What a node asks of a control plane, `nacre.join.v1`: the key of its own disk.
public struct JoinRequest: Sendable, Equatable {
    public static let schema = "nacre.join.v1"

    public let node: NodeName
    public let epoch: Int
    /// Which opening the disk says was its last.
    public let generation: Int

    public init(node: NodeName, epoch: Int, generation: Int) {
        self.node = node
        self.epoch = epoch
        self.generation = generation
    }

    public var json: JSON {
        [
            "schema": .string(Self.schema), "node": .string(node.description), "epoch": .integer(Int128(epoch)),
            "generation": .integer(Int128(generation)),
        ]
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 4096), path: "join")
        try fields.schema(Self.schema)
        node = try fields.nodeName("node")
        epoch = try fields.counter("epoch", from: 1)
        generation = try fields.counter("generation", from: 0)
        try fields.end()
    }
}

/// The answer, `nacre.grant.v1`, before the key: which cluster, and which opening of the disk is the last one known.
struct JoinGrant: Equatable {
    static let schema = "nacre.grant.v1"

    let identity: ClusterIdentity
    let generation: Int

    var json: JSON {
        ["schema": .string(Self.schema), "cluster": identity.json, "generation": .integer(Int128(generation))]
    }

    init(identity: ClusterIdentity, generation: Int) {
        self.identity = identity
        self.generation = generation
    }

    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "grant")
        try fields.schema(Self.schema)
        identity = try ClusterIdentity(json: try fields.required("cluster"), path: "grant.cluster")
        generation = try fields.counter("generation", from: 0)
        try fields.end()
    }
}

/// What a node says once its disk is open, and the control plane once it will remember that: `nacre.opened.v1`.
struct DiskOpened: Equatable {
    static let schema = "nacre.opened.v1"

    let generation: Int

    var json: JSON { ["schema": .string(Self.schema), "generation": .integer(Int128(generation))] }

    init(generation: Int) { self.generation = generation }

    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "opened")
        try fields.schema(Self.schema)
        generation = try fields.counter("generation", from: 0)
        try fields.end()
    }
}
