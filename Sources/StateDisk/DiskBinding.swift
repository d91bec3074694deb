import Bytes
import Crypto

/// Whose disk it is, as its token says: cluster, node, and two counters.
public struct DiskBinding: Equatable, Sendable {
    /// Public, 32 bytes.
    public let clusterID: [UInt8]
    public let node: String
    /// Counts re-keys; which key the keyslot takes.
    public let epoch: Int
    /// Counts openings. Of an expectation: the last one that the cluster knows of; an older disk is a copy of the past.
    public let generation: Int

    public init(clusterID: [UInt8], node: String, epoch: Int, generation: Int) {
        self.clusterID = clusterID
        self.node = node
        self.epoch = epoch
        self.generation = generation
    }

    init(_ token: DiskMetadata.Binding) {
        self.init(
            clusterID: token.clusterID, node: token.node, epoch: token.epoch, generation: token.generation)
    }

    func advanced(epoch: Int? = nil, by generations: Int = 0) -> DiskBinding {
        DiskBinding(
            clusterID: clusterID, node: node, epoch: epoch ?? self.epoch, generation: generation + generations)
    }

    /// Refuses a disk of another cluster or node, of another epoch, or older than the cluster remembers.
    func check(_ found: DiskBinding) throws(DiskError) {
        guard found.clusterID == clusterID else {
            throw DiskError(
                "other-cluster", "token.cluster", expected: Hex.encode(clusterID), actual: Hex.encode(found.clusterID),
                source: "the cluster that this node belongs to",
                next: "attach this node's own disk; a disk of another cluster is left as it is")
        }
        guard found.node == node else {
            throw DiskError(
                "other-node", "token.node", expected: node, actual: found.node, source: "this node's name",
                next: "attach each node's own disk; one of them is exchanged")
        }
        guard found.epoch == epoch else {
            throw DiskError(
                "epoch", "token.epoch", expected: "\(epoch)", actual: "\(found.epoch)", source: "the key's epoch",
                next: "ask for the key of epoch \(found.epoch)")
        }
        guard found.generation >= generation else {
            throw DiskError(
                "rollback", "token.generation", expected: "\(generation) or later", actual: "\(found.generation)",
                source: "the last opening that the cluster remembers",
                next: "an older copy of the disk was put in place of the current one: restore the current one, "
                    + "or remove the node from the cluster and start over with an empty disk")
        }
    }
}

/// The header's JSON document with its tokens and keyslots exchanged; everything else stays as libcryptsetup made it.
extension DiskHeader {
    /// Token of one keyslot, before it is sealed.
    struct Token {
        let keyslot: Int
        let binding: DiskBinding
    }

    /// `document` with exactly these tokens and only their keyslots, seals left out.
    static func document(_ document: JSON, tokens: [Token]) -> JSON {
        let names = tokens.map { String($0.keyslot) }
        guard var object = document.object, let digest = object["digests"]?["0"]?.object else { return document }
        object["keyslots"] = .object((object["keyslots"]?.object ?? [:]).filter { names.contains($0.key) })
        object["digests"] = [
            "0": .object(digest.merging(["keyslots": .array(names.sorted().map { .string($0) })]) { $1 })
        ]
        var entries: [String: JSON] = [:]
        for token in tokens {
            entries[String(token.keyslot)] = [
                "type": .string(DiskLayout.tokenType), "keyslots": [.string(String(token.keyslot))],
                "cluster": .hex(token.binding.clusterID), "node": .string(token.binding.node),
                "epoch": .integer(Int128(token.binding.epoch)),
                "generation": .integer(Int128(token.binding.generation)),
            ]
        }
        object["tokens"] = .object(entries)
        return .object(object)
    }

    /// `document` with the seals set, by token.
    static func document(_ document: JSON, seals: [Int: [UInt8]]) -> JSON {
        guard var object = document.object, var tokens = object["tokens"]?.object else { return document }
        for (id, seal) in seals {
            guard var token = tokens[String(id)]?.object else { continue }
            token["seal"] = .hex(seal)
            tokens[String(id)] = .object(token)
        }
        object["tokens"] = .object(tokens)
        return .object(object)
    }
}
