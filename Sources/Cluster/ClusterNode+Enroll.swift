import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Kubernetes
import Manifest

/// A control plane gives members what their role needs. The other end has judged this node before it proved itself.
extension ClusterNode {
    /// A member of this cluster, of an image that the policy accepts.
    func judgeMember(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer {
        let identity: ClusterIdentity
        do throws(Finding) {
            identity = try loaded().identity
            _ = try desk.currentPolicy()
        } catch { throw ChannelRefusal(error.reason, explanation: "\(error)") }
        let accepted = try NodeProof.judge(proof, binding: session.peerBinding, cluster: .member(identity)) {
            self.judge($0, nonce: $1, cluster: $2)
        }
        return .node(accepted.evidence.platform)
    }

    func serveEnrolment(_ connection: AttestedConnection) throws(ChannelError) {
        let message = try receive(connection)
        let granted: EnrollAnswer
        do throws(Finding) { granted = try grant(message, connection.session.peerBinding) } catch {
            return try refuse(connection, error)
        }
        try send(connection, granted.json)
        if granted.policyFollows, let policy = desk.state.withLock({ $0.policy?.bytes }) {
            try connection.send(policy, deadline: .seconds(Self.patience))
        }
    }

    private func grant(_ message: [UInt8], _ binding: [UInt8]) throws(Finding) -> EnrollAnswer {
        let request: EnrollRequest
        let proof: [UInt8]
        do throws(ParseError) { (request, proof) = try EnrollRequest.parse(message) } catch { throw error.finding }
        let expected = held.withLock { held -> [UInt8]? in
            guard let key = held.secret?.diskKey(node: request.node, epoch: request.epoch) else { return nil }
            let nameKey = EnrolmentDesk.nameKey(key, request.node, request.epoch)
            return EnrolmentDesk.proof(nameKey, binding: binding, request)
        }
        guard let expected, constantTimeEqual(expected, proof) else {
            throw Finding(
                "enroll-name", claim: "node \(request.node)", expected: "proof of that name's disk key",
                actual: "another one", source: "the cluster's secret",
                next: "a node has the name that its state disk was made for")
        }
        // One process has one name: whoever says that it is this very node is not.
        guard try loaded().node != request.node else {
            throw Finding("cluster-other-node", claim: "node", actual: "\(request.node) is this very node")
        }
        let answer = try issue(request)
        say("enrolled \(request.node), index \(answer.index), epoch \(request.epoch)")
        return answer
    }

    private func issue(_ request: EnrollRequest) throws(Finding) -> EnrollAnswer {
        try desk.issue(request, try authority(), disk, at: machine.time())
    }

    func authority() throws(Finding) -> ClusterAuthority {
        try desk.authority { () throws(Finding) in
            let result = held.withLock { held -> Result<ClusterAuthority?, Finding> in
                guard let secret = held.secret?.copy() else { return .success(nil) }
                do throws(Finding) { return .success(try ClusterAuthority(secret)) } catch { return .failure(error) }
            }
            return try result.get()
        }
    }
}

/// What an enrolment gives the rest of the node.
public struct NodeEnrolment: Sendable {
    /// Everything that the node's files are made of: `try configuration.files()`.
    public let configuration: NodeConfiguration
    public let policyVersion: Int
    /// The certificates' end.
    public let notAfter: Instant
    /// Two thirds of their life from when they were made: the time to enrol again.
    public let renewal: Instant
}

/// A member gets its certificates, and gets them anew: a control plane from itself, a worker from a control plane that it
/// has judged and that has judged it.
extension ClusterNode {
    /// Enrols, or renews: new keys, certificates for them by fresh evidence, the same key of the mesh until `newMeshKey`.
    ///
    /// - Parameters:
    ///   - endpoints: where this node's WireGuard may be reached; hints, at most 8.
    ///   - linkLocalInterface: through which others' link-local addresses are reached.
    ///   - patience: seconds for each control plane that is asked.
    public func enrol(
        endpoints: [MeshEndpoint], linkLocalInterface: String?, newMeshKey: Bool = false, patience: Int = 60
    ) throws(Finding) -> NodeEnrolment {
        let membership = try loaded()
        let (previous, key) = desk.state.withLock { ($0.own, $0.key) }
        guard let key, key.node == membership.node else {
            throw Finding("disk-missing", claim: "state disk", expected: "the key that opened it", actual: "none")
        }
        let isPlane = held.withLock { $0.secret != nil }
        let certificates = NodeCertificate.allowed(for: isPlane ? .controlPlane : .worker)
        var keys: [NodeCertificate: PrivateKey] = [:]
        var mesh: MeshConfiguration
        do throws(CryptoError) {
            for name in certificates { keys[name] = try PrivateKey(generating: .p256) }
            if let kept = previous?.configuration.mesh, !newMeshKey {
                mesh = kept
            } else {
                mesh = try MeshConfiguration()
                mesh.peers = previous?.configuration.mesh.peers ?? []
            }
        } catch { throw Finding("key-form", claim: "node's keys", actual: error.message) }
        mesh.linkLocalInterface = linkLocalInterface
        let announcement = NodeRegistry.Announcement(
            sequence: sequence(after: previous?.announcement.sequence), key: mesh.publicKey,
            endpoints: Array(endpoints.prefix(MeshEndpoint.maximumCount)))
        let request = EnrollRequest(
            node: membership.node, epoch: key.epoch, keys: keys.mapValues(\.publicKey.spki), announcement: announcement,
            policyVersion: desk.state.withLock { $0.policy?.policy.version } ?? 0)
        let answer = isPlane ? try issue(request) : try ask(request, key.secret, membership.identity, patience)
        let own = try accept(answer, request, keys, mesh, previous, membership)
        desk.state.withLock { $0.own = own }
        let issued = own.issued.seconds
        say("certificates for \(own.lifetime) s, index \(own.configuration.index)")
        return NodeEnrolment(
            configuration: own.configuration, policyVersion: answer.policyVersion,
            notAfter: Instant(seconds: issued + Int64(own.lifetime)),
            renewal: Instant(seconds: issued + Int64(own.lifetime) * 2 / 3))
    }

