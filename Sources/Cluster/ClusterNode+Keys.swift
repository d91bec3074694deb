import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Manifest

/// How a node comes by its keys, from its owner. Every conversation may end at any message: what was not measured yet is
/// dropped, what was is finished without the owner, and the same owner asking again is told so.
extension ClusterNode {
    func initialise(_ connection: AttestedConnection, _ owner: [UInt8]) throws(ChannelError) {
        let request: InitRequest
        let manifest: Manifest
        let membership: Membership
        do {
            request = try InitRequest(parsing: try receive(connection))
            manifest = try Manifest(parsing: request.manifest)
            membership = Membership(
                identity: try ClusterIdentity(clusterID: connection.session.hello.clusterID, owner: owner),
                node: request.node, role: request.role)
        } catch let error as ChannelError {
            throw error
        } catch let error as ParseError {
            return try refuse(connection, error.finding)
        } catch let finding as Finding {
            return try refuse(connection, finding)
        } catch { throw .protocolViolation("\(error)") }
        do throws(ChannelRefusal) {
            if try apply(.claim(.initialise, membership)) == .already {
                return try update(request.peers, connection)
            }
        } catch { return try refuse(connection, error) }
        say("claimed by init for cluster \(Hex.encode(membership.identity.clusterID)) as \(membership.node)")
        let expected = DiskBinding(
            clusterID: membership.identity.clusterID, node: membership.node, epoch: request.epoch,
            generation: request.generation)
        var secret: ClusterSecret?
        let key: Secret
        do {
            if membership.role == .controlPlane {
                let received = try receiveSecret(connection)
                key = received.diskKey(node: membership.node, epoch: request.epoch)
                secret = consume received
            } else {
                // A worker never sees more than its own disk's key.
                key = try receiveDiskKey(connection, expected)
            }
        } catch { return drop(Finding("cluster-handover", claim: "keys", actual: "\(error)")) }
        if let id = secret?.clusterID, !constantTimeEqual(id, membership.identity.clusterID) {
            return try refuse(
                connection,
                dropping: Finding(
                    "cluster-secret", claim: "cluster secret", expected: Hex.encode(membership.identity.clusterID),
                    actual: Hex.encode(id), source: "the session's cluster id",
                    next: "this secret is another cluster's"))
        }
        let kept = KeptMembership(
            membership: membership, manifest: request.manifest, policy: request.policy, peers: request.peers)
        let generations: DiskGenerations
        do throws(Finding) {
            try proceed(.received)
            let state = try disk.prepare(
                request.disk, allowForeign: request.allowForeign, expecting: expected, key: key)
            desk.remember(key, expected.node, epoch: expected.epoch)
            try keep(kept, secret?.copy())
            generations = membership.role == .controlPlane ? try loadGenerations() : DiskGenerations()
            held.withLock { $0.disk = state }
        } catch {
            close()
            return try refuse(connection, dropping: error)
        }
        try conclude(
            connection,
            OpenedDisk(kept: kept, manifest: manifest, generations: generations, secret: secret.take()))
    }

    private func receiveSecret(_ connection: AttestedConnection) throws -> ClusterSecret {
        try answer(connection, .wantSecret)
        let packed = try connection.receiveSecret(
            count: ClusterSecret.packedSize, deadline: .seconds(Self.patience))
        return try ClusterSecret(packed: packed)
    }

    private func receiveDiskKey(
        _ connection: AttestedConnection, _ claim: DiskBinding
    ) throws(ChannelError) -> Secret {
        try answer(connection, .wantDiskKey(claim))
        return try connection.receiveSecret(count: 32, deadline: .seconds(Self.patience))
    }

