import Bytes
import DiskFormat

/// The last opening of each node's state disk that was confirmed, `nacre.generations.v1`: an older disk is a copy of the
/// past. Never lowered.
struct DiskGenerations: Sendable, Equatable {
    static let schema = "nacre.generations.v1"
    static let file = "generations.json"
    private static let maximumNodes = 4096

    private(set) var nodes: [NodeName: Int] = [:]

    init() {}

    /// 0 for a node that was never heard of.
    subscript(node: NodeName) -> Int { nodes[node] ?? 0 }

    /// - Returns: whether there is something to keep.
    mutating func remember(_ generation: Int, of node: NodeName) -> Bool {
        guard generation > self[node], nodes[node] != nil || nodes.count < Self.maximumNodes else { return false }
        nodes[node] = generation
        return true
    }

    var bytes: [UInt8] {
        let counts = nodes.map { ($0.description, JSON.integer(Int128($1))) }
        let json: JSON = [
            "schema": .string(Self.schema), "nodes": .object(Dictionary(uniqueKeysWithValues: counts)),
        ]
        return Array(json.compact.utf8)
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 20), path: "generations")
        try fields.schema(Self.schema)
        let object = try fields.required("nodes")
        try fields.end()
        guard let entries = object.object, entries.count <= Self.maximumNodes else {
            throw ParseError("form", field: "generations.nodes", offset: 0, "must be an object of nodes")
        }
        var counts = try JSONFields(object, path: "generations.nodes")
        for key in entries.keys {
            guard let name = NodeName(key) else {
                throw ParseError("form", field: "generations.nodes", offset: 0, "not a node's name")
            }
            nodes[name] = try counts.counter(key, from: 0)
        }
    }
}

extension DiskBinding {
    /// The same disk, of which this opening is the last one that somebody remembers.
    func remembered(_ generation: Int) -> DiskBinding {
        DiskBinding(clusterID: clusterID, node: node, epoch: epoch, generation: generation)
    }
}
