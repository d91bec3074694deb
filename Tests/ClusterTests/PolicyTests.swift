import Attestation
import Bytes
import Crypto
import DiskFormat
import Kubernetes
import SyntheticNode
import TestKit
import Testing

@testable import Cluster

@Suite("The owner's policy of a cluster")
struct PolicyTests {
    @Test("read and written, the same; everything else refused")
    func form() throws {
        let owner = try Owner()
        var policy = try SoftwareCluster.policy(owner, workers: 3)
        policy.nodes[2].isRevoked = true
        policy.apiNames = [.dns("api.example.com"), .ip(IPAddress(192, 0, 2, 1))]
        policy.podNetwork = .cilium
        #expect(try ClusterPolicy(json: policy.json) == policy)
        func refused(_ change: (inout [String: JSON]) -> Void) -> Bool {
            var object = policy.json.object ?? [:]
            change(&object)
            return (try? ClusterPolicy(json: .object(object))) == nil
        }
        #expect(!refused { _ in })
        for key in policy.json.object?.keys.sorted() ?? [] { #expect(refused { $0[key] = nil }, "\(key)") }
        #expect(refused { $0["more"] = 1 })
        #expect(refused { $0["version"] = 0 } && refused { $0["version"] = .double(1.5) })
        #expect(refused { $0["certificateLifetime"] = 29 } && refused { $0["certificateLifetime"] = 2_592_001 })
        #expect(refused { $0["images"] = [] } && refused { $0["images"] = ["AAAA"] })
        #expect(refused { $0["cni"] = "none" } && refused { $0["apiNames"] = ["*.example.com"] })
        func nodes(_ nodes: [(String, String, Int)]) -> JSON {
            .array(
                nodes.map { ["name": .string($0.0), "role": .string($0.1), "index": .integer(Int128($0.2))] })
        }
        #expect(!refused { $0["nodes"] = nodes([("a", "control-plane", 1), ("b", "worker", 9)]) })
        #expect(refused { $0["nodes"] = nodes([("a", "control-plane", 1), ("a", "worker", 2)]) })
        #expect(refused { $0["nodes"] = nodes([("a", "control-plane", 1), ("b", "worker", 1)]) })
        #expect(refused { $0["nodes"] = nodes([("a", "worker", 1)]) })
        #expect(refused { $0["nodes"] = nodes([("a", "control-plane", 1025)]) })
        let long = String(repeating: "a", count: NodeCertificate.maximumNodeName + 1)
        #expect(refused { $0["nodes"] = nodes([(long, "control-plane", 1)]) })
    }

    @Test("a signature is one owner's, for one cluster, and over all of it")
    func signature() throws {
        let owner = try Owner()
        let policy = try SoftwareCluster.policy(owner)
        let signed = try SignedPolicy(signing: policy, by: owner.key)
        let read = try SignedPolicy(parsing: signed.bytes)
        #expect(read == signed)
        try read.verify(try owner.identity)
        let identity = try owner.identity
        let other = try ClusterIdentity(clusterID: identity.clusterID, owner: randomBytes(32))
        #expect(reason { try signed.verify(other) } == "cluster-other-owner")
        let elsewhere = try ClusterIdentity(clusterID: randomBytes(32), owner: identity.owner)
        #expect(reason { try signed.verify(elsewhere) } == "cluster-other")
        var changed = policy
        changed.nodes[1].isRevoked = true
        let forged = SignedPolicyForgery.replace(signed, by: changed)
        #expect(reason { try SignedPolicy(parsing: forged).verify(identity) } == "signature-policy")
        // A proof of the owner for a session is no signature over a policy.
        let proof = try owner.key.prove([UInt8](repeating: 1, count: 64))
        let misused = SignedPolicyForgery.sign(policy, proof)
        #expect(reason { try SignedPolicy(parsing: misused).verify(identity) } == "signature-policy")
        // What canonical JSON cannot say is not signed.
        var large = policy
        large.attestation.snp = ["platform_info_required_bits": .integer(1 << 60)]
        #expect(reason { _ = try SignedPolicy(signing: large, by: owner.key) } == "parse-range")
    }

    @Test("members take newer policies, again the same, and never an older one, over restarts too")
    func versions() throws {
        let cluster = try SoftwareCluster()
        let plane = cluster.planes[0]
        let first = try #require(plane.service.policy)
        try cluster.apply(first)
        try cluster.change { $0.certificateLifetime = 3600 }
        #expect(plane.service.policy?.version == 2 && plane.service.policy?.certificateLifetime == 3600)
        #expect(reason { try cluster.apply(first) } == "policy-rollback")
        var conflict = try #require(plane.service.policy)
        conflict.certificateLifetime = 60
        #expect(reason { try cluster.apply(conflict) } == "policy-conflict")
        conflict.version = 3
        conflict.nodes[1] = .init(
            name: try #require(NodeName("thief")), role: .worker, index: try #require(NodeIndex(2)))
        #expect(reason { try cluster.apply(conflict) } == "policy-conflict")
        try cluster.restart(plane: 0)
        #expect(reason { try cluster.apply(first) } == "policy-rollback")
        #expect(cluster.planes[0].service.policy?.version == 2)
        // Another owner's, and one whose write fails, change nothing.
        let stranger = try Owner(secret: cluster.owner.secret.copy())
        let foreign = try SignedPolicy(signing: first, by: stranger.key)
        #expect(
            reason { _ = try cluster.owner.client.apply(cluster.planes[0].endpoint, foreign) } == "cluster-other-owner")
        cluster.planes[0].disk.state.withLock { $0.isReadOnly = true }
        #expect(reason { try cluster.change { $0.certificateLifetime = 60 } } == "disk-io")
        #expect(cluster.planes[0].service.policy?.version == 2)
    }

    @Test("a node that is in no cluster takes no policy")
    func blank() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        let signed = try SignedPolicy(signing: try SoftwareCluster.policy(owner), by: owner.key)
        // The owner's own judgement refuses first.
        #expect(reason { _ = try owner.client.apply(node.endpoint, signed) } == "cluster-missing")
    }

