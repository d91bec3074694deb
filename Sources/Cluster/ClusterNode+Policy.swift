import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Kubernetes
import Manifest

/// The cluster's policy: kept by every member, changed by the owner at any time.
extension ClusterNode {
    /// The identity of the cluster that this node is a member of, with its policy and registry read.
    func loaded() throws(Finding) -> Membership {
        let (membership, isMember) = held.withLock { ($0.progress.membership, $0.progress.isMember) }
        guard let membership, isMember else {
            throw Finding("cluster-missing", claim: "node", expected: "a member of a cluster", actual: "none yet")
        }
        try desk.load(disk, membership.identity)
        return membership
    }

    /// The owner hands over a policy.
    func takePolicy(_ connection: AttestedConnection) throws(ChannelError) {
        let message = try receive(connection)
        do throws(Finding) { try takePolicy(message, from: "the owner") } catch {
            return try refuse(connection, error)
        }
        try answer(connection, .done(status))
    }

    /// - Returns: whether something has changed.
    @discardableResult
    func takePolicy(_ bytes: [UInt8], from whom: String) throws(Finding) -> Bool {
        let membership = try loaded()
        let signed: SignedPolicy
        do throws(ParseError) { signed = try SignedPolicy(parsing: bytes) } catch { throw error.finding }
        let isNew = try desk.take(signed, disk, membership.identity)
        if isNew { say("policy version \(signed.policy.version), from \(whom)") }
        return isNew
    }

    /// The policy that this node goes by; `nil` before its owner has given it one.
    public var policy: ClusterPolicy? {
        guard (try? loaded()) != nil else { return nil }
        return desk.state.withLock { $0.policy?.policy }
    }

    /// Nodes that the owner has revoked, with what the API server can tell them by.
    public var revoked: [RevokedNode] {
        guard let policy else { return [] }
        let registry = desk.state.withLock { $0.registry }
        return policy.nodes.filter(\.isRevoked).map { node in
            RevokedNode(
                name: node.name, group: NodeCertificate.group(of: node.name),
                serials: registry[node.name]?.serials ?? [])
        }
    }

    /// Evidence under the policy; under what init brought as long as there is none.
    func judge(
        _ evidence: Evidence, nonce: [UInt8], cluster: ClusterExpectation
    ) -> Appraisal.Result {
        let time = machine.time()
        // What the peer is told is the outcome, and what the log is told the finding.
        if let policy { return policy.judge(evidence, nonce: nonce, cluster: cluster, account: .outcome, at: time) }
        let (reference, initial) = held.withLock { ($0.reference, $0.kept?.policy) }
        guard let reference, let initial else {
            let finding = Finding(
                "policy-missing", claim: "policy", expected: "a manifest and a policy", actual: "none")
            return Appraisal.Result(verdict: .reject(finding), steps: [])
        }
        return Appraisal.judge(
            evidence, nonce: nonce, reference: reference, policy: initial, cluster: cluster, account: .outcome,
            at: time)
    }
}
