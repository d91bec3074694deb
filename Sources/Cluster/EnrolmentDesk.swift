import Attestation
import Bytes
import Crypto
import DiskFormat
import Kubernetes
import Synchronization

/// What a member knows of its cluster's policy and nodes, and on a control plane the hand that signs. Lives as long as the
/// process; what has to outlive it is on the state disk.
final class EnrolmentDesk: Sendable {
    struct State: Sendable {
        /// Policy and registry have been read from the disk.
        var isLoaded = false
        var policy: SignedPolicy?
        var registry = NodeRegistry()
        /// Counts changes of `registry`.
        var revision = 0
        /// The view of the registry that was last asked for.
        var view: (revision: Int, version: Int, bytes: [UInt8], digest: [UInt8])?
        /// Control planes only.
        var authority: ClusterAuthority?
        /// Proves this node's name: derived from its disk's key.
        var key: (secret: SecretContents, node: NodeName, epoch: Int)?
        /// This node's own last enrolment.
        var own: OwnEnrolment?
    }

    let state = Mutex(State())
    /// Which revision of the registry is on the disk; held while it is written.
    private let written = Mutex(0)

    /// The key that proves a node's name, from the key of its disk.
    static func nameKey(_ diskKey: borrowing Secret, _ node: NodeName, _ epoch: Int) -> Secret {
        hkdfSHA256(key: diskKey, salt: [], info: "nacre/v1/enroll/\(node)/\(epoch)")
    }

    static func proof(_ key: borrowing Secret, binding: [UInt8], _ request: EnrollRequest) -> [UInt8] {
        HashAlgorithm.sha256.hmac(key: key, binding + Array(request.json.compact.utf8))
    }

    /// The node has opened a disk with this key.
    func remember(_ diskKey: borrowing Secret, _ node: NodeName, epoch: Int) {
        let key = SecretContents(Self.nameKey(diskKey, node, epoch))
        state.withLock { $0.key = (key, node, epoch) }
    }

    // MARK: What the disk holds

    /// Reads policy and registry once; the disk must be open.
    func load(_ disk: any NodeDisk, _ identity: ClusterIdentity) throws(Finding) {
        if state.withLock({ $0.isLoaded }) { return }
        let policy = try Self.storedPolicy(disk, identity)
        var registry = NodeRegistry()
        if let bytes = try Self.stored(disk, NodeRegistry.file) {
            do throws(ParseError) { registry = try NodeRegistry(parsing: bytes) } catch { throw error.finding }
        }
        if let policy { registry.keep(policy.policy.nodes.map(\.name)) }
        state.withLock { state in
            guard !state.isLoaded else { return }
            (state.isLoaded, state.policy, state.registry) = (true, policy, registry)
        }
    }

    /// The newest policy that the open disk holds.
    static func storedPolicy(_ disk: any NodeDisk, _ identity: ClusterIdentity) throws(Finding) -> SignedPolicy? {
        guard let bytes = try stored(disk, SignedPolicy.file) else { return nil }
        let policy: SignedPolicy
        do throws(ParseError) { policy = try SignedPolicy(parsing: bytes) } catch { throw error.finding }
        try policy.verify(identity)
        return policy
    }

    private static func stored(_ disk: any NodeDisk, _ name: String) throws(Finding) -> [UInt8]? {
        do throws(Finding) { return try disk.load(name).published } catch {
            if error.reason == "disk-missing" { return nil }
            throw error
        }
    }

    /// Takes a policy that is not older than the present one: on the disk first.
    ///
    /// - Returns: whether it is another one.
    func take(_ signed: SignedPolicy, _ disk: any NodeDisk, _ identity: ClusterIdentity) throws(Finding) -> Bool {
        try signed.verify(identity)
        try load(disk, identity)
        // Written in turn, so that an older one never overtakes a newer one on the disk.
        let result = written.withLock { _ -> Result<Bool, Finding> in
            do throws(Finding) {
                if let present = state.withLock({ $0.policy }) {
                    try signed.policy.check(after: present.policy)
                    if present.policy == signed.policy { return .success(false) }
                }
                var bytes = signed.bytes
                try disk.store(Secret(wiping: &bytes), as: SignedPolicy.file)
                state.withLock { state in
                    state.policy = signed
                    state.registry.keep(signed.policy.nodes.map(\.name))
                    state.revision += 1
                }
                return .success(true)
            } catch { return .failure(error) }
        }
        return try result.get()
    }

    /// Has everything up to `revision` of the registry on the disk. Whoever comes while another one writes finds its own
    /// change written with the next.
    private func persist(_ revision: Int, _ disk: any NodeDisk) throws(Finding) {
        let result = written.withLock { written -> Result<Void, Finding> in
            guard written < revision else { return .success(()) }
            let (registry, current) = state.withLock { ($0.registry, $0.revision) }
            var bytes = registry.bytes
            do throws(Finding) { try disk.store(Secret(wiping: &bytes), as: NodeRegistry.file) } catch {
                return .failure(error)
            }
            written = current
            return .success(())
        }
        try result.get()
    }

    // MARK: Signing

    /// The authority of this control plane, made once.
    func authority(_ make: () throws(Finding) -> ClusterAuthority?) throws(Finding) -> ClusterAuthority {
        if let authority = state.withLock({ $0.authority }) { return authority }
        guard let made = try make() else {
            throw Finding("policy-role", claim: "node", expected: "a control plane that holds the cluster's keys")
        }
        state.withLock { $0.authority = made }
        return made
    }

