import Bytes
import Cluster
import DiskFormat
import Host

extension ClusterDocument {
    /// Where the others of a node are, as it reaches them.
    public func peers(of node: Node) -> [PeerEndpoint] {
        // Those that hold keys first: only so many are kept.
        let others = nodes.filter { $0.name != node.name && $0.role == .controlPlane }
        return others.compactMap(\.channelPort).prefix(PeerEndpoint.maximumCount).map {
            PeerEndpoint(host: MachineShape.hostAddress, port: $0)
        }
    }
}

extension LocalCluster {
    /// Remembers which opening of its state disk each node was seen with. Never lowers one.
    public func remember(_ generations: [String: Int]) throws(Finding) {
        guard !generations.isEmpty else { return }
        let lock = try lock("nacre") { _ in }
        defer { lock.keep() }
        guard var document = try document() else { return }
        for index in document.nodes.indices {
            guard let seen = generations[document.nodes[index].name] else { continue }
            document.nodes[index].generation = max(seen, document.nodes[index].generation ?? 0)
        }
        try save(document)
    }
}
