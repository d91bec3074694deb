import Attestation
import AttestedTLS
import Bytes
import Crypto
import Synchronization

/// A restarted node gets its disk's key back from a control plane, without anybody's help: both prove themselves.
extension ClusterNode {
    /// Asks one control plane for the key of the disk that this machine has.
    ///
    /// - Parameter judge: whether the control plane's evidence is good enough; it must be in the disk's cluster.
    public func rejoin(
        _ endpoint: OwnerClient.Endpoint, patience: Int = 90, judge: @escaping NodeProof.Judge
    ) throws(Finding) -> NodeStatus {
        guard case .closed(let claim) = held.withLock({ $0.disk }) else {
            throw Finding("disk-missing", claim: "state disk", expected: "a closed disk of a cluster", actual: "none")
        }
        let peer = Mutex<(identity: ClusterIdentity?, rejection: Finding?)>((nil, nil))
        let connection: AttestedConnection
        do {
            let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "nacre-node", now: machine.time()))
            let hello = try Hello(purpose: Purpose.rejoin.rawValue, clusterID: claim.clusterID)
            connection = try client.connect(
                endpoint.host, port: endpoint.port, hello: hello, deadline: .seconds(patience),
                judge: { (proof, session) throws(ChannelRefusal) in
                    let accepted = try NodeProof.judge(
                        proof, binding: session.peerBinding, cluster: .cluster(claim.clusterID)
                    ) {
                        let result = judge($0, $1, $2)
                        peer.withLock { $0.rejection = result.verdict.finding }
                        return result
                    }
                    peer.withLock { $0.identity = accepted.evidence.cluster }
                },
                prove: { (session, _) throws(ChannelRefusal) in try prove(session) }
            ).connection
        } catch {
            throw peer.withLock { $0.rejection } ?? (error as? ChannelError).map { OwnerClient.finding($0) }
                ?? Finding("connection-failed", claim: endpoint.host, actual: "\(error)")
        }
        defer { connection.close() }
        // What its registers showed, not what it says now.
        guard let identity = peer.withLock({ $0.identity }) else {
            throw Finding("cluster-missing", claim: "control plane", expected: Hex.encode(claim.clusterID))
        }
        let key: Secret
        do throws(ChannelRefusal) {
            let candidate = Membership(identity: identity, node: claim.node, role: .worker)
            if try apply(.claim(.rejoin, candidate)) == .already { return status }
        } catch { throw Finding(error.reason, claim: "bootstrap", actual: error.explanation) }
        say("claimed by rejoin through \(endpoint.host)")
        do throws(ChannelError) {
            key = try ask(connection, JoinRequest(node: claim.node, epoch: claim.epoch), identity)
        } catch {
            let finding = OwnerClient.finding(error)
            drop(finding)
            throw finding
        }
        let opened: OpenedDisk
        do throws(Finding) { opened = try open(claim, key, identity) } catch {
            drop(error)
            throw error
        }
        try conclude(opened)
        return status
    }

    private func ask(
        _ connection: AttestedConnection, _ request: JoinRequest, _ identity: ClusterIdentity
    ) throws(ChannelError) -> Secret {
        try connection.send(Array(request.json.compact.utf8), deadline: .seconds(Self.patience))
        let message = try receive(connection)
        let json: JSON
        do { json = try JSON(parsing: message, limit: 1 << 16) } catch {
            throw .protocolViolation("the answer to a join: \(error)")
        }
        guard json == identity.json else {
            if let refused = try? BootstrapAnswer(parsing: message), case .refused(let finding) = refused {
                throw .refusedByPeer(finding.reason)
            }
            throw .protocolViolation("a control plane that names another cluster than its registers show")
        }
        return try connection.receiveSecret(count: 32, deadline: .seconds(Self.patience))
    }
}
