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
        try OwnerSession.ask(directory, passphrase, timeout: timeout, "giving it its disk's key", output) {
            (session, secret, node, endpoint) throws(Finding) in
            try session.client.recover(
                endpoint, generation: node.generation ?? 0, peers: session.document.peers(of: node)
            ) { claim throws(Finding) in
                guard claim.node.description == node.name else {
                    throw Finding(
                        "disk-other-node", claim: "state disk", expected: node.name, actual: claim.node.description,
                        source: "cluster.json", next: "this machine has another node's disk: put the disks back")
                }
                return secret.diskKey(node: claim.node, epoch: claim.epoch)
            }
        }
    }
}
