import Attestation
import Bytes
import Crypto
import Kubernetes
import Manifest
import SyntheticNode

@testable import AttestedTLS
@testable import Cluster
@testable import DiskFormat
@testable import Provisioning

extension Seeds {
    // MARK: Channel

    static var hellos: [[UInt8]] {
        [try? Hello(purpose: "join"), try? Hello(purpose: "init", clusterID: [UInt8](repeating: 1, count: 32))]
            .compactMap { $0?.bytes }
    }

    static var frames: [[UInt8]] {
        let frames = [(FrameKind.hello, 40), (.proof, 2000), (.accept, 0), (.refuse, 12), (.data, 300)].compactMap {
            try? Frame($0.0, [UInt8](repeating: 0x61, count: $0.1)).bytes
        }
        return [[0] + frames.joined(), [255] + frames.joined()]
    }

    static var words: [[UInt8]] { [Array("policy-role".utf8)] }

    // MARK: Messages

    private static let samples: [String: [[UInt8]]] = {
        do { return try makeSamples() } catch { return [:] }
    }()

    /// Samples of the message of that name.
    static func messages(_ name: String) -> [[UInt8]] { samples[name] ?? [] }

    private static func bytes(_ json: JSON) -> [UInt8] { Array(json.compact.utf8) }
    private struct Missing: Error {}

    private static func makeSamples() throws -> [String: [[UInt8]]] {
        guard let name = NodeName("worker-0"), let plane = NodeName("control-plane-0"), let index = NodeIndex(2),
            let first = NodeIndex(1)
        else { throw Missing() }
        let now = Instant(seconds: 1_800_000_000)
        let secret = ClusterSecret()
        let owner = try OwnerKey()
        let identity = try ClusterIdentity(clusterID: secret.clusterID, owner: owner.digest)
        let manifest = try SyntheticNode.manifest()
        let endpoints = [PeerEndpoint(host: "10.0.2.2", port: 9001), PeerEndpoint(host: "fe80::1", port: 1)]
        let hints = [MeshEndpoint(address: IPAddress(192, 0, 2, 1), port: 51820)]
        let binding = DiskBinding(clusterID: secret.clusterID, node: name, epoch: 1, generation: 3)
        let authority = try ClusterAuthority(secret)
        let key = try PrivateKey(generating: .p256)
        let certificate = try authority.issue(
            .mesh, node: name, index: index, for: key.publicKey, at: now, lifetime: 60)
        let announcement = NodeRegistry.Announcement(
            sequence: 1 << 20, key: [UInt8](repeating: 7, count: 32), endpoints: hints)
        let enroll = EnrollRequest(
            node: name, epoch: 1, keys: [.mesh: key.publicKey.spki, .kubelet: key.publicKey.spki],
            announcement: announcement, policyVersion: 1)
        let enrolled = EnrollAnswer(
            index: index, certificates: [.mesh: certificate.der],
            authorities: [.mesh: try authority.certificate(.mesh, at: now).der], lifetime: 60, policyVersion: 2,
            policyFollows: true)
        let peer = MeshPeer(name: name, index: index, publicKey: announcement.key, endpoints: hints)
        let policy = ClusterPolicy(
            clusterID: secret.clusterID,
            nodes: [
                .init(name: plane, role: .controlPlane, index: first),
                .init(name: name, role: .worker, index: index, isRevoked: true),
            ], images: [manifest], attestation: .development, apiNames: [.dns("api.example.com")])
        var generations = DiskGenerations()
        _ = generations.remember(4, of: name)
        var registry = NodeRegistry()
        _ = try registry.announce(announcement, by: name, index, at: now)
        registry.issued([certificate.serial], to: name, epoch: 1)
        var words: [UInt8] = [1, 2, 3]
        let sealed = try owner.sealed(passphrase: Secret(wiping: &words), logN: 1)
        let membership = Membership(identity: identity, node: name, role: .worker)
        let status = NodeStatus(progress: NodeProgress(at: 5), disk: .open(binding))
        return [
            "ownerproof": [bytes(try owner.prove([UInt8](repeating: 1, count: 64)).json)],
            "memberproof": [
                bytes(try MemberProof(certificate, key: key, binding: [UInt8](repeating: 1, count: 64)).json)
            ],
            "init": [
                bytes(
                    InitRequest(
                        node: name, role: .worker, manifest: manifest.bytes, policy: .development, peers: endpoints
                    ).json)
            ],
            "recovery": [bytes(RecoveryGrant(generation: 3, peers: endpoints).json)],
            "answer": [
                BootstrapAnswer.wantSecret, .wantDiskKey(binding), .done(status),
                .refused(Finding("policy-role", claim: "c", expected: "e", actual: "a", source: "s", next: "n")),
            ].map { bytes($0.json) },
            "rekey": [bytes(RekeyRequest(epoch: 2).json)],
            "join": [bytes(JoinRequest(node: name, epoch: 1, generation: 3).json)],
            "grant": [bytes(JoinGrant(identity: identity, generation: 3).json)],
            "opened": [bytes(DiskOpened(generation: 4).json)],
            "enroll": [enroll.message(proof: [UInt8](repeating: 1, count: 32))],
            "enrolled": [bytes(enrolled.json)],
            "mesh": [bytes(MeshRequest(announcement: announcement, policyVersion: 1, view: []).json)],
            "meshnews": [bytes(MeshNews(policyFollows: true, viewFollows: true).json)],
            "meshview": [MeshView(nodes: [.init(peer: peer, sequence: 9)]).bytes],
            "clusterpolicy": [bytes(policy.json)],
            "signedpolicy": [try SignedPolicy(signing: policy, by: owner).bytes],
            "membership": [
                KeptMembership(
                    membership: membership, manifest: manifest.bytes, policy: .development, peers: endpoints
                ).bytes
            ],
            "generations": [generations.bytes], "registry": [registry.bytes], "sealed": [bytes(sealed.json)],
        ]
    }

