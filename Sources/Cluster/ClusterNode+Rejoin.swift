import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Synchronization

/// A restarted node gets its disk's key back from a control plane, without anybody's help: both prove themselves.
extension ClusterNode {
    /// Asks the peers that the disk names, in turn and forever, until the node is a member by whatever way. While it
    /// waits for the next one, init and recover are as possible as ever.
    ///
    /// Often at first, for a node that starts has its network a moment later; each pause is a quarter longer than the one
    /// before it. What a peer answers is said when it is another answer than its last.
    ///
    /// - Parameter pause: sleeps for so many milliseconds.
    public func seekPeers(pause: (_ milliseconds: Int) -> Void) {
        var wait = Self.firstPause
        var told: [PeerEndpoint: Finding] = [:]
        while true {
            let (phase, state) = held.withLock { ($0.progress.phase, $0.disk) }
            switch phase {
            case .run, .failed: return
            case .wait:
                // A disk can come later than the node can be asked.
                guard case .closed = state else {
                    discover(isSearch: true)
                    break
                }
                for peer in disk.hints() {
                    do throws(Finding) {
                        _ = try rejoin(peer, patience: Self.patience)
                        return
                    } catch {
                        held.withLock { $0.search = error }
                        guard told.updateValue(error, forKey: peer) != error else { continue }
                        say("rejoin through \(peer): \(error)")
                    }
                }
            default: break
            }
            pause(wait)
            wait = min(wait + wait / 4, Self.longestPause)
        }
    }

    /// Milliseconds between two rounds.
    private static let firstPause = 200
    private static let longestPause = 30_000

    /// Asks one control plane for the key of the disk that this machine has.
    ///
    /// Before the disk is open there is no manifest to judge the peer by. Its evidence must be of this session and show
    /// the disk's cluster; the key that it sends must verify the header's seal, which only the cluster's secret can; and
    /// before the node measures anything, the same evidence is appraised in full by what the disk holds.
    public func rejoin(_ endpoint: PeerEndpoint, patience: Int = 90) throws(Finding) -> NodeStatus {
        guard case .closed(let claim) = held.withLock({ $0.disk }) else {
            throw Finding("disk-missing", claim: "state disk", expected: "a closed disk of a cluster", actual: "none")
        }
        let (connection, peer) = try connect(endpoint, claim, patience: patience)
        defer { connection.close() }
        do throws(ChannelRefusal) {
            let candidate = Membership(identity: peer.identity, node: claim.node, role: .worker)
            if try apply(.claim(.rejoin, candidate)) == .already { return status }
        } catch { throw Finding(error.reason, claim: "bootstrap", actual: error.explanation) }
        say("claimed by rejoin through \(endpoint)")
        let opened: OpenedDisk
        do throws(Finding) {
            let known = try ask(connection, claim, peer.identity)
            let key = try receiveKey(connection)
            opened = try open(claim.remembered(known), key, peer.identity)
        } catch {
            drop(error)
            throw error
        }
        do throws(Finding) {
            try appraise(peer, opened)
            try tell(connection)
        } catch {
            close()
            drop(error)
            throw error
        }
        try conclude(opened)
        return status
    }

