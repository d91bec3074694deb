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
    let owner: OwnerKey
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
            policy: nil, fallback: document.judging, at: .now)
        let (reference, policy) = (judgement.reference, judgement.policy)
        owner = try cluster.ownerKey(passphrase: passphrase)
        client = try OwnerClient(
            owner: owner, clusterID: identity.clusterID, now: .now
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

    /// Opens the directory's cluster, asks its nodes in turn, and remembers and prints what came of each.
    ///
    /// - Parameters:
    ///   - names: which nodes; all of them where empty.
    ///   - timeout: seconds that a node may take to have an answer, which is asked for until then.
    ///   - doing: for people: what follows the node's verification.
    static func ask(
        _ directory: DirectoryOption, _ passphrase: PassphraseOptions, nodes names: [String] = [], timeout: Int,
        _ doing: String, _ output: OutputOptions,
        _ body: (OwnerSession, borrowing ClusterSecret, ClusterDocument.Node, OwnerClient.Endpoint) throws(Finding)
            -> NodeStatus
    ) throws {
        try NodeJudgement.reporting(output) {
            let cluster = try directory.cluster()
            guard let document = try cluster.document() else {
                throw Finding("local-absent", claim: cluster.directory, expected: "a cluster", actual: "none")
            }
            let words = try passphrase.read(isNew: false)
            let session = try OwnerSession(cluster, document, passphrase: words)
            let secret = try cluster.clusterSecret(passphrase: words)
            let nodes = try names.isEmpty ? document.nodes : names.map { try session.node($0) }
            var results: [InitCommand.NodeResult] = []
            for node in nodes {
                output.note("nacre: \(node.name): verifying, then \(doing)")
                let result: Result<NodeStatus, Finding>
                do throws(Finding) {
                    let endpoint = try endpoint(node)
                    result = .success(
                        try patiently(timeout) { () throws(Finding) in try body(session, secret, node, endpoint) })
                } catch { result = .failure(error) }
                results.append(InitCommand.NodeResult(node: node, result: result))
            }
            try InitCommand.remember(results, cluster)
            InitCommand.report(results, output)
            try InitCommand.conclude(results)
        }
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