    /// Larger than any that this node has used: the disk's generation grows with every boot.
    private func sequence(after last: Int?) -> Int {
        let generation = held.withLock { $0.disk.generation } ?? 0
        return max(generation << 20, (last ?? 0) + 1)
    }

    /// Asks the control planes in turn.
    private func ask(
        _ request: EnrollRequest, _ key: SecretContents, _ identity: ClusterIdentity, _ patience: Int
    ) throws(Finding) -> EnrollAnswer {
        var last = Finding("connection-failed", claim: "control plane", expected: "one to ask", actual: "none is known")
        for endpoint in held.withLock({ $0.kept?.peers ?? [] }) {
            do throws(Finding) {
                return try ask(endpoint, request, key, identity, patience)
            } catch {
                say("enrol through \(endpoint): \(error)")
                last = error
            }
        }
        throw last
    }

    private func ask(
        _ endpoint: PeerEndpoint, _ request: EnrollRequest, _ key: SecretContents, _ identity: ClusterIdentity,
        _ patience: Int
    ) throws(Finding) -> EnrollAnswer {
        let connection = try dial(endpoint, .enrol, identity, patience) { (proof, session) throws(ChannelRefusal) in
            _ = try NodeProof.judge(proof, binding: session.peerBinding, cluster: .member(identity)) {
                self.judge($0, nonce: $1, cluster: $2)
            }
        } prove: { (session) throws(ChannelRefusal) in
            try prove(session)
        }
        defer { connection.close() }
        do throws(ChannelError) {
            let proof = EnrolmentDesk.proof(key.secret, binding: connection.session.ownBinding, request)
            try connection.send(request.message(proof: proof), deadline: .seconds(patience))
        } catch { throw OwnerClient.finding(error) }
        let json = try answer(from: connection)
        let answer: EnrollAnswer
        do throws(ParseError) { answer = try EnrollAnswer(json: json) } catch { throw error.finding }
        if answer.policyFollows { try takePolicy(try next(connection), from: "\(endpoint)") }
        return answer
    }

