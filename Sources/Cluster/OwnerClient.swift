import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Synchronization

/// The owner's end: verifies a node, proves the owner key to it, and only then says anything.
public struct OwnerClient: Sendable {
    /// Where a node's channel is.
    public typealias Endpoint = PeerEndpoint

    private let channel: ChannelClient
    private let owner: OwnerKey
    private let identity: ClusterIdentity
    private let judge: NodeProof.Judge
    /// For each message, seconds.
    private let patience: Int

    /// - Parameters:
    ///   - clusterID: of the cluster that nodes are, or become, part of.
    ///   - judge: whether a node's evidence is good enough.
    public init(
        owner: OwnerKey, clusterID: [UInt8], now: Instant, patience: Int = 90, judge: @escaping NodeProof.Judge
    ) throws(Finding) {
        self.owner = owner
        self.judge = judge
        self.patience = patience
        do {
            identity = try ClusterIdentity(clusterID: clusterID, owner: owner.digest)
            channel = try ChannelClient(identity: try TLSIdentity(ephemeral: "nacre-owner", now: now))
        } catch { throw Finding("key-form", claim: "owner key", actual: "\(error)") }
    }

    /// Makes the node part of the cluster, or finds that it is.
    public func initialise(
        _ endpoint: Endpoint, _ request: InitRequest, _ secret: borrowing ClusterSecret
    ) throws(Finding) -> NodeStatus {
        let connection = try connect(endpoint, .initialise, cluster: .noneOr(identity))
        defer { connection.close() }
        try send(connection, request.json)
        var reply = try answer(connection)
        switch (reply, request.role) {
        case (.wantSecret, .controlPlane):
            try send(connection, secret.packed)
            reply = try answer(connection)
        case (.wantDiskKey(let claim), .worker) where claim.node == request.node && claim.epoch == request.epoch:
            try send(connection, secret.diskKey(node: request.node, epoch: request.epoch))
            reply = try answer(connection)
        default: break
        }
        return try concluded(reply)
    }

    /// Gives the node the key of the disk that it has, and only that.
    ///
    /// - Parameters:
    ///   - generation: the last opening of this node's disk that is remembered; an older disk gets no key.
    ///   - peers: where the others are.
    ///   - grant: the key for that disk, or why not.
    public func recover(
        _ endpoint: Endpoint, generation: Int = 0, peers: [PeerEndpoint] = [],
        grant: (DiskBinding) throws(Finding) -> Secret
    ) throws(Finding) -> NodeStatus {
        let connection = try connect(endpoint, .recover, cluster: .noneOr(identity))
        defer { connection.close() }
        var reply = try answer(connection)
        if case .wantDiskKey(let claim) = reply {
            guard constantTimeEqual(claim.clusterID, identity.clusterID) else {
                throw Finding(
                    "disk-other-cluster", claim: "state disk", expected: Hex.encode(identity.clusterID),
                    actual: Hex.encode(claim.clusterID))
            }
            guard claim.generation >= generation else { throw DiskBinding.rollback(claim.generation, generation) }
            let key = try grant(claim)
            try send(connection, RecoveryGrant(generation: generation, peers: peers).json)
            try send(connection, key)
            reply = try answer(connection)
        }
        return try concluded(reply)
    }

    /// Has a member exchange its disk's key for that of `epoch`, the next one, while the disk is in use.
    public func rekey(
        _ endpoint: Endpoint, node: NodeName, epoch: Int, _ secret: borrowing ClusterSecret
    ) throws(Finding) -> NodeStatus {
        let connection = try connect(endpoint, .rekey, cluster: .member(identity))
        defer { connection.close() }
        try send(connection, RekeyRequest(epoch: epoch).json)
        var reply = try answer(connection)
        if case .wantDiskKey(let claim) = reply {
            guard claim.node == node, claim.epoch == epoch - 1 else {
                throw Finding(
                    "disk-other-node", claim: "state disk", expected: "\(node), epoch \(epoch - 1)",
                    actual: "\(claim.node), epoch \(claim.epoch)")
            }
            try send(connection, secret.diskKeys(node: node, epochs: [epoch - 1, epoch]))
            reply = try answer(connection)
        }
        return try concluded(reply)
    }