    /// The owner opens a disk that this machine has: its key and nothing else. The rest is on the disk.
    func recover(_ connection: AttestedConnection, _ owner: [UInt8]) throws(ChannelError) {
        let current = held.withLock { ($0.progress.isMember, $0.disk) }
        if current.0 { return try answer(connection, .done(status)) }
        guard case .closed(let claim) = current.1 else {
            return try refuse(connection, Finding("disk-missing", claim: "state disk", actual: current.1.description))
        }
        let identity: ClusterIdentity
        do { identity = try ClusterIdentity(clusterID: claim.clusterID, owner: owner) } catch {
            return try refuse(connection, error.finding)
        }
        // The role is on the disk.
        let candidate = Membership(identity: identity, node: claim.node, role: .controlPlane)
        do throws(ChannelRefusal) {
            if try apply(.claim(.recover, candidate)) == .already {
                return try answering(connection, .done(status))
            }
        } catch { return try refuse(connection, error) }
        say("claimed by recover for the disk of \(claim.node)")
        let key: Secret
        let grant: RecoveryGrant
        do {
            try answer(connection, .wantDiskKey(claim))
            grant = try RecoveryGrant(parsing: try receive(connection))
            key = try connection.receiveSecret(count: 32, deadline: .seconds(Self.patience))
        } catch { return drop(Finding("cluster-handover", claim: "disk key", actual: "\(error)")) }
        var opened: OpenedDisk
        do throws(Finding) {
            opened = try open(claim.remembered(grant.generation), key, identity)
        } catch { return try refuse(connection, dropping: error) }
        opened.kept.peers = grant.peers
        do throws(Finding) { try keep(opened.kept, nil) } catch {
            close()
            return try refuse(connection, dropping: error)
        }
        try conclude(connection, opened)
    }

    // MARK: Steps that both share

    /// What a node knows once its disk is open, or is to be without one.
    struct OpenedDisk: ~Copyable {
        var kept: KeptMembership
        let manifest: Manifest
        /// Control planes only.
        var generations: DiskGenerations
        /// Control planes only.
        var secret: ClusterSecret?
    }

    /// Opens the disk and reads what it says of this node.
    func open(
        _ claim: DiskBinding, _ key: borrowing Secret, _ identity: ClusterIdentity
    ) throws(Finding) -> OpenedDisk {
        try proceed(.received)
        do throws(Finding) {
            let state = try disk.open(claim, key: key)
            desk.remember(key, claim.node, epoch: claim.epoch)
            let (kept, manifest) = try loadMembership(identity, claim)
            let isPlane = kept.membership.role == .controlPlane
            let secret = isPlane ? try loadSecret(identity) : nil
            let generations = isPlane ? try loadGenerations() : DiskGenerations()
            held.withLock { $0.disk = state }
            return OpenedDisk(kept: kept, manifest: manifest, generations: generations, secret: secret)
        } catch {
            close()
            throw error
        }
    }

    /// The disk is as it was found: closed.
    func close() {
        disk.close()
        discover()
    }

    /// Measures, and from then on is a member: the last steps, which no longer depend on the one who asked.
    func conclude(_ opened: consuming OpenedDisk) throws(Finding) {
        let membership = opened.kept.membership
        do throws(Finding) {
            try proceed(.opened(membership.role))
            do { try machine.measure(membership.identity) } catch {
                throw Finding(
                    "register-measure", claim: "register \(ClusterIdentity.register)", expected: "extended",
                    actual: "\(error)", next: "nobody knows what it shows now: restart the node")
            }
            try disk.settle()
            try proceed(.measured)
        } catch {
            _ = try? apply(.broken(error))
            say("failed: \(error)")
            throw error
        }
        take(opened)
        say("in cluster \(Hex.encode(membership.identity.clusterID)) as \(membership.node)")
    }

    private func conclude(
        _ connection: AttestedConnection, _ opened: consuming OpenedDisk
    ) throws(ChannelError) {
        do throws(Finding) { try conclude(opened) } catch { return try refuse(connection, error) }
        try answer(connection, .done(status))
    }

    private func take(_ opened: consuming OpenedDisk) {
        var secret = opened.secret.take()
        let (kept, manifest, generations) = (opened.kept, opened.manifest, opened.generations)
        held.withLock { held in
            held.generations = generations
            held.search = nil
            held.secret = secret.take()
            held.kept = kept
            held.reference = .pinned(manifest)
        }
    }

