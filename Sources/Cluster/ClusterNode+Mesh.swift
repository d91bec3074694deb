import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// Members ask control planes every few seconds what is new in the mesh. A TPM is too slow for that: both ends prove
/// themselves by the certificates of their last enrolment, which only fresh evidence renews.
extension ClusterNode {
    /// How often, in seconds, a node should call `refreshMesh`: how long it may take until a revoked node is dropped.
    public static let meshInterval = 3

    // MARK: Control plane

    func proveMember(_ session: ChannelSession) throws(ChannelRefusal) -> [UInt8] {
        guard let own = desk.state.withLock({ $0.own }), let certificate = own.configuration.certificates[.mesh],
            let key = own.configuration.keys[.mesh]
        else { throw ChannelRefusal("busy-starting", explanation: "not enrolled yet") }
        do throws(CryptoError) {
            let proof = try MemberProof(certificate, key: key, binding: session.ownBinding)
            return Array(proof.json.compact.utf8)
        } catch { throw ChannelRefusal("internal", explanation: error.message) }
    }

    /// - Returns: the node that the peer is, which the policy has and has not revoked.
    func judgeMemberProof(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> ClusterPolicy.Node {
        do throws(Finding) {
            let parsed: MemberProof
            do throws(ParseError) { parsed = try MemberProof(parsing: proof) } catch { throw error.finding }
            guard let authority = desk.state.withLock({ $0.own?.configuration.authorities[.mesh] }) else {
                throw Finding("busy-starting", claim: "mesh", actual: "not enrolled yet")
            }
            let name = try parsed.judge(binding: session.peerBinding, authority: authority, at: machine.time())
            return try desk.currentPolicy().member(name)
        } catch { throw ChannelRefusal(error.reason, explanation: "\(error)") }
    }

    func serveMesh(_ connection: AttestedConnection, _ name: NodeName) throws(ChannelError) {
        let message = try receive(connection)
        let request: MeshRequest
        do throws(Finding) {
            do throws(ParseError) { request = try MeshRequest(parsing: message) } catch { throw error.finding }
            try desk.announce(request.announcement, by: name, disk, at: machine.time())
        } catch { return try refuse(connection, error) }
        let policy = desk.state.withLock { $0.policy }
        let view = desk.view()
        let news = MeshNews(
            policyFollows: policy.map { $0.policy.version > request.policyVersion } ?? false,
            viewFollows: view.digest != request.view)
        try send(connection, news.json)
        if news.policyFollows, let policy { try connection.send(policy.bytes, deadline: .seconds(Self.patience)) }
        if news.viewFollows { try connection.send(view.bytes, deadline: .seconds(Self.patience)) }
    }

    /// Counts what this control plane has heard of other nodes: once it grows there is something new for its own mesh.
    public var meshRevision: Int { desk.state.withLock { $0.revision } }

    // MARK: Every member

    /// Tells every control plane where this node is and hears who else is there.
    ///
    /// - Returns: the node's configuration where peers, control planes or policy have changed; `nil` where nothing has.
    /// - Throws: `revoked-node` once the policy says so; `policy-node`. Control planes that cannot be reached are passed over.
    public func refreshMesh(
        endpoints: [MeshEndpoint], linkLocalInterface: String?, patience: Int = 5
    ) throws(Finding) -> NodeConfiguration? {
        let membership = try loaded()
        guard var own = desk.state.withLock({ $0.own }) else {
            throw Finding("busy-starting", claim: "mesh", actual: "not enrolled yet")
        }
        let endpoints = Array(endpoints.prefix(MeshEndpoint.maximumCount))
        if endpoints != own.announcement.endpoints {
            own.announcement = NodeRegistry.Announcement(
                sequence: own.announcement.sequence + 1, key: own.announcement.key, endpoints: endpoints)
        }
        if held.withLock({ $0.secret != nil }) {
            try desk.announce(own.announcement, by: membership.node, disk, at: machine.time())
            own.nodes = own.nodes.merging(try Self.read(desk.view().bytes)) { Self.newer($0, $1) }
        }
        var (heard, revoked) = (false, Finding?.none)
        for endpoint in held.withLock({ $0.kept?.peers ?? [] }) {
            do throws(Finding) {
                try ask(endpoint, &own, membership, patience)
                heard = true
            } catch {
                if error.family == "revoked" { revoked = error }
                say("mesh through \(endpoint): \(error)")
            }
        }
        // One control plane may not have heard yet that the owner changed it back.
        if let revoked, !heard { throw revoked }
        let policy = try desk.currentPolicy()
        own.configuration.mesh.linkLocalInterface = linkLocalInterface
        let before = own.configuration
        own = try refreshed(own, policy)
        desk.state.withLock { $0.own = own }
        _ = try policy.member(membership.node)
        return Self.isSame(before, own.configuration) ? nil : own.configuration
    }

    /// What this node knows by itself: a control plane acts on the owner's word before it asks anybody else, who may be
    /// slow to answer.
    ///
    /// - Returns: the node's configuration where policy or peers have changed it; `nil` where nothing has.
    public func refreshOwn() throws(Finding) -> NodeConfiguration? {
        let membership = try loaded()
        guard var own = desk.state.withLock({ $0.own }) else { return nil }
        let policy = try desk.currentPolicy()
        _ = try policy.member(membership.node)
        let before = own.configuration
        if held.withLock({ $0.secret != nil }) {
            own.nodes = own.nodes.merging(try Self.read(desk.view().bytes)) { Self.newer($0, $1) }
        }
        own = try refreshed(own, policy)
        desk.state.withLock { $0.own = own }
        return Self.isSame(before, own.configuration) ? nil : own.configuration
    }

    /// Whether the files of both say the same of others.
    private static func isSame(_ one: NodeConfiguration, _ two: NodeConfiguration) -> Bool {
        one.mesh.peers == two.mesh.peers && one.planes == two.planes && one.podNetwork == two.podNetwork
            && Set(one.clientAuthorities.keys) == Set(two.clientAuthorities.keys)
    }

    /// The configuration with the peers that are known and the policy as it is.
    func refreshed(_ own: OwnEnrolment, _ policy: ClusterPolicy) throws(Finding) -> OwnEnrolment {
        var own = own
        let mine = own.configuration.name
        let present = Dictionary(policy.nodes.map { ($0.name, $0) }) { first, _ in first }
        own.nodes = own.nodes.filter { name, node in
            present[name].map { !$0.isRevoked && $0.index == node.peer.index } ?? false
        }
        // An address that this node has itself leads to itself, whoever else says the same of a network of their own.
        let here = Set(own.announcement.endpoints.map(\.address))
        own.configuration.mesh.peers = own.nodes.values.map(\.peer).filter { $0.name != mine }
            .map { peer in
                MeshPeer(
                    name: peer.name, index: peer.index, publicKey: peer.publicKey,
                    endpoints: peer.endpoints.filter { !here.contains($0.address) })
            }
            .sorted { $0.index < $1.index }
        own.configuration.planes = policy.planes
        own.configuration.podNetwork = policy.podNetwork
        if own.configuration.role == .controlPlane {
            own.configuration.clientAuthorities = try clientAuthorities(policy, own.configuration.clientAuthorities)
        }
        return own
    }

    /// The authority `client` of each node that is not revoked; those that were made before are kept, for each takes a
    /// signature. `enrol` begins without any, so that they are never older than this node's own certificates.
    private func clientAuthorities(
        _ policy: ClusterPolicy, _ made: [NodeConfiguration.Member: Certificate]
    ) throws(Finding) -> [NodeConfiguration.Member: Certificate] {
        let authority = try authority()
        let time = machine.time()
        var all: [NodeConfiguration.Member: Certificate] = [:]
        for node in policy.nodes where !node.isRevoked {
            let member = NodeConfiguration.Member(name: node.name, index: node.index)
            if let known = made[member] {
                all[member] = known
            } else {
                all[member] = try authority.clientCertificate(of: node.name, node.index, at: time)
            }
        }
        return all
    }

    private func ask(
        _ endpoint: PeerEndpoint, _ own: inout OwnEnrolment, _ membership: Membership, _ patience: Int
    ) throws(Finding) {
        let connection = try dial(endpoint, .mesh, membership.identity, patience) {
            (proof, session) throws(ChannelRefusal) in
            let peer = try judgeMemberProof(proof, session)
            guard peer.role == .controlPlane else {
                throw ChannelRefusal("policy-role", explanation: "\(peer.name) is no control plane")
            }
        } prove: { (session) throws(ChannelRefusal) in
            try proveMember(session)
        }
        defer { connection.close() }
        let request = MeshRequest(
            announcement: own.announcement, policyVersion: try desk.currentPolicy().version,
            view: own.views[endpoint] ?? [])
        do throws(ChannelError) { try send(connection, request.json) } catch { throw OwnerClient.finding(error) }
        let json = try answer(from: connection)
        let news: MeshNews
        do throws(ParseError) { news = try MeshNews(json: json) } catch { throw error.finding }
        if news.policyFollows { try takePolicy(try next(connection), from: "\(endpoint)") }
        guard news.viewFollows else { return }
        let bytes = try next(connection)
        own.nodes = own.nodes.merging(try Self.read(bytes)) { Self.newer($0, $1) }
        own.views[endpoint] = HashAlgorithm.sha256.hash(bytes)
    }

    private static func read(_ bytes: [UInt8]) throws(Finding) -> [NodeName: MeshView.Node] {
        do throws(ParseError) {
            return Dictionary(try MeshView(parsing: bytes).nodes.map { ($0.peer.name, $0) }) { first, _ in first }
        } catch { throw error.finding }
    }

    private static func newer(_ one: MeshView.Node, _ two: MeshView.Node) -> MeshView.Node {
        two.sequence >= one.sequence ? two : one
    }
}