    @Test("evidence is judged by the image that it names, and accepted by any of them")
    func images() throws {
        let owner = try Owner()
        let node = try SoftwareNode()
        _ = try owner.initialise(node)
        let nonce = randomBytes(32)
        let evidence = try node.machine.evidence(nonce)
        var policy = try SoftwareCluster.policy(owner)
        let now = SoftwareNode.now
        func verdict() throws -> String {
            policy.judge(evidence, nonce: nonce, cluster: .member(try owner.identity), at: now).verdict.reason
        }
        #expect(try verdict() == "ok")
        policy.attestation = .production
        #expect(try verdict() == "policy-platform")
        policy.images = []
        #expect(try verdict() == "policy-image")
    }
}

/// Signed policies as nobody makes them.
enum SignedPolicyForgery {
    static func replace(_ signed: SignedPolicy, by policy: ClusterPolicy) -> [UInt8] {
        var object = (try? JSON(parsing: signed.bytes))?.object ?? [:]
        object["policy"] = policy.json
        return Array(JSON.object(object).compact.utf8)
    }

    static func sign(_ policy: ClusterPolicy, _ proof: OwnerProof) -> [UInt8] {
        let json: JSON = [
            "schema": .string(SignedPolicy.schema), "policy": policy.json, "publicKey": .base64(proof.publicKey),
            "signature": .base64(proof.signature),
        ]
        return Array(json.compact.utf8)
    }
}

