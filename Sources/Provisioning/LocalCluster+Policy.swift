import Attestation
import Bytes
import Cluster
import DiskFormat
import Host
import Kubernetes
import Manifest

/// `policy.json`, `nacre.signedpolicy.v1`: what the owner last signed for this directory's cluster. Nothing of it is secret.
extension LocalCluster {
    private var policyPath: String { "\(directory)/policy.json" }

    /// The policy that was signed last; `nil` before the first. Its signature must be the owner's.
    public func policy() throws(Finding) -> SignedPolicy? {
        guard HostFiles.exists(policyPath) else { return nil }
        let bytes = try HostFiles.read(policyPath, limit: ClusterPolicy.maximumSize)
        let signed: SignedPolicy
        do { signed = try SignedPolicy(parsing: bytes) } catch { throw error.finding }
        if let identity = try document()?.identity { try signed.verify(identity) }
        return signed
    }

    /// Signs a policy that follows the present one, and keeps it before any node hears of it.
    ///
    /// - Parameter change: the next policy, given the last one; its version is as it should be already.
    /// - Returns: the new policy, or the present one where nothing would change.
    public func signPolicy(
        _ owner: OwnerKey, _ change: (ClusterPolicy?) throws(Finding) -> ClusterPolicy
    ) throws(Finding) -> SignedPolicy {
        let lock = try lock("nacre policy") { _ in }
        defer { lock.keep() }
        let present = try policy()
        let next = try change(present?.policy)
        if let present {
            if present.policy == next { return present }
            try next.check(after: present.policy)
        }
        let signed = try SignedPolicy(signing: next, by: owner)
        if let identity = try document()?.identity { try signed.verify(identity) }
        try HostFiles.write(policyPath, signed.bytes, mode: 0o644)
        return signed
    }

    /// What the owner of `nacre.yaml` wants of certificates and pods; the defaults where there is no such file.
    public func wishes() throws(Finding) -> ClusterConfig {
        let path = "\(directory)/\(ClusterConfig.file)"
        guard HostFiles.exists(path) else { return ClusterConfig() }
        return try ClusterConfig(parsing: try HostFiles.read(path, limit: 1 << 20), file: path)
    }

    func removePolicy() throws(Finding) { try HostFiles.remove(policyPath) }
}

extension ClusterDocument {
    /// `present` with every node of this cluster in it: a node keeps its index for good, a new one gets the next.
    public func policy(
        after present: ClusterPolicy?, clusterID: [UInt8], manifest: Manifest, attestation: AppraisalPolicy,
        wishes: ClusterConfig
    ) throws(Finding) -> ClusterPolicy {
        var next =
            present
            ?? ClusterPolicy(
                clusterID: clusterID, version: 0, nodes: [], images: [manifest], attestation: attestation,
                certificateLifetime: wishes.certificateLifetime, podNetwork: wishes.podNetwork)
        for node in nodes {
            guard let name = NodeName(node.name), let role = NodeRole(rawValue: node.role.rawValue) else {
                throw Finding("parse-form", claim: node.name, expected: "a node's name")
            }
            if let known = next[name] {
                guard known.role == role else {
                    throw Finding(
                        "policy-role", claim: node.name, expected: known.role.rawValue, actual: role.rawValue,
                        source: "policy.json", next: "a node of another role needs another name")
                }
                continue
            }
            let highest = next.nodes.map(\.index.number).max() ?? 0
            guard let index = NodeIndex(highest + 1) else {
                throw Finding(
                    "policy-node", claim: node.name, expected: "an index up to \(NetworkPlan.maximumNodes)",
                    actual: "\(highest + 1)")
            }
            next.nodes.append(.init(name: name, role: role, index: index))
        }
        if next.nodes != present?.nodes { next.version += 1 }
        return next
    }
}
