import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Manifest

/// Giving keys to other nodes. The other end has judged this node before it proved itself.
extension ClusterNode {
    /// A node that wants its disk's key: of an accepted image, and in no cluster since it started.
    func judgePeer(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer {
        let accepted = try NodeProof.judge(proof, binding: session.peerBinding, cluster: .none) {
            self.judge($0, nonce: $1, cluster: $2)
        }
        return .node(accepted.evidence.platform)
    }

    func release(_ connection: AttestedConnection) throws(ChannelError) {
        let message = try receive(connection)
        let request: JoinRequest
        do { request = try JoinRequest(parsing: message) } catch { return try refuse(connection, error.finding) }
        if let policy {
            do throws(Finding) { _ = try policy.member(request.node) } catch { return try refuse(connection, error) }
        }
        // Two nodes of one name would share a disk's key.
        let key = held.withLock { held -> Secret? in
            guard held.progress.membership?.node != request.node else { return nil }
            return held.secret?.diskKey(node: request.node, epoch: request.epoch)
        }
        let (known, identity) = held.withLock { ($0.generations[request.node], $0.progress.membership?.identity) }
        guard let key, let identity else {
            return try refuse(
                connection, Finding("cluster-other-node", claim: "node", actual: "\(request.node) is this very node"))
        }
        guard request.generation >= known else {
            return try refuse(connection, DiskBinding.rollback(request.generation, known))
        }
        let grant = JoinGrant(identity: identity, generation: known).json
        try connection.send(key, after: Array(grant.compact.utf8), deadline: .seconds(Self.patience))
        say(
            "\(connection.session.hello.purpose): gave \(request.node) the key of its disk, epoch \(request.epoch), "
                + "generation \(request.generation)")
        try confirm(connection, request)
    }

    /// The node has opened its disk; it goes on once that is remembered here.
    private func confirm(_ connection: AttestedConnection, _ request: JoinRequest) throws(ChannelError) {
        let message = try receive(connection)
        let opened: DiskOpened
        do { opened = try DiskOpened(json: try JSON(parsing: message, limit: 4096)) } catch {
            return try refuse(connection, error.finding)
        }
        guard opened.generation == request.generation + 1 else {
            return try refuse(
                connection,
                Finding(
                    "disk-generation", claim: "generation of the state disk", expected: "\(request.generation + 1)",
                    actual: "\(opened.generation)", source: "one opening"))
        }
        do throws(Finding) { try remember(opened.generation, of: request.node) } catch {
            return try refuse(connection, error)
        }
        try send(connection, opened.json)
        say("\(request.node) has opened its disk, generation \(opened.generation)")
    }

    /// On the disk first.
    private func remember(_ generation: Int, of node: NodeName) throws(Finding) {
        let disk = disk
        let result = held.withLock { held -> Result<Void, Finding> in
            var next = held.generations
            guard next.remember(generation, of: node) else {
                return held.generations[node] == 0
                    ? .failure(Finding("cluster-nodes", claim: "node", actual: "no room to remember \(node)"))
                    : .success(())
            }
            var bytes = next.bytes
            do throws(Finding) { try disk.store(Secret(wiping: &bytes), as: DiskGenerations.file) } catch {
                return .failure(error)
            }
            held.generations = next
            return .success(())
        }
        try result.get()
    }

    func send(_ connection: AttestedConnection, _ json: JSON) throws(ChannelError) {
        try connection.send(Array(json.compact.utf8), deadline: .seconds(Self.patience))
    }
}
