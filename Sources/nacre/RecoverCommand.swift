import ArgumentParser
import Attestation
import Bytes
import Cluster
import Provisioning

/// `nacre recover`: after a total outage, gives nodes the keys of the disks that they have.
struct RecoverCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "recover",
        abstract: "Give restarted nodes the keys of their disks, after a total outage.",
        discussion: """
            Each node is verified first. It is given the key of the one disk that it has, if that disk is its own in this \
            cluster, and nothing else: the cluster secret stays with its owner.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions
    @Option(help: "Seconds that a node may take to answer.")
    var timeout: Int = 300

    func run() throws {
        try NodeJudgement.reporting(output) {
            let cluster = try directory.cluster()
            guard let document = try cluster.document() else {
                throw Finding("local-absent", claim: cluster.directory, expected: "a cluster", actual: "none")
            }
            let words = try passphrase.read(isNew: false)
            let session = try OwnerSession(cluster, document, passphrase: words)
            let secret = try cluster.clusterSecret(passphrase: words)
            var results: [InitCommand.NodeResult] = []
            for node in document.nodes {
                output.note("nacre: \(node.name): verifying, then giving it its disk's key")
                let result: Result<NodeStatus, Finding>
                do throws(Finding) {
                    let endpoint = try OwnerSession.endpoint(node)
                    result = .success(
                        try OwnerSession.patiently(timeout) { () throws(Finding) in
                            try session.client.recover(
                                endpoint, generation: node.generation ?? 0, peers: document.peers(of: node)
                            ) { claim throws(Finding) in
                                guard claim.node.description == node.name else {
                                    throw Finding(
                                        "disk-other-node", claim: "state disk", expected: node.name,
                                        actual: claim.node.description, source: "cluster.json",
                                        next: "this machine has another node's disk: put the disks back")
                                }
                                return secret.diskKey(node: claim.node, epoch: claim.epoch)
                            }
                        })
                } catch { result = .failure(error) }
                results.append(InitCommand.NodeResult(node: node, result: result))
            }
            try InitCommand.remember(results, cluster)
            InitCommand.report(results, output)
            try InitCommand.conclude(results)
        }
    }
}
