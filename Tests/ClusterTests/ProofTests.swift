import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import SyntheticNode
import TestKit
import Testing

@testable import Cluster

@Suite("Proofs and messages")
struct ProofTests {
    static func binding(
        _ sender: ChannelEnd = .client, exporter: UInt8 = 1, own: UInt8 = 2, peer: UInt8 = 3, purpose: String = "init",
        cluster: UInt8 = 4
    ) throws -> [UInt8] {
        ChannelBinding.compute(
            sender: sender, exporter: [UInt8](repeating: exporter, count: 32), own: [own], peer: [peer],
            hello: try Hello(purpose: purpose, clusterID: [UInt8](repeating: cluster, count: 32)))
    }

    @Test("an owner's proof holds for its own session, end, cluster and purpose alone")
    func owner() throws {
        let owner = try OwnerKey()
        let proof = Array(try owner.prove(try Self.binding()).json.compact.utf8)
        #expect(try OwnerProof.judge(proof, binding: try Self.binding()) == owner.digest)
        let others = [
            try Self.binding(exporter: 9), try Self.binding(own: 9), try Self.binding(peer: 9),
            try Self.binding(purpose: "recover"), try Self.binding(cluster: 9), try Self.binding(.server),
            try Self.binding(.server, own: 3, peer: 2), [],
        ]
        for other in others {
            let refusal = #expect(throws: ChannelRefusal.self) { try OwnerProof.judge(proof, binding: other) }
            #expect(refusal?.reason == "signature-binding")
        }
    }

    @Test("an owner's proof by another key of its name, or of another kind, is refused")
    func ownerKeys() throws {
        let binding = try Self.binding()
        let owner = try OwnerKey()
        let other = try OwnerKey()
        let mixed = OwnerProof(
            publicKey: try owner.prove(binding).publicKey, signature: try other.prove(binding).signature)
        #expect(throws: ChannelRefusal.self) {
            try OwnerProof.judge(Array(mixed.json.compact.utf8), binding: binding)
        }
        let large = try PrivateKey(generating: .p384)
        let signature = try large.sign(binding, scheme: .ecdsa(.sha256))
        let wrong = OwnerProof(publicKey: large.publicKey.spki, signature: signature)
        let refusal = #expect(throws: ChannelRefusal.self) {
            try OwnerProof.judge(Array(wrong.json.compact.utf8), binding: binding)
        }
        #expect(refusal?.reason == "key-kind")
    }

    @Test("a node's proof answers the first half of the binding; relayed or replayed it is refused as such")
    func node() throws {
        let binding = try Self.binding(.server)
        var node = try SyntheticNode()
        node.nonce = NodeProof.nonce(binding)
        let proof = Array(try node.evidence().json.compact.utf8)
        let judge = Owner.judge(try SyntheticNode.manifest())
        let accepted = try NodeProof.judge(proof, binding: binding, cluster: .none, by: judge)
        #expect(accepted.result.verdict.isAccepted)
        for other in [try Self.binding(.server, exporter: 9), try Self.binding(), try Self.binding(.server, own: 9)] {
            let refusal = #expect(throws: ChannelRefusal.self) {
                try NodeProof.judge(proof, binding: other, cluster: .none, by: judge)
            }
            #expect(refusal?.reason == "nonce")
        }
        // Relabelled for the other session, the quote itself still answers the first.
        var relabelled = try node.evidence()
        relabelled.nonce = NodeProof.nonce(try Self.binding())
        let refusal = #expect(throws: ChannelRefusal.self) {
            try NodeProof.judge(
                Array(relabelled.json.compact.utf8), binding: try Self.binding(), cluster: .none, by: judge)
        }
        #expect(refusal?.reason.hasPrefix("nonce") == true)
    }

    @Test("every message is read back as written, and cut or with a field more it is refused")
    func messages() throws {
        let membership = try ProgressTests.membership()
        var progress = NodeProgress(at: 3)
        try progress.apply(.attested, at: 4)
        try progress.apply(.claim(.initialise, membership), at: 5)
        try progress.apply(.dropped(ProgressTests.finding), at: 6)
        let status = NodeStatus(progress: progress, disk: .blank)
        let claim = DiskBinding(
            clusterID: [UInt8](repeating: 1, count: 32), node: membership.node, epoch: 1, generation: 7)
        for answer in [BootstrapAnswer.wantSecret, .wantDiskKey(claim), .done(status), .refused(ProgressTests.finding)]
        {
            try Self.strict(answer.json) { try BootstrapAnswer(parsing: $0) == answer }
        }
        for rule in [
            DiskRule.only, .id("virtio-state"), .label("nacre"), .size(minimum: 1 << 30, maximum: 1 << 40),
        ] {
            let request = InitRequest(
                node: membership.node, role: .worker, manifest: [1, 2], policy: .development, disk: rule,
                allowForeign: true, epoch: 3, generation: 9,
                peers: [PeerEndpoint(host: "10.0.2.2", port: 9001)])
            try Self.strict(request.json) { try InitRequest(parsing: $0) == request }
        }
        let peers = [PeerEndpoint(host: "10.0.2.2", port: 9001), PeerEndpoint(host: "plane.example", port: 1)]
        let join = JoinRequest(node: membership.node, epoch: 2, generation: 4)
        try Self.strict(join.json) { try JoinRequest(parsing: $0) == join }
        let recovery = RecoveryGrant(generation: 4, peers: peers)
        try Self.strict(recovery.json) { try RecoveryGrant(parsing: $0) == recovery }
        let grant = JoinGrant(identity: membership.identity, generation: 0)
        try Self.strict(grant.json) { try JoinGrant(json: JSON(parsing: $0, limit: 4096)) == grant }
        let opened = DiskOpened(generation: 5)
        try Self.strict(opened.json) { try DiskOpened(json: JSON(parsing: $0, limit: 4096)) == opened }
        var generations = DiskGenerations()
        #expect(generations.remember(3, of: membership.node) && !generations.remember(2, of: membership.node))
        try Self.strict(try JSON(parsing: generations.bytes)) { try DiskGenerations(parsing: $0) == generations }
        let kept = KeptMembership(membership: membership, manifest: [1], policy: .production, peers: peers)
        try Self.strict(try JSON(parsing: kept.bytes)) {
            let read = try KeptMembership(parsing: $0)
            return read.membership == membership && read.policy == .production && read.manifest == [1]
                && read.peers == peers
        }
    }

    private static func strict(_ json: JSON, _ isSame: ([UInt8]) throws -> Bool) throws {
        let bytes = Array(json.compact.utf8)
        #expect(try isSame(bytes))
        for count in 0..<bytes.count {
            #expect(throws: (any Error).self) { try isSame(Array(bytes[..<count])) }
        }
        var fields = try #require(json.object)
        fields["more"] = 1
        #expect(throws: (any Error).self) { try isSame(Array(JSON.object(fields).compact.utf8)) }
    }

    @Test("disk names that would lead elsewhere are refused")
    func diskNames() throws {
        for name in ["", "../sda", "a/b", "a b", String(repeating: "a", count: 256)] {
            for key in ["id", "label"] {
                #expect(throws: ParseError.self) {
                    try DiskRule(json: .object([key: .string(name)]), path: "disk")
                }
            }
        }
        #expect(throws: ParseError.self) { try DiskRule(json: ["only": false], path: "disk") }
        #expect(throws: ParseError.self) { try DiskRule(json: ["minimum": 2, "maximum": 1], path: "disk") }
    }
}