    static var configurations: [[UInt8]] {
        [Array(ClusterConfig.sample.utf8), Array("version: v1\nprovider: \"qemu\"\nstateDisk:\n  label: a\n".utf8)]
    }

    // MARK: State disk

    private static let endpoints = [PeerEndpoint(host: "10.0.2.2", port: 9001), PeerEndpoint(host: "fe80::1", port: 1)]

    /// The document alone.
    static var hints: [[UInt8]] {
        [bytes(["schema": .string(PeerHints.schema), "peers": .array(endpoints.map(\.json))])]
    }

    /// A record around a document.
    static func repaired(hints document: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(Array("NACREHNT".utf8))
        writer.be(UInt32(document.count))
        writer.append(document)
        writer.append(HashAlgorithm.sha256.hash(writer.bytes))
        let record = writer.bytes
        return Array(
            (record + [UInt8](repeating: 0, count: max(0, DiskLayout.hintsSize - record.count)))
                .prefix(max(DiskLayout.hintsSize, record.count)))
    }

    private static let salt = JSON.base64([UInt8](repeating: 3, count: 32))

    /// As libcryptsetup writes it for `DiskLayout`.
    private static var diskDocument: JSON {
        let keyslot: JSON = [
            "type": "luks2", "key_size": 96, "af": ["type": "luks1", "stripes": 4000, "hash": "sha256"],
            "area": [
                "type": "raw", "offset": "32768", "size": "385024", "encryption": "aes-xts-plain64", "key_size": 64,
            ],
            "kdf": ["type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": salt],
        ]
        let segment: JSON = [
            "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
            "encryption": "aes-xts-plain64", "sector_size": 4096,
            "integrity": ["type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none"],
        ]
        let digest: JSON = [
            "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
            "salt": salt, "digest": salt,
        ]
        let token: JSON = [
            "type": "nacre", "keyslots": ["0"], "cluster": .hex([UInt8](repeating: 7, count: 32)),
            "node": "control-plane-0", "epoch": 1, "generation": 4, "seal": .hex([UInt8](repeating: 9, count: 32)),
        ]
        return [
            "keyslots": ["0": keyslot], "tokens": ["0": token], "segments": ["0": segment], "digests": ["0": digest],
            "config": ["json_size": "12288", "keyslots_size": "770048"],
        ]
    }

    static var diskDocuments: [[UInt8]] { [bytes(diskDocument)] }

    static var binaryHeaders: [[UInt8]] {
        [
            try? BinaryHeader.bytes(
                .primary, sequence: 5, uuid: "0e9c1c67-6c5b-4a4c-9d0e-6e6163726531", document: diskDocument)
        ].compactMap { $0 }
    }

    /// The same with its checksum made right, behind which everything else lies.
    static func repaired(header: [UInt8]) -> [UInt8] {
        guard header.count >= 512 else { return header }
        var header = header
        header.replaceSubrange(448..<512, with: [UInt8](repeating: 0, count: 64))
        header.replaceSubrange(448..<480, with: HashAlgorithm.sha256.hash(header))
        return header
    }

    static var integritySuperblocks: [[UInt8]] {
        var writer = ByteWriter()
        writer.append(Array("integrt\0".utf8))
        writer.u8(4)
        writer.u8(15)
        writer.le(UInt16(32))
        writer.le(UInt32(8))
        writer.le(UInt64(204_800))
        writer.le(UInt32(8))
        writer.u8(3)
        writer.zeros(64 - writer.bytes.count)
        return [writer.bytes]
    }
}
