import Bytes
import Cluster
import Kubernetes
import Manifest
import Provisioning

/// What commands that change a cluster's policy have in common.
enum PolicyStep {
    static func present(_ cluster: LocalCluster) throws(Finding) -> SignedPolicy {
        guard let signed = try cluster.policy() else {
            throw Finding(
                "policy-missing", claim: cluster.directory, expected: "a signed policy", actual: "none yet",
                next: "nacre init makes the first")
        }
        return signed
    }

    static func session(
        _ directory: DirectoryOption, _ passphrase: PassphraseOptions
    ) throws -> (session: OwnerSession, signed: SignedPolicy) {
        let cluster = try directory.cluster()
        let signed = try present(cluster)
        guard let document = try cluster.document() else {
            throw Finding("local-absent", claim: cluster.directory, expected: "a cluster", actual: "none")
        }
        return (try OwnerSession(cluster, document, passphrase: try passphrase.read(isNew: false)), signed)
    }

    /// At the end of init: the first policy, or the next where there are new nodes, for every node that is a member.
    static func establish(
        _ session: OwnerSession, _ manifest: [UInt8], _ results: [InitCommand.NodeResult], timeout: Int,
        _ output: OutputOptions
    ) throws -> [InitCommand.NodeResult] {
        guard let identity = session.document.identity else { return results }
        let read = try Manifest(parsing: manifest)
        let wishes = try session.cluster.wishes()
        let signed = try session.cluster.signPolicy(session.owner) { present throws(Finding) in
            try session.document.policy(
                after: present, clusterID: identity.clusterID, manifest: read, attestation: session.judgement.policy,
                wishes: wishes)
        }
        let members = results.filter { (try? $0.result.get()) != nil }.map(\.node)
        let applied = apply(signed, session, to: members, timeout: timeout, output)
        return results.map { result in applied.first { $0.node.name == result.node.name } ?? result }
    }

    /// Control planes first: the others can hear of it from them.
    static func apply(
        _ signed: SignedPolicy, _ session: OwnerSession, to nodes: [ClusterDocument.Node], timeout: Int,
        _ output: OutputOptions
    ) -> [InitCommand.NodeResult] {
        let planes = nodes.filter { $0.role == .controlPlane }
        return (planes + nodes.filter { $0.role != .controlPlane }).map { node in
            output.note("nacre: \(node.name): verifying, then policy version \(signed.policy.version)")
            let result: Result<NodeStatus, Finding>
            do throws(Finding) {
                let endpoint = try OwnerSession.endpoint(node)
                result = .success(
                    try OwnerSession.patiently(timeout) { () throws(Finding) in
                        try session.client.apply(endpoint, signed)
                    })
            } catch { result = .failure(error) }
            return InitCommand.NodeResult(node: node, result: result)
        }
    }

    static func table(_ policy: ClusterPolicy) -> String {
        policy.nodes.sorted { $0.index < $1.index }.map { node in
            "\(node.index)  \(node.name)  \(node.role.rawValue)  \(node.index.address)"
                + (node.isRevoked ? "  REVOKED" : "") + "\n"
        }.joined()
    }

    static func report(_ policy: ClusterPolicy, _ output: OutputOptions) {
        switch output.output {
        case .json:
            let nodes = policy.nodes.map { node -> JSON in
                [
                    "name": .string("\(node.name)"), "role": .string(node.role.rawValue),
                    "index": .integer(Int128(node.index.number)), "address": .string("\(node.index.address)"),
                    "revoked": .bool(node.isRevoked),
                ]
            }
            let json: JSON = [
                "schema": "nacre.nodes.v1", "policy": .integer(Int128(policy.version)), "nodes": .array(nodes),
            ]
            Report.out(json.compact + "\n")
        case .text: Report.out("policy version \(policy.version)\n\(table(policy))")
        }
    }
}
