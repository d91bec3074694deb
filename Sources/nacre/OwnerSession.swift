import Attestation
import Bytes
import Cluster
import DiskFormat
import Glibc
import Provisioning

/// A cluster's owner at work: the opened owner key, and how nodes are judged.
struct OwnerSession {
    let cluster: LocalCluster
    let document: ClusterDocument
    let client: OwnerClient
    let judgement: NodeJudgement

    /// - Parameter document: with its identity.
    init(
        _ cluster: LocalCluster, _ document: ClusterDocument, passphrase: borrowing Secret
    ) throws {
        guard let identity = document.identity else {
            throw Finding(
                "cluster-missing", claim: cluster.directory, expected: "an initialised cluster", actual: "no owner yet",
                next: "run nacre init")
        }
        let judgement = try NodeJudgement(
            manifest: document.manifest, bundle: document.bundle, trustRoot: document.trustRoot, embedded: nil,
            policy: nil, fallback: (document.rules.policy, "the cluster's rules: \(document.rules.rawValue)"), at: .now)
        let (reference, policy) = (judgement.reference, judgement.policy)
        client = try OwnerClient(
            owner: try cluster.ownerKey(passphrase: passphrase), clusterID: identity.clusterID, now: .now
        ) {
            Appraisal.judge($0, nonce: $1, reference: reference, policy: policy, cluster: $2, at: .now)
        }
        self.cluster = cluster
        self.document = document
        self.judgement = judgement
    }

    static func endpoint(_ node: ClusterDocument.Node) throws(Finding) -> OwnerClient.Endpoint {
        guard let port = node.channelPort else {
            throw Finding(
                "local-differs", claim: node.name, expected: "a machine with an attested channel",
                actual: "one of an older release", next: "nacre down, then nacre up")
        }
        return OwnerClient.Endpoint(host: "127.0.0.1", port: port)
    }

    static func name(_ node: ClusterDocument.Node) throws(Finding) -> NodeName {
        guard let name = NodeName(node.name) else {
            throw Finding("parse-form", claim: node.name, expected: "a node's name")
        }
        return name
    }

    /// The node of that name, or the first.
    func node(_ name: String?) throws(Finding) -> ClusterDocument.Node {
        guard let node = document.nodes.first(where: { name == nil || $0.name == name }) else {
            throw Finding(
                "parse-node", claim: name ?? "", expected: document.nodes.map(\.name).joined(separator: ", "))
        }
        return node
    }

    /// Tries until the node has an answer that is one, or `seconds` are over: a node that is still starting, or busy with
    /// another conversation that was cut short, gives none.
    static func patiently<R>(
        _ seconds: Int, _ body: () throws(Finding) -> R
    ) throws(Finding) -> R {
        let deadline = Deadline.seconds(seconds)
        while true {
            do throws(Finding) { return try body() } catch {
                guard ["busy", "connection"].contains(error.family), !deadline.hasPassed else { throw error }
                usleep(500_000)
            }
        }
    }
}