    /// Has a member go by another policy from now on.
    public func apply(_ endpoint: Endpoint, _ policy: SignedPolicy) throws(Finding) -> NodeStatus {
        let connection = try connect(endpoint, .policy, cluster: .member(identity))
        defer { connection.close() }
        do { try connection.send(policy.bytes, deadline: .seconds(patience)) } catch { throw Self.finding(error) }
        return try concluded(try answer(connection))
    }

    /// What the node says of itself; it may be in no cluster yet.
    public func status(_ endpoint: Endpoint) throws(Finding) -> NodeStatus {
        let connection = try connect(endpoint, .status, cluster: .noneOr(identity))
        defer { connection.close() }
        return try concluded(try answer(connection))
    }

    /// The node's log, a piece at a time.
    public func logs(_ endpoint: Endpoint, _ each: ([String]) throws(Finding) -> Void) throws(Finding) {
        let connection = try connect(endpoint, .logs, cluster: .member(identity))
        defer { connection.close() }
        while let message = try receive(connection) {
            var lines: [String]
            do throws(ParseError) {
                var fields = try JSONFields(try JSON(parsing: message, limit: 1 << 20), path: "log")
                try fields.schema("nacre.log.v1")
                lines = try fields.array("lines").compactMap(\.string)
                try fields.end()
            } catch { throw error.finding }
            try each(lines)
        }
    }

    // MARK: Conversation

    private func connect(
        _ endpoint: Endpoint, _ purpose: Purpose, cluster: ClusterExpectation
    ) throws(Finding) -> AttestedConnection {
        let rejection = Mutex<Finding?>(nil)
        do {
            let hello = try Hello(purpose: purpose.rawValue, clusterID: identity.clusterID)
            return try channel.connect(
                endpoint.host, port: endpoint.port, hello: hello, deadline: .seconds(patience),
                judge: { (proof, session) throws(ChannelRefusal) in
                    let judged = try NodeProof.judge(proof, binding: session.peerBinding, cluster: cluster) {
                        let result = judge($0, $1, $2)
                        rejection.withLock { $0 = result.verdict.finding }
                        return result
                    }
                    return judged.evidence.platform
                },
                prove: { (session, _) throws(ChannelRefusal) in
                    do throws(Finding) {
                        return Array(try owner.prove(session.ownBinding).json.compact.utf8)
                    } catch { throw ChannelRefusal("internal", explanation: "\(error)") }
                }
            ).connection
        } catch let error as ChannelError {
            throw rejection.withLock { $0 } ?? Self.finding(error)
        } catch { throw Finding("connection-failed", claim: endpoint.host, actual: "\(error)") }
    }

    private func send(_ connection: AttestedConnection, _ json: JSON) throws(Finding) {
        do { try connection.send(Array(json.compact.utf8), deadline: .seconds(patience)) } catch {
            throw Self.finding(error)
        }
    }

    private func send(_ connection: AttestedConnection, _ secret: borrowing Secret) throws(Finding) {
        do { try connection.send(secret, deadline: .seconds(patience)) } catch { throw Self.finding(error) }
    }

    private func receive(_ connection: AttestedConnection) throws(Finding) -> [UInt8]? {
        do { return try connection.receive(deadline: .seconds(patience)) } catch { throw Self.finding(error) }
    }

    private func answer(_ connection: AttestedConnection) throws(Finding) -> BootstrapAnswer {
        guard let message = try receive(connection) else {
            throw Finding("connection-failed", claim: "node", actual: "it left without an answer", next: "try again")
        }
        do { return try BootstrapAnswer(parsing: message) } catch { throw error.finding }
    }

    private func concluded(_ answer: BootstrapAnswer) throws(Finding) -> NodeStatus {
        switch answer {
        case .done(let status): return status
        case .refused(let finding): throw finding
        case .wantSecret, .wantDiskKey:
            throw Finding("parse-form", claim: "answer", actual: "the node asks for what it may not have")
        }
    }

    /// Of the family of the reason that the node gave, or `connection`.
    static func finding(_ error: ChannelError) -> Finding {
        switch error {
        case .refusedByPeer(let reason):
            Finding(reason, claim: "node", actual: "the node refused", next: "its own log says more")
        case .refused(let reason, let explanation): Finding(reason, claim: "node", actual: explanation)
        case .connection(let text), .protocolViolation(let text):
            Finding("connection-failed", claim: "channel", actual: text)
        case .timeout(let step): Finding("connection-timeout", claim: "channel", actual: "no \(step) in time")
        }
    }
}
