import Bytes
import Crypto

/// Whose disk it is, as its token says: cluster, node, and two counters.
public struct DiskBinding: Equatable, Sendable {
    /// Public, 32 bytes.
    public let clusterID: [UInt8]
    public let node: NodeName
    /// Counts re-keys; which key the keyslot takes.
    public let epoch: Int
    /// Counts openings. Of an expectation: the last one that the cluster knows of; an older disk is a copy of the past.
    public let generation: Int

    public init(clusterID: [UInt8], node: NodeName, epoch: Int, generation: Int) {
        self.clusterID = clusterID
        self.node = node
        self.epoch = epoch
        self.generation = generation
    }

    package init(_ token: DiskMetadata.Binding) {
        self.init(
            clusterID: token.clusterID, node: token.node, epoch: token.epoch, generation: token.generation)
    }

    package func advanced(epoch: Int? = nil, by generations: Int = 0) -> DiskBinding {
        DiskBinding(
            clusterID: clusterID, node: node, epoch: epoch ?? self.epoch, generation: generation + generations)
    }

    /// Refuses a disk of another cluster or node, of another epoch, or older than the cluster remembers.
    package func check(_ found: DiskBinding) throws(DiskError) {
        guard found.clusterID == clusterID else {
            throw DiskError(
                "other-cluster", "token.cluster", expected: Hex.encode(clusterID), actual: Hex.encode(found.clusterID),
                source: "the cluster that this node belongs to",
                next: "attach this node's own disk; a disk of another cluster is left as it is")
        }
        guard found.node == node else {
            throw DiskError(
                "other-node", "token.node", expected: "\(node)", actual: "\(found.node)", source: "this node's name",
                next: "attach each node's own disk; one of them is exchanged")
        }
        guard found.epoch == epoch else {
            throw DiskError(
                "epoch", "token.epoch", expected: "\(epoch)", actual: "\(found.epoch)", source: "the key's epoch",
                next: "ask for the key of epoch \(found.epoch)")
        }
        guard found.generation >= generation else {
            throw DiskError(Self.rollback(found.generation, generation))
        }
    }

    /// A disk that is older than the last opening that is remembered of it.
    public static func rollback(_ found: Int, _ remembered: Int) -> Finding {
        Finding(
            "disk-rollback", claim: "generation of the state disk", expected: "\(remembered) or later",
            actual: "\(found)", source: "the last opening that the cluster remembers",
            next:
                "an older copy of the disk was put in place of the current one, or a copy of it was opened elsewhere: "
                + "restore the current one, or remove the node from the cluster and start over with an empty disk")
    }
}
