import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Kubernetes
import SyntheticNode
import Testing

@testable import Cluster

/// A cluster of nodes that exist only here, with a policy.
final class SoftwareCluster {
    let owner: Owner
    private(set) var planes: [SoftwareNode] = []
    private(set) var workers: [SoftwareNode] = []

    init(planes: Int = 1, workers: Int = 1, policy change: (inout ClusterPolicy) -> Void = { _ in }) throws {
        owner = try Owner()
        for index in 0..<planes {
            let node = try SoftwareNode()
            _ = try owner.client.initialise(
                node.endpoint,
                try owner.request("control-plane-\(index)", peers: self.planes.map(\.endpoint)), owner.secret)
            self.planes.append(node)
        }
        for index in 0..<workers {
            let node = try SoftwareNode()
            _ = try owner.client.initialise(
                node.endpoint, try owner.request("worker-\(index)", .worker, peers: self.planes.map(\.endpoint)),
                owner.secret)
            self.workers.append(node)
        }
        var policy = try Self.policy(owner, planes: planes, workers: workers)
        change(&policy)
        try apply(policy)
    }

    static func policy(_ owner: Owner, planes: Int = 1, workers: Int = 1, version: Int = 1) throws -> ClusterPolicy {
        let names =
            (0..<planes).map { ("control-plane-\($0)", NodeRole.controlPlane) }
            + (0..<workers).map { ("worker-\($0)", NodeRole.worker) }
        let nodes = try names.enumerated().map { index, node in
            ClusterPolicy.Node(
                name: try #require(NodeName(node.0)), role: node.1, index: try #require(NodeIndex(index + 1)))
        }
        return ClusterPolicy(
            clusterID: owner.secret.clusterID, version: version, nodes: nodes, images: [owner.manifest],
            attestation: .development)
    }

    func apply(_ policy: ClusterPolicy, to nodes: [SoftwareNode]? = nil) throws {
        let signed = try SignedPolicy(signing: policy, by: owner.key)
        for node in nodes ?? planes { _ = try owner.client.apply(node.endpoint, signed) }
    }

    /// The next version of the first control plane's policy.
    func change(_ body: (inout ClusterPolicy) throws -> Void) throws {
        var policy = try #require(planes[0].service.policy)
        policy.version += 1
        try body(&policy)
        try apply(policy)
    }

    func revoke(_ name: String) throws {
        try change { policy in
            let index = try #require(policy.nodes.firstIndex { $0.name.description == name })
            policy.nodes[index].isRevoked = true
        }
    }

    func restart(plane index: Int) throws {
        let node = try planes[index].restarted()
        planes[index] = node
        _ = try owner.client.initialise(node.endpoint, try owner.request("control-plane-\(index)"), owner.secret)
    }

    func restart(worker index: Int) throws {
        let node = try workers[index].restarted()
        workers[index] = node
        _ = try owner.client.initialise(
            node.endpoint, try owner.request("worker-\(index)", .worker, peers: planes.map(\.endpoint)), owner.secret)
    }
}

extension SoftwareNode {
    static let hints = [MeshEndpoint(address: IPAddress(192, 0, 2, 9), port: 51820)]

    func enrol(newMeshKey: Bool = false) throws -> NodeEnrolment {
        try service.enrol(endpoints: Self.hints, linkLocalInterface: nil, newMeshKey: newMeshKey, patience: 30)
    }

    @discardableResult
    func refresh(_ endpoints: [MeshEndpoint] = SoftwareNode.hints) throws -> NodeConfiguration? {
        try service.refreshMesh(endpoints: endpoints, linkLocalInterface: nil, patience: 30)
    }

    /// Nodes whose clients the API server is told to let in.
    func knownClients() -> [String] {
        service.desk.state.withLock { state in
            (state.own?.configuration.clientAuthorities.keys.map(\.name.description) ?? []).sorted()
        }
    }

    var peers: [String] {
        service.desk.state.withLock { $0.own?.configuration.mesh.peers.map(\.name.description) ?? [] }
    }