    private func connect(
        _ endpoint: PeerEndpoint, _ claim: DiskBinding, patience: Int
    ) throws(Finding) -> (AttestedConnection, PeerWitness) {
        let peer = Mutex<PeerWitness?>(nil)
        let connection: AttestedConnection
        do {
            let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "nacre-node", now: machine.time()))
            let hello = try Hello(purpose: Purpose.rejoin.rawValue, clusterID: claim.clusterID)
            connection = try client.connect(
                endpoint.host, port: endpoint.port, hello: hello, deadline: .seconds(patience),
                judge: { (proof, session) throws(ChannelRefusal) in
                    let witness = try PeerWitness(proof, binding: session.peerBinding, clusterID: claim.clusterID)
                    peer.withLock { $0 = witness }
                },
                prove: { (session, _) throws(ChannelRefusal) in try prove(session) }
            ).connection
        } catch let error as ChannelError {
            throw OwnerClient.finding(error)
        } catch { throw Finding("connection-failed", claim: "\(endpoint)", actual: "\(error)") }
        guard let witness = peer.withLock({ $0 }) else {
            throw Finding("cluster-missing", claim: "control plane", expected: Hex.encode(claim.clusterID))
        }
        return (connection, witness)
    }

    /// - Returns: the last opening of the disk that the control plane knows of; the key follows.
    private func ask(
        _ connection: AttestedConnection, _ claim: DiskBinding, _ identity: ClusterIdentity
    ) throws(Finding) -> Int {
        let request = JoinRequest(node: claim.node, epoch: claim.epoch, generation: claim.generation)
        do throws(ChannelError) { try send(connection, request.json) } catch { throw OwnerClient.finding(error) }
        let json = try answer(from: connection)
        let grant: JoinGrant
        do { grant = try JoinGrant(json: json) } catch { throw error.finding }
        guard grant.identity == identity else {
            throw Finding(
                "cluster-other", claim: "control plane", expected: Hex.encode(identity.clusterID),
                actual: Hex.encode(grant.identity.clusterID), source: "the control plane's registers")
        }
        return grant.generation
    }

    private func receiveKey(_ connection: AttestedConnection) throws(Finding) -> Secret {
        do throws(ChannelError) {
            return try connection.receiveSecret(count: 32, deadline: .seconds(Self.patience))
        } catch { throw OwnerClient.finding(error) }
    }

    /// By the newest policy that the disk has, or else by the manifest and policy of init, as an owner would.
    private func appraise(_ peer: PeerWitness, _ opened: borrowing OpenedDisk) throws(Finding) {
        let (member, time) = (ClusterExpectation.member(peer.identity), machine.time())
        let result =
            try EnrolmentDesk.storedPolicy(disk, peer.identity)?.policy.judge(
                peer.evidence, nonce: peer.nonce, cluster: member, at: time)
            ?? Appraisal.judge(
                peer.evidence, nonce: peer.nonce, reference: .pinned(opened.manifest), policy: opened.kept.policy,
                cluster: member, at: time)
        if let finding = result.verdict.finding { throw finding }
    }

    /// Goes on only once the control plane will refuse an older disk than this one.
    private func tell(_ connection: AttestedConnection) throws(Finding) {
        guard let generation = held.withLock({ $0.disk.generation }) else {
            throw Finding("disk-missing", claim: "state disk", expected: "an open one", actual: "none")
        }
        let opened = DiskOpened(generation: generation)
        do throws(ChannelError) { try send(connection, opened.json) } catch { throw OwnerClient.finding(error) }
        let json = try answer(from: connection)
        let confirmed: DiskOpened
        do throws(ParseError) { confirmed = try DiskOpened(json: json) } catch { throw error.finding }
        guard confirmed == opened else {
            throw Finding(
                "disk-generation", claim: "generation", expected: "\(generation)", actual: "\(confirmed.generation)",
                source: "the opened disk")
        }
    }

    /// The next message, or the finding of a refusal.
    func answer(from connection: AttestedConnection) throws(Finding) -> JSON {
        let message: [UInt8]
        do throws(ChannelError) { message = try receive(connection) } catch { throw OwnerClient.finding(error) }
        if let answer = try? BootstrapAnswer(parsing: message), case .refused(let finding) = answer { throw finding }
        do throws(ParseError) { return try JSON(parsing: message, limit: 1 << 16) } catch { throw error.finding }
    }
}

/// A control plane's proof as a node can see it whose disk is still closed: kept, and judged once the disk is open.
struct PeerWitness: Sendable {
    let evidence: Evidence
    let nonce: [UInt8]
    let identity: ClusterIdentity

    /// - Throws: `parse-…`, `nonce-binding`, `cluster-…`, `register-mismatch`.
    init(_ proof: [UInt8], binding: [UInt8], clusterID: [UInt8]) throws(ChannelRefusal) {
        do throws(ParseError) { evidence = try Evidence(parsing: proof) } catch {
            throw ChannelRefusal("parse-\(error.detail)", explanation: "\(error)")
        }
        nonce = NodeProof.nonce(binding)
        guard constantTimeEqual(evidence.nonce, nonce) else {
            throw ChannelRefusal("nonce-binding", explanation: "evidence of another session")
        }
        guard let identity = evidence.cluster else {
            throw ChannelRefusal("cluster-missing", explanation: "the peer is in no cluster")
        }
        guard constantTimeEqual(identity.clusterID, clusterID) else {
            throw ChannelRefusal("cluster-other", explanation: "the peer is in \(Hex.encode(identity.clusterID))")
        }
        for (bank, registers) in evidence.tpm?.registers ?? [:] {
            let zeros = [UInt8](repeating: 0, count: bank.size)
            guard let value = registers[ClusterIdentity.register],
                constantTimeEqual(value, identity.extending(zeros, bank))
            else {
                throw ChannelRefusal(
                    "register-mismatch", explanation: "register \(ClusterIdentity.register) does not show the cluster")
            }
        }
        self.identity = identity
    }
}