@Suite("Messages of enrolment are read strictly")
struct EnrolmentMessageTests {
    struct Case: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let bytes: [UInt8]
        /// What was read, written again.
        let read: @Sendable ([UInt8]) throws -> [UInt8]
    }

    static let cases: [Case] = {
        do { return try makeCases() } catch {
            Issue.record(error)
            return []
        }
    }()

    static func makeCases() throws -> [Case] {
        let request = try EnrolmentTests.request([.mesh, .kubelet])
        let name = try #require(NodeName("worker-0"))
        let authority = try ClusterAuthority(AuthorityTests.secret())
        let key = try PrivateKey(generating: .p256)
        let index = try #require(NodeIndex(2))
        let certificate = try authority.issue(
            .mesh, node: name, index: index, for: key.publicKey, at: SoftwareNode.now, lifetime: 60)
        let answer = EnrollAnswer(
            index: index, certificates: [.mesh: certificate.der],
            authorities: [.mesh: try authority.certificate(.mesh, at: SoftwareNode.now).der], lifetime: 60,
            policyVersion: 1, policyFollows: true)
        let peer = MeshPeer(
            name: name, index: index, publicKey: [UInt8](repeating: 7, count: 32), endpoints: SoftwareNode.hints)
        let view = MeshView(nodes: [.init(peer: peer, sequence: 1 << 20)])
        let mesh = MeshRequest(announcement: request.announcement, policyVersion: 1, view: randomBytes(32))
        let proof = try MemberProof(certificate, key: key, binding: randomBytes(64))
        var registry = NodeRegistry()
        _ = try registry.announce(request.announcement, by: name, index, at: SoftwareNode.now)
        registry.issued([certificate.serial], to: name, epoch: 1)
        @Sendable func json(_ json: JSON) -> [UInt8] { Array(json.compact.utf8) }
        return [
            Case(testDescription: "enroll", bytes: request.message(proof: randomBytes(32))) {
                let (request, proof) = try EnrollRequest.parse($0)
                return request.message(proof: proof)
            },
            Case(testDescription: "enrolled", bytes: json(answer.json)) {
                json(try EnrollAnswer(json: try JSON(parsing: $0)).json)
            },
            Case(testDescription: "mesh", bytes: json(mesh.json)) { json(try MeshRequest(parsing: $0).json) },
            Case(testDescription: "meshview", bytes: view.bytes) { try MeshView(parsing: $0).bytes },
            Case(testDescription: "meshnews", bytes: json(MeshNews(policyFollows: true, viewFollows: false).json)) {
                json(try MeshNews(json: try JSON(parsing: $0)).json)
            },
            Case(testDescription: "memberproof", bytes: json(proof.json)) { json(try MemberProof(parsing: $0).json) },
            Case(testDescription: "registry", bytes: registry.bytes) { try NodeRegistry(parsing: $0).bytes },
        ]
    }

    @Test("round trip, cut at every byte, and every bit flipped", arguments: cases)
    func strict(_ message: Case) throws {
        #expect(try message.read(message.bytes) == message.bytes)
        for count in message.bytes.indices {
            #expect(throws: (any Error).self) { try message.read(Array(message.bytes.prefix(count))) }
        }
        // A flipped bit is refused, or is another message; only hexadecimal digits are read in either case.
        func folded(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self).lowercased() }
        for index in message.bytes.indices {
            for bit in 0..<8 {
                var changed = message.bytes
                changed[index] ^= 1 << UInt8(bit)
                guard let read = try? message.read(changed), read == message.bytes else { continue }
                #expect(folded(changed) == folded(message.bytes))
            }
        }
        #expect(throws: (any Error).self) { try message.read(message.bytes + [0x7D]) }
    }

    @Test("a member's proof is good for one session, its own key, this mesh and its time")
    func memberProof() throws {
        let authority = try ClusterAuthority(AuthorityTests.secret())
        let mesh = try authority.certificate(.mesh, at: SoftwareNode.now)
        let key = try PrivateKey(generating: .p256)
        let name = try #require(NodeName("worker-0"))
        func issue(_ certificate: NodeCertificate) throws -> Certificate {
            try authority.issue(
                certificate, node: name, index: try #require(NodeIndex(2)), for: key.publicKey, at: SoftwareNode.now,
                lifetime: 60)
        }
        let binding = randomBytes(64)
        let proof = try MemberProof(try issue(.mesh), key: key, binding: binding)
        #expect(try proof.judge(binding: binding, authority: mesh, at: SoftwareNode.now) == name)
        func refusal(_ proof: MemberProof, _ binding: [UInt8], _ authority: Certificate, _ seconds: Int64) -> String? {
            reason {
                _ = try proof.judge(
                    binding: binding, authority: authority, at: Instant(seconds: SoftwareNode.now.seconds + seconds))
            }
        }
        #expect(refusal(proof, randomBytes(64), mesh, 0) == "signature-member")
        #expect(refusal(proof, binding, mesh, 61) == "expired-member")
        let other = try ClusterAuthority(AuthorityTests.secret(9)).certificate(.mesh, at: SoftwareNode.now)
        #expect(refusal(proof, binding, other, 0) == "chain-member")
        // A kubelet's certificate names the same node, and is good for nothing here.
        #expect(
            refusal(try MemberProof(try issue(.kubelet), key: key, binding: binding), binding, mesh, 0)
                == "chain-member")
        let stolen = try MemberProof(try issue(.mesh), key: try PrivateKey(generating: .p256), binding: binding)
        #expect(refusal(stolen, binding, mesh, 0) == "signature-member")
    }
}
