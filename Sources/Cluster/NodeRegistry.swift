import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// The nodes that a control plane has heard of, `nacre.registry.v1`: where their mesh is, and what they were given.
struct NodeRegistry: Sendable, Equatable {
    static let schema = "nacre.registry.v1"
    static let file = "registry.json"
    static let maximumSize = 8 << 20
    /// Serial numbers remembered for each node: those of two enrolments of a control plane.
    private static let maximumSerials = 2 * NodeCertificate.allCases.count

    struct Entry: Sendable, Equatable {
        let index: NodeIndex
        /// X25519, 32 bytes.
        var key: [UInt8]
        var endpoints: [MeshEndpoint]
        /// Of the node's own announcements: a later one is larger, over restarts too.
        var sequence: Int
        /// The highest epoch of its disk's key that the node has proved.
        var epoch: Int
        var lastSeen: Instant
        /// Of its last certificates, oldest first, 16 bytes each.
        var serials: [[UInt8]]
    }

    private(set) var nodes: [NodeName: Entry] = [:]

    init() {}

    subscript(name: NodeName) -> Entry? { nodes[name] }

    /// What a node says of itself.
    struct Announcement: Sendable, Equatable {
        let sequence: Int
        let key: [UInt8]
        let endpoints: [MeshEndpoint]
    }

    /// - Returns: whether peers have something to learn from it.
    /// - Throws: `enroll-sequence` for one that was overtaken, `enroll-index`, `enroll-key` for an index or a key that is
    ///   another node's.
    mutating func announce(
        _ said: Announcement, by name: NodeName, _ index: NodeIndex, at time: Instant
    ) throws(Finding) -> Bool {
        for (other, entry) in nodes where other != name {
            guard entry.index != index else {
                throw Finding(
                    "enroll-index", claim: "index \(index)", expected: "\(other)", actual: "\(name)",
                    source: "the control plane's registry", next: "give \(name) an index that nobody had")
            }
            guard entry.key != said.key else {
                throw Finding(
                    "enroll-key", claim: "WireGuard key", expected: "a key of its own", actual: "the key of \(other)")
            }
        }
        guard var entry = nodes[name], entry.index == index else {
            nodes[name] = Entry(
                index: index, key: said.key, endpoints: said.endpoints, sequence: said.sequence, epoch: 0,
                lastSeen: time, serials: [])
            return true
        }
        guard said.sequence >= entry.sequence else {
            throw Finding(
                "enroll-sequence", claim: "announcement", expected: "\(entry.sequence) or more",
                actual: "\(said.sequence)", source: "the control plane's registry",
                next: "an older copy of this node is running somewhere")
        }
        let isNew = entry.key != said.key || entry.endpoints != said.endpoints
        (entry.key, entry.endpoints, entry.sequence, entry.lastSeen) = (said.key, said.endpoints, said.sequence, time)
        nodes[name] = entry
        return isNew
    }

    /// Certificates were made for a node that proved this epoch of its disk's key.
    mutating func issued(_ serials: [[UInt8]], to name: NodeName, epoch: Int) {
        guard var entry = nodes[name] else { return }
        entry.epoch = max(entry.epoch, epoch)
        entry.serials = Array((entry.serials + serials).suffix(Self.maximumSerials))
        nodes[name] = entry
    }

    /// Forgets every other node: only nodes of the policy have an index.
    mutating func keep(_ names: [NodeName]) {
        let kept = Set(names)
        nodes = nodes.filter { kept.contains($0.key) }
    }

    var bytes: [UInt8] {
        let entries = nodes.map { name, entry -> (String, JSON) in
            (
                name.description,
                [
                    "index": .integer(Int128(entry.index.number)), "key": .base64(entry.key),
                    "endpoints": .array(entry.endpoints.map(\.json)), "sequence": .integer(Int128(entry.sequence)),
                    "epoch": .integer(Int128(entry.epoch)), "lastSeen": .integer(Int128(entry.lastSeen.seconds)),
                    "serials": .array(entry.serials.map { .hex($0) }),
                ]
            )
        }
        let json: JSON = [
            "schema": .string(Self.schema), "nodes": .object(Dictionary(uniqueKeysWithValues: entries)),
        ]
        return Array(json.compact.utf8)
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        func refuse(_ message: String) -> ParseError {
            ParseError("form", field: "registry.nodes", offset: 0, message)
        }
        var fields = try JSONFields(try JSON(parsing: bytes, limit: Self.maximumSize), path: "registry")
        try fields.schema(Self.schema)
        let object = try fields.required("nodes")
        try fields.end()
        guard let entries = object.object, entries.count <= NetworkPlan.maximumNodes else {
            throw refuse("must be an object of at most \(NetworkPlan.maximumNodes) nodes")
        }
        for (key, value) in entries {
            guard let name = NodeName(key) else { throw refuse("not a node's name") }
            var entry = try JSONFields(value, path: "registry.nodes.\(name)")
            let serials = try entry.array("serials")
            guard serials.count <= Self.maximumSerials else { throw refuse("too many serial numbers") }
            var read: [[UInt8]] = []
            for serial in serials { read.append(try JSONFields.hex(serial, path: "registry.serials", count: 16)) }
            nodes[name] = Entry(
                index: try entry.nodeIndex("index"), key: try entry.wireGuardKey("key"),
                endpoints: try MeshEndpoint.list(try entry.array("endpoints"), path: "registry.endpoints"),
                sequence: try entry.sequence("sequence"), epoch: try entry.counter("epoch", from: 0),
                lastSeen: Instant(seconds: Int64(try entry.integer("lastSeen"))), serials: read)
            try entry.end()
        }
        guard Set(nodes.values.map(\.index)).count == nodes.count else { throw refuse("an index stands twice") }
    }
}

extension JSONFields {
    /// Of announcements: a disk's generation and a counter below it.
    mutating func sequence(_ key: String) throws(ParseError) -> Int {
        let value = try integer(key)
        guard (0...1 << 61).contains(value) else { throw ParseError("range", field: key, offset: 0, "\(value)") }
        return value
    }
}