    func next(_ connection: AttestedConnection) throws(Finding) -> [UInt8] {
        do throws(ChannelError) { return try receive(connection) } catch { throw OwnerClient.finding(error) }
    }

    func dial(
        _ endpoint: PeerEndpoint, _ purpose: Purpose, _ identity: ClusterIdentity, _ patience: Int,
        judge: (_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Void,
        prove: (_ session: ChannelSession) throws(ChannelRefusal) -> [UInt8]
    ) throws(Finding) -> AttestedConnection {
        do {
            let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "nacre-node", now: machine.time()))
            let hello = try Hello(purpose: purpose.rawValue, clusterID: identity.clusterID)
            return try client.connect(
                endpoint.host, port: endpoint.port, hello: hello, deadline: .seconds(patience), judge: judge,
                prove: { (session, _) throws(ChannelRefusal) in try prove(session) }
            ).connection
        } catch let error as ChannelError {
            throw OwnerClient.finding(error)
        } catch { throw Finding("connection-failed", claim: "\(endpoint)", actual: "\(error)") }
    }

    /// What came must be for the keys that were sent, by one authority each, and good now.
    private func accept(
        _ answer: EnrollAnswer, _ request: EnrollRequest, _ keys: [NodeCertificate: PrivateKey],
        _ mesh: MeshConfiguration, _ previous: OwnEnrolment?, _ membership: Membership
    ) throws(Finding) -> OwnEnrolment {
        let time = machine.time()
        let policy = try desk.currentPolicy()
        let node = try policy.member(membership.node)
        func refuse(_ reason: String, _ claim: String, _ actual: String, next: String = "") -> Finding {
            Finding(reason, claim: claim, expected: "what this node asked for", actual: actual, next: next)
        }
        guard answer.index == node.index, Set(answer.certificates.keys) == Set(request.keys.keys) else {
            throw refuse("enroll-answer", "enrolment", "other certificates, or index \(answer.index)")
        }
        var certificates: [NodeCertificate: Certificate] = [:]
        var authorities: [ClusterAuthorityName: Certificate] = [:]
        do {
            for (name, der) in answer.authorities { authorities[name] = try Certificate(der: der) }
            for (name, der) in answer.certificates {
                let certificate = try Certificate(der: der)
                guard let authority = authorities[name.authority],
                    try certificate.publicKey().spki == request.keys[name]
                else { throw refuse("enroll-answer", "certificate \(name.rawValue)", "for another key") }
                try certificate.verify(issuedBy: authority)
                guard certificate.isValid(at: time) else {
                    throw refuse(
                        "expired-certificate", "certificate \(name.rawValue)", "not valid at \(time)",
                        next: "this node's clock and the control plane's differ")
                }
                certificates[name] = certificate
            }
        } catch let finding as Finding {
            throw finding
        } catch { throw refuse("enroll-answer", "certificates", "\(error)") }
        let isPlane = node.role == .controlPlane
        let own = OwnEnrolment(
            configuration: NodeConfiguration(
                name: node.name, role: node.role, index: node.index, planes: policy.planes, etcdMembers: [],
                etcdExists: false, podNetwork: policy.podNetwork, keys: keys, certificates: certificates,
                authorities: authorities, planeKeys: isPlane ? try authority().planeKeys : nil, mesh: mesh),
            announcement: request.announcement, nodes: previous?.nodes ?? [:], views: previous?.views ?? [:],
            issued: time, lifetime: answer.lifetime)
        return try refreshed(own, policy)
    }
}
