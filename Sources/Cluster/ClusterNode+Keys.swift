import Attestation
import AttestedTLS
import Bytes
import Crypto
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
                return try answering(connection, .done(status))
            }
        } catch { return try refuse(connection, error) }
        say("claimed by init for cluster \(Hex.encode(membership.identity.clusterID)) as \(membership.node)")
        var secret: ClusterSecret?
        let key: Secret
        do {
            if membership.role == .controlPlane {
                let received = try receiveSecret(connection)
                key = received.diskKey(node: membership.node, epoch: request.epoch)
                secret = consume received
            } else {
                // A worker never sees more than its own disk's key.
                key = try receiveDiskKey(
                    connection,
                    DiskClaim(
                        clusterID: membership.identity.clusterID, node: membership.node, epoch: request.epoch,
                        generation: 0))
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
        let kept = KeptMembership(membership: membership, manifest: request.manifest, policy: request.policy)
        do throws(Finding) {
            try proceed(.received)
            let state = try disk.prepare(
                request.disk, allowForeign: request.allowForeign, clusterID: membership.identity.clusterID,
                node: request.node, epoch: request.epoch, key: key)
            if case .open = state { try keep(kept, secret?.copy()) }
            held.withLock { $0.disk = state }
        } catch { return try refuse(connection, dropping: error) }
        try conclude(connection, OpenedDisk(kept: kept, manifest: manifest, secret: secret.take()))
    }

    private func receiveSecret(_ connection: AttestedConnection) throws -> ClusterSecret {
        try answer(connection, .wantSecret)
        let packed = try connection.receiveSecret(
            count: ClusterSecret.packedSize, deadline: .seconds(Self.patience))
        return try ClusterSecret(packed: packed)
    }

    private func receiveDiskKey(
        _ connection: AttestedConnection, _ claim: DiskClaim
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
        do throws(ChannelError) { key = try receiveDiskKey(connection, claim) } catch {
            return drop(Finding("cluster-handover", claim: "disk key", actual: "\(error)"))
        }
        let opened: OpenedDisk
        do throws(Finding) { opened = try open(claim, key, identity) } catch {
            return try refuse(connection, dropping: error)
        }
        try conclude(connection, opened)
    }

    // MARK: Steps that both share

    /// What a node knows once its disk is open, or is to be without one.
    struct OpenedDisk: ~Copyable {
        let kept: KeptMembership
        let manifest: Manifest
        /// Control planes only.
        var secret: ClusterSecret?
    }

    /// Opens the disk and reads what it says of this node.
    func open(
        _ claim: DiskClaim, _ key: borrowing Secret, _ identity: ClusterIdentity
    ) throws(Finding) -> OpenedDisk {
        try proceed(.received)
        let state = try disk.open(claim, key: key)
        do throws(Finding) {
            let (kept, manifest) = try loadMembership(identity, claim)
            let secret = kept.membership.role == .controlPlane ? try loadSecret(identity) : nil
            held.withLock { $0.disk = state }
            return OpenedDisk(kept: kept, manifest: manifest, secret: secret)
        } catch {
            disk.close()
            throw error
        }
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
        let (kept, manifest) = (opened.kept, opened.manifest)
        held.withLock { held in
            held.secret = secret.take()
            held.kept = kept
            held.reference = .pinned(manifest)
        }
    }

    private func keep(_ kept: KeptMembership, _ secret: consuming ClusterSecret?) throws(Finding) {
        if let secret { try disk.store(secret.packed, as: KeptMembership.secretFile) }
        var bytes = kept.bytes
        try disk.store(Secret(wiping: &bytes), as: KeptMembership.file)
    }

    /// What the disk says of this node, which must be what its header and the owner say.
    private func loadMembership(
        _ identity: ClusterIdentity, _ claim: DiskClaim
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