    /// Enrols with a request of the test's own choice, by this node's real evidence.
    func ask(
        _ plane: SoftwareNode, _ identity: ClusterIdentity, key: borrowing Secret,
        binding change: ([UInt8]) -> [UInt8] = { $0 }, _ request: EnrollRequest
    ) throws -> JSON {
        let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "node", now: .now))
        let connection = try client.connect(
            "127.0.0.1", port: plane.server.port, hello: try Hello(purpose: "enroll", clusterID: identity.clusterID),
            deadline: .seconds(30), judge: { (_, _) throws(ChannelRefusal) in },
            prove: { (session, _) throws(ChannelRefusal) in try self.service.prove(session) }
        ).connection
        defer { connection.close() }
        let proof = EnrolmentDesk.proof(key, binding: change(connection.session.ownBinding), request)
        try connection.send(request.message(proof: proof), deadline: .seconds(30))
        return try JSON(parsing: try #require(try connection.receive(deadline: .seconds(30))))
    }
}

@Suite("Enrolment between real ends")
struct EnrolmentTests {
    @Test("a worker and a control plane get exactly the certificates of their roles, for their own keys")
    func enrol() throws {
        let cluster = try SoftwareCluster()
        let plane = try cluster.planes[0].enrol().configuration
        let worker = try cluster.workers[0].enrol()
        let configuration = worker.configuration
        #expect(Set(configuration.certificates.keys) == Set(NodeCertificate.allowed(for: .worker)))
        #expect(Set(plane.certificates.keys) == Set(NodeCertificate.allCases))
        #expect(Set(configuration.authorities.keys) == [.kubernetes, .client, .kubeletClient, .mesh])
        #expect(configuration.clientAuthorities.isEmpty)
        #expect(configuration.index.number == 2 && plane.index.number == 1)
        #expect(configuration.planeKeys == nil && plane.planeKeys != nil)
        #expect(configuration.apiServer == "https://10.200.0.1:6443")
        for made in [plane, configuration] {
            for (name, certificate) in made.certificates {
                #expect(try certificate.publicKey() == made.keys[name]?.publicKey)
                let authority = try #require(made.authorities[name.authority])
                try certificate.verifyPath(intermediates: [], roots: [authority], at: SoftwareNode.now)
            }
        }
        // The worker's authority is the control plane's: one key, whichever certificate of it.
        #expect(
            try configuration.authorities[.kubernetes]?.publicKey() == plane.authorities[.kubernetes]?.publicKey())
        #expect(worker.policyVersion == 1)
        #expect(worker.renewal.seconds == SoftwareNode.now.seconds + 57600)
        #expect(worker.notAfter.seconds == SoftwareNode.now.seconds + 86400)
        #expect(try configuration.files().count == 19)
        // The worker has the policy now, on its disk too.
        #expect(cluster.workers[0].service.policy?.version == 1)
        #expect(
            cluster.workers[0].disk.state.withLock { $0.files.keys.sorted() } == ["membership.json", "policy.json"])
        #expect(
            cluster.planes[0].disk.state.withLock { $0.files.keys.sorted() }
                == ["cluster-secret", "membership.json", "policy.json", "registry.json"])
    }

    @Test("a worker that asks for anything else is refused, whatever it asks for", arguments: NodeCertificate.allCases)
    func otherCertificates(_ wanted: NodeCertificate) throws {
        let cluster = try SoftwareCluster()
        let (plane, worker) = (cluster.planes[0], cluster.workers[0])
        _ = try plane.enrol()
        let request = try Self.request([.kubelet, wanted])
        let json = try Self.ask(worker, plane, cluster, request)
        if NodeCertificate.allowed(for: .worker).contains(wanted) {
            let answer = try EnrollAnswer(json: json)
            #expect(Set(answer.certificates.keys) == [.kubelet, wanted])
        } else {
            #expect(Self.refusal(json) == "policy-role")
            let told = plane.service.refusals.take()
            #expect(told.map(\.purpose) == ["enroll"] && told.map(\.reason) == ["policy-role"])
            #expect(told.first?.text.contains(wanted.rawValue) == true && plane.service.refusals.take().isEmpty)
            #expect(plane.service.desk.state.withLock { $0.registry[request.node] } == nil)
        }
    }

    static func request(
        _ names: Set<NodeCertificate> = [.kubelet], node: String = "worker-0", epoch: Int = 1, sequence: Int = 1 << 30
    ) throws -> EnrollRequest {
        var keys: [NodeCertificate: [UInt8]] = [:]
        for name in names { keys[name] = try PrivateKey(generating: .p256).publicKey.spki }
        return EnrollRequest(
            node: try #require(NodeName(node)), epoch: epoch, keys: keys,
            announcement: .init(
                sequence: sequence, key: [UInt8](repeating: 7, count: 32), endpoints: SoftwareNode.hints),
            policyVersion: 1)
    }

    static func ask(
        _ worker: SoftwareNode, _ plane: SoftwareNode, _ cluster: SoftwareCluster, _ request: EnrollRequest,
        keyOf node: String = "worker-0", epoch: Int = 1, binding: ([UInt8]) -> [UInt8] = { $0 }
    ) throws -> JSON {
        let name = try #require(NodeName(node))
        let key = EnrolmentDesk.nameKey(cluster.owner.secret.diskKey(node: name, epoch: epoch), name, epoch)
        return try worker.ask(plane, try cluster.owner.identity, key: key, binding: binding, request)
    }

    static func refusal(_ json: JSON) -> String? { json["finding"]?["reason"]?.string }

    @Test("a name is proved by the key of that name's disk, in this session; another machine's name is not to be had")
    func names() throws {
        let cluster = try SoftwareCluster(workers: 2)
        let (plane, worker) = (cluster.planes[0], cluster.workers[0])
        _ = try plane.enrol()
        for node in ["worker-1", "control-plane-0", "worker-7"] {
            let json = try Self.ask(worker, plane, cluster, try Self.request(node: node))
            #expect(Self.refusal(json) == "enroll-name", "\(node)")
        }
        let epoch = try Self.ask(worker, plane, cluster, try Self.request(epoch: 2))
        #expect(Self.refusal(epoch) == "enroll-name")
        let replay = try Self.ask(worker, plane, cluster, try Self.request(), binding: { $0.map { $0 ^ 1 } })
        #expect(Self.refusal(replay) == "enroll-name")
        // Whoever has a disk's key is that node; a name that the policy lacks is refused even then.
        let unknown = try Self.ask(
            worker, plane, cluster, try Self.request(node: "worker-7"), keyOf: "worker-7")
        #expect(Self.refusal(unknown) == "policy-node")
        let own = try Self.ask(
            worker, plane, cluster, try Self.request(node: "control-plane-0"), keyOf: "control-plane-0")
        #expect(Self.refusal(own) == "cluster-other-node")
        #expect(try EnrollAnswer(json: try Self.ask(worker, plane, cluster, try Self.request())).index.number == 2)
    }

    @Test("whose evidence the policy refuses never gets to ask")
    func evidence() throws {
        let cluster = try SoftwareCluster()
        let plane = cluster.planes[0]
        _ = try plane.enrol()
        // In no cluster yet.
        let blank = try SoftwareNode()
        #expect(throws: ChannelError.refusedByPeer("cluster-missing")) {
            _ = try Self.ask(blank, plane, cluster, try Self.request())
        }
        // The policy takes another image from now on: both ends refuse.
        try cluster.change { $0.attestation.minimumRelease = 1_000_000 }
        #expect(reason { _ = try cluster.workers[0].enrol() } == "manifest-rollback")
        #expect(plane.reports.willContain("manifest-rollback"))
        // Before there is a policy nobody is enrolled.
        let bare = try SoftwareNode()
        _ = try cluster.owner.initialise(bare)
        #expect(reason { _ = try bare.enrol() } == "policy-missing")
    }

    @Test("members hear of each other within one question, and of a new address and key")
    func mesh() throws {
        let cluster = try SoftwareCluster(workers: 2)
        let (plane, one, two) = (cluster.planes[0], cluster.workers[0], cluster.workers[1])
        _ = try plane.enrol()
        _ = try one.enrol()
        #expect(try one.refresh()?.mesh.peers.map(\.name.description) == ["control-plane-0"])
        #expect(try one.refresh() == nil)
        _ = try two.enrol()
        try two.refresh()
        try one.refresh()
        try plane.refresh()
        #expect(one.peers == ["control-plane-0", "worker-1"] && two.peers == ["control-plane-0", "worker-0"])
        #expect(plane.peers == ["worker-0", "worker-1"])
        let moved = [MeshEndpoint(address: IPAddress(192, 0, 2, 77), port: 51820)]
        try two.refresh(moved)
        let seen = try #require(try one.refresh())
        #expect(seen.mesh.peers.last?.endpoints == moved)
        let before = seen.mesh.peers.last?.publicKey
        let rotated = try two.enrol(newMeshKey: true)
        let after = try #require(try one.refresh()).mesh.peers.last?.publicKey
        #expect(after == rotated.configuration.mesh.publicKey && after != before)
        // A node that did not change its key keeps it over a renewal.
        let renewed = try two.enrol().configuration
        #expect(renewed.mesh.publicKey == rotated.configuration.mesh.publicKey)
        #expect(renewed.keys[.kubelet]?.publicKey != rotated.configuration.keys[.kubelet]?.publicKey)
    }

    @Test("a revoked node is gone from everybody's peers with their next question, and gets nothing any more")
    func revoke() throws {
        let cluster = try SoftwareCluster(workers: 2)
        let (plane, one, two) = (cluster.planes[0], cluster.workers[0], cluster.workers[1])
        for node in [plane, one, two] { _ = try node.enrol() }
        for node in [plane, one, two] { try node.refresh() }
        let serials = try two.service.desk.state.withLock { state in
            try NodeCertificate.allowed(for: .worker).map { name in
                try #require(state.own?.configuration.certificates[name]?.serial)
            }
        }
        try cluster.revoke("worker-1")
        for node in [plane, one] {
            let changed = try #require(try node.refresh())
            #expect(!changed.mesh.peers.contains { $0.name.description == "worker-1" })
            #expect(!node.peers.contains("worker-1"))
        }
        #expect(plane.knownClients() == ["control-plane-0", "worker-0"])
        #expect(reason { try two.refresh() } == "revoked-node")
        #expect(reason { _ = try two.enrol() } == "revoked-node")
        let revoked = try #require(plane.service.revoked.first)
        #expect(revoked.name.description == "worker-1" && revoked.group == "nacre:node:worker-1")
        #expect(Set(revoked.serials) == Set(serials))
        // Its disk's key is not given out again.
        let restarted = try two.restarted()
        #expect(reason { _ = try restarted.service.rejoin(plane.endpoint, patience: 30) } == "revoked-node")
        // The policy has come to the others by themselves.
        #expect(one.service.policy?.version == 2)
    }

    @Test("the API server is told of every node of the policy, and of a revoked one no more before anybody is asked")
    func clients() throws {
        let cluster = try SoftwareCluster(planes: 2, workers: 2)
        let (plane, worker) = (cluster.planes[0], cluster.workers[1])
        let first = try plane.enrol().configuration
        // Of the policy, not of who has enrolled already.
        #expect(plane.knownClients() == ["control-plane-0", "control-plane-1", "worker-0", "worker-1"])
        let enrolled = try worker.enrol().configuration
        for name in NodeCertificate.allowed(for: .worker) where name.authority == .client {
            let certificate = try #require(enrolled.certificates[name])
            let issuers = first.clientAuthorities.filter { (try? certificate.verify(issuedBy: $0.value)) != nil }
            #expect(issuers.map(\.key.name.description) == ["worker-1"])
        }
        _ = try plane.service.refreshOwn()
        #expect(try plane.service.refreshOwn() == nil)
        try cluster.revoke("worker-1")
        let changed = try #require(try plane.service.refreshOwn())
        #expect(!changed.clientAuthorities.keys.contains { $0.name.description == "worker-1" })
        #expect(plane.knownClients() == ["control-plane-0", "control-plane-1", "worker-0"])
        // What was made before is as it was: nothing is signed again for those who stay.
        for (member, certificate) in changed.clientAuthorities {
            #expect(first.clientAuthorities[member]?.der == certificate.der)
        }
        let file = try #require(
            try changed.files().first { $0.path == NodeConfiguration.clientAuthoritiesFile })
        guard case .published(let bytes) = file.contents else {
            Issue.record("certificates are no secret")
            return
        }
        let text = String(decoding: bytes, as: UTF8.self)
        #expect(text.ranges(of: "-----BEGIN CERTIFICATE-----").count == 4)
    }

    @Test("certificates end; only fresh evidence renews them")
    func renewal() throws {
        let cluster = try SoftwareCluster { $0.certificateLifetime = 60 }
        let (plane, worker) = (cluster.planes[0], cluster.workers[0])
        for node in [plane, worker] { _ = try node.enrol() }
        try worker.refresh()
        for node in [plane, worker] { node.clock.ahead.withLock { $0 = 61 } }
        try worker.refresh()
        #expect(worker.reports.willContain("expired-member"))
        _ = try plane.enrol()
        try worker.refresh()
        #expect(plane.reports.willContain("expired-member"))
        let renewed = try worker.enrol()
        #expect(renewed.renewal.seconds == SoftwareNode.now.seconds + 61 + 40)
        _ = try worker.refresh()
        #expect(worker.peers == ["control-plane-0"])
    }

    @Test("clocks that differ more than the backdating are told, not worked around")
    func clocks() throws {
        let cluster = try SoftwareCluster()
        _ = try cluster.planes[0].enrol()
        cluster.workers[0].clock.ahead.withLock { $0 = -299 }
        _ = try cluster.workers[0].enrol()
        cluster.workers[0].clock.ahead.withLock { $0 = -301 }
        #expect(reason { _ = try cluster.workers[0].enrol() } == "expired-certificate")
    }

    @Test("a restarted control plane remembers its nodes; a restarted node takes its place again")
    func restarts() throws {
        let cluster = try SoftwareCluster(workers: 2)
        for node in cluster.planes + cluster.workers { _ = try node.enrol() }
        try cluster.restart(plane: 0)
        _ = try cluster.planes[0].enrol()
        try cluster.planes[0].refresh()
        #expect(cluster.planes[0].peers == ["worker-0", "worker-1"])
        #expect(cluster.planes[0].service.policy?.version == 1)
        try cluster.restart(worker: 0)
        let again = try cluster.workers[0].enrol().configuration
        #expect(again.index.number == 2)
        try cluster.planes[0].refresh()
        let seen = cluster.planes[0].service.desk.state.withLock { $0.own?.configuration.mesh.peers.first }
        #expect(seen?.publicKey == again.mesh.publicKey)
        // What an older copy of the node says comes too late.
        let late = try Self.request(sequence: 5)
        #expect(
            Self.refusal(try Self.ask(cluster.workers[0], cluster.planes[0], cluster, late)) == "enroll-sequence")
        // Nobody takes over the packets of another one.
        let taken = again.mesh.publicKey
        var theft = try Self.request(node: "worker-1")
        theft = EnrollRequest(
            node: theft.node, epoch: 1, keys: theft.keys,
            announcement: .init(sequence: 1 << 40, key: taken, endpoints: []), policyVersion: 1)
        let json = try Self.ask(cluster.workers[1], cluster.planes[0], cluster, theft, keyOf: "worker-1")
        #expect(Self.refusal(json) == "enroll-key")
    }

    @Test("two control planes make the same authorities, and each hears of the other's nodes")
    func planes() throws {
        let cluster = try SoftwareCluster(planes: 2, workers: 1)
        let (one, two) = (try cluster.planes[0].enrol(), try cluster.planes[1].enrol())
        for name in ClusterAuthorityName.allCases {
            // Of the nodes' own authorities each control plane makes all.
            let second = try #require(one.configuration.clientAuthorities.first { $0.key.index.number == 2 })
            let authority =
                name == .client ? second.value : try #require(one.configuration.authorities[name])
            for (certificate, issued) in two.configuration.certificates where certificate.authority == name {
                try issued.verifyPath(intermediates: [], roots: [authority], at: SoftwareNode.now)
            }
        }
        #expect(
            one.configuration.planeKeys?.serviceAccount.publicKey
                == two.configuration.planeKeys?.serviceAccount.publicKey)
        _ = try cluster.workers[0].enrol()
        // The worker asks both, so both know; the second asks the first.
        try cluster.workers[0].refresh()
        try cluster.planes[1].refresh()
        #expect(cluster.planes[1].peers == ["control-plane-0", "worker-0"])
        try cluster.workers[0].refresh()
        #expect(cluster.workers[0].peers == ["control-plane-0", "control-plane-1"])
    }

    @Test("after an exchange of the disk's key the new one proves the name, and the old one no more")
    func rekeyed() throws {
        let cluster = try SoftwareCluster()
        let (plane, worker) = (cluster.planes[0], cluster.workers[0])
        for node in [plane, worker] { _ = try node.enrol() }
        _ = try cluster.owner.client.rekey(
            worker.endpoint, node: try #require(NodeName("worker-0")), epoch: 2, cluster.owner.secret)
        _ = try worker.enrol()
        let old = try Self.ask(worker, plane, cluster, try Self.request(sequence: 1 << 40))
        #expect(Self.refusal(old) == "disk-epoch")
    }
}