    private func keep(_ kept: KeptMembership, _ secret: consuming ClusterSecret?) throws(Finding) {
        if let secret { try disk.store(secret.packed, as: KeptMembership.secretFile) }
        var bytes = kept.bytes
        try disk.store(Secret(wiping: &bytes), as: KeptMembership.file)
        try disk.keepHints(kept.peers)
    }

    /// A member is told again where the others are.
    private func update(_ peers: [PeerEndpoint], _ connection: AttestedConnection) throws(ChannelRefusal) {
        if var kept = held.withLock({ $0.kept }), kept.peers != peers {
            kept.peers = peers
            do throws(Finding) { try keep(kept, nil) } catch {
                throw ChannelRefusal(error.reason, explanation: "\(error)")
            }
            held.withLock { $0.kept?.peers = peers }
        }
        try answering(connection, .done(status))
    }

    private func loadGenerations() throws(Finding) -> DiskGenerations {
        let stored: Secret
        do throws(Finding) { stored = try disk.load(DiskGenerations.file) } catch {
            if error.reason == "disk-missing" { return DiskGenerations() }
            throw error
        }
        do throws(ParseError) { return try DiskGenerations(parsing: stored.published) } catch { throw error.finding }
    }

    /// What the disk says of this node, which must be what its header and the owner say.
    private func loadMembership(
        _ identity: ClusterIdentity, _ claim: DiskBinding
    ) throws(Finding) -> (KeptMembership, Manifest) {
        let stored = try disk.load(KeptMembership.file)
        let kept: KeptMembership
        do { kept = try KeptMembership(parsing: stored.published) } catch { throw error.finding }
        guard kept.membership.identity.clusterID == claim.clusterID, kept.membership.node == claim.node else {
            throw Finding(
                "disk-binding", claim: "state disk", expected: "\(claim.node)", actual: "\(kept.membership.node)",
                source: "the disk's header", next: "header and contents are not of one node")
        }
        guard constantTimeEqual(kept.membership.identity.owner, identity.owner) else {
            throw Finding(
                "cluster-other-owner", claim: "owner key", expected: Hex.encode(kept.membership.identity.owner),
                actual: Hex.encode(identity.owner), source: "the state disk")
        }
        return (kept, try Manifest(parsing: kept.manifest))
    }

    private func loadSecret(_ identity: ClusterIdentity) throws(Finding) -> ClusterSecret {
        let packed = try disk.load(KeptMembership.secretFile)
        let secret: ClusterSecret
        do { secret = try ClusterSecret(packed: packed) } catch { throw error.finding }
        guard constantTimeEqual(secret.clusterID, identity.clusterID) else {
            throw Finding("cluster-secret", claim: "cluster secret on the disk", expected: "this cluster's")
        }
        return secret
    }

    func proceed(_ event: NodeProgress.Event) throws(Finding) {
        do { _ = try apply(event) } catch {
            throw Finding(error.reason, claim: "bootstrap", actual: error.explanation)
        }
    }

    func drop(_ finding: Finding) {
        _ = try? apply(.dropped(finding))
        say("waiting again: \(finding)")
    }

    private func refuse(_ connection: AttestedConnection, dropping finding: Finding) throws(ChannelError) {
        drop(finding)
        try answer(connection, .refused(finding))
    }

    func refuse(_ connection: AttestedConnection, _ finding: Finding) throws(ChannelError) {
        say("refused: \(finding)")
        refusals.add(
            Purpose(rawValue: connection.session.hello.purpose), finding.reason, "\(finding)", at: machine.time())
        try answer(connection, .refused(finding))
    }

    private func refuse(_ connection: AttestedConnection, _ refusal: ChannelRefusal) throws(ChannelError) {
        try refuse(connection, Finding(refusal.reason, claim: "bootstrap", actual: refusal.explanation))
    }

    /// An answer within a typed `do` that only knows refusals; a peer that is gone needs none.
    private func answering(_ connection: AttestedConnection, _ answer: BootstrapAnswer) throws(ChannelRefusal) {
        try? self.answer(connection, answer)
    }
}