    /// Certificates for what the policy lets the node have, and its place in the registry.
    ///
    /// The caller has judged the node and knows that the name is its own.
    func issue(
        _ request: EnrollRequest, _ authority: ClusterAuthority, _ disk: any NodeDisk, at time: Instant
    ) throws(Finding) -> EnrollAnswer {
        let policy = try currentPolicy()
        let node = try policy.member(request.node)
        let allowed = NodeCertificate.allowed(for: node.role)
        if let wrong = request.keys.keys.filter({ !allowed.contains($0) }).map(\.rawValue).min() {
            throw Finding(
                "policy-role", claim: "certificate \(wrong)",
                expected: allowed.map(\.rawValue).joined(separator: ", "), actual: wrong,
                source: "cluster policy, version \(policy.version): \(node.name) is a \(node.role.rawValue)")
        }
        var certificates: [NodeCertificate: [UInt8]] = [:]
        var serials: [[UInt8]] = []
        for (name, spki) in request.keys.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
            let key: PublicKey
            do { key = try PublicKey(spki: spki) } catch {
                throw Finding("key-form", claim: "certificate \(name.rawValue)", actual: error.message)
            }
            let certificate = try authority.issue(
                name, node: node.name, index: node.index, apiNames: policy.apiNames, for: key, at: time,
                lifetime: policy.certificateLifetime)
            certificates[name] = certificate.der
            serials.append(certificate.serial)
        }
        var authorities: [ClusterAuthorityName: [UInt8]] = [:]
        for name in ClusterAuthorityName.known(to: node.role) {
            authorities[name] =
                name == .client
                ? try authority.clientCertificate(of: node.name, node.index, at: time).der
                : try authority.certificate(name, at: time).der
        }
        // Known before it is given away: what is out can be refused.
        try change(disk) { registry throws(Finding) in
            if let known = registry[node.name]?.epoch, request.epoch < known {
                throw Finding(
                    "disk-epoch", claim: "state disk", expected: "epoch \(known) or more",
                    actual: "epoch \(request.epoch)", source: "the control plane's registry",
                    next: "this disk's key was exchanged: a copy from before proves no name")
            }
            _ = try registry.announce(request.announcement, by: node.name, node.index, at: time)
            registry.issued(serials, to: node.name, epoch: request.epoch)
            return true
        }
        return EnrollAnswer(
            index: node.index, certificates: certificates, authorities: authorities,
            lifetime: policy.certificateLifetime, policyVersion: policy.version,
            policyFollows: request.policyVersion < policy.version)
    }

    /// A member is somewhere else, or has another key.
    func announce(
        _ said: NodeRegistry.Announcement, by name: NodeName, _ disk: any NodeDisk, at time: Instant
    ) throws(Finding) {
        let node = try currentPolicy().member(name)
        try change(disk) { registry throws(Finding) in
            try registry.announce(said, by: name, node.index, at: time)
        }
    }

    private func change(
        _ disk: any NodeDisk, _ body: (inout NodeRegistry) throws(Finding) -> Bool
    ) throws(Finding) {
        let result = state.withLock { state -> Result<Int?, Finding> in
            do throws(Finding) {
                var next = state.registry
                let isNews = try body(&next)
                state.registry = next
                guard isNews else { return .success(nil) }
                state.revision += 1
                return .success(state.revision)
            } catch { return .failure(error) }
        }
        if let revision = try result.get() { try persist(revision, disk) }
    }

    // MARK: Views

    func currentPolicy() throws(Finding) -> ClusterPolicy {
        guard let policy = state.withLock({ $0.policy?.policy }) else {
            throw Finding(
                "policy-missing", claim: "cluster policy", expected: "one signed by the owner", actual: "none yet",
                next: "nacre policy apply")
        }
        return policy
    }

    /// Every node of the registry that the policy still has, as bytes and their digest.
    func view() -> (bytes: [UInt8], digest: [UInt8]) {
        let (registry, policy, revision, cached) = state.withLock {
            ($0.registry, $0.policy?.policy, $0.revision, $0.view)
        }
        let version = policy?.version ?? 0
        if let cached, cached.revision == revision, cached.version == version { return (cached.bytes, cached.digest) }
        let nodes = (policy?.nodes ?? []).compactMap { node -> MeshView.Node? in
            guard !node.isRevoked, let entry = registry[node.name] else { return nil }
            return MeshView.Node(
                peer: MeshPeer(
                    name: node.name, index: node.index, publicKey: entry.key, endpoints: entry.endpoints),
                sequence: entry.sequence)
        }
        let bytes = MeshView(nodes: nodes).bytes
        let digest = HashAlgorithm.sha256.hash(bytes)
        state.withLock { $0.view = (revision, version, bytes, digest) }
        return (bytes, digest)
    }
}

/// A revoked node, for whoever has to refuse it.
public struct RevokedNode: Sendable, Equatable {
    public let name: NodeName
    /// In the subject of every client certificate that it was given.
    public let group: String
    /// Serial numbers of the certificates that this control plane gave it last.
    public let serials: [[UInt8]]
}

/// What a node has from its last enrolment, and goes on with until the next.
struct OwnEnrolment: Sendable {
    var configuration: NodeConfiguration
    var announcement: NodeRegistry.Announcement
    /// Nodes of the mesh by the newest that any control plane said of them.
    var nodes: [NodeName: MeshView.Node] = [:]
    /// Digest of the last view, by control plane.
    var views: [PeerEndpoint: [UInt8]] = [:]
    let issued: Instant
    let lifetime: Int
}
