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
    /// Remembers with which opening and key of its state disk each node was seen. Never lowers one.
    public func remember(_ seen: [String: (generation: Int, epoch: Int)]) throws(Finding) {
        guard !seen.isEmpty else { return }
        let lock = try lock("nacre") { _ in }
        defer { lock.keep() }
        guard var document = try document() else { return }
        for index in document.nodes.indices {
            guard let (generation, epoch) = seen[document.nodes[index].name] else { continue }
            document.nodes[index].generation = max(generation, document.nodes[index].generation ?? 0)
            let key = max(epoch, document.nodes[index].epoch ?? 1)
            document.nodes[index].epoch = key == 1 ? nil : key
        }
        try save(document)
    }
}
