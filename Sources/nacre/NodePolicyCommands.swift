import ArgumentParser
import Bytes
import Cluster
import DiskFormat
import Provisioning

/// `nacre node list`: the nodes of the policy that was signed last.
struct NodeList: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "list", abstract: "List the nodes of the cluster's policy.",
        discussion: "Nodes are not asked; nacre status does that.")

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var output: OutputOptions

    func run() throws { PolicyStep.report(try PolicyStep.present(try directory.cluster()).policy, output) }
}

/// `nacre node revoke`: a node loses network, certificates and keys.
struct NodeRevoke: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "revoke", abstract: "Take a node out of the cluster, at once.",
        discussion: """
            Signs the next version of the policy with the nodes revoked and gives it to every control plane. Within \
            seconds no other node talks to them, and no API server takes their certificates; they get no new ones and no \
            disk key. Tokens of service accounts that their pods had are good until Kubernetes ends them.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions
    @Argument(help: "The nodes.") var names: [String]
    @Option(help: "Seconds that a node may take to answer.")
    var timeout: Int = 300

    func run() throws {
        let (session, _) = try PolicyStep.session(directory, passphrase)
        let signed = try session.cluster.signPolicy(session.owner) { present throws(Finding) in
            guard var next = present else { return try PolicyStep.present(session.cluster).policy }
            for name in names {
                guard let index = next.nodes.firstIndex(where: { $0.name.description == name }) else {
                    throw Finding(
                        "parse-node", claim: name,
                        expected: next.nodes.map(\.name.description).joined(separator: ", "))
                }
                next.nodes[index].isRevoked = true
            }
            if next != present { next.version += 1 }
            return next
        }
        let planes = session.document.nodes.filter { node in
            node.role == .controlPlane
                && signed.policy.planes.contains { $0.name.description == node.name }
        }
        let results = PolicyStep.apply(signed, session, to: planes, timeout: timeout, output)
        PolicyStep.report(signed.policy, output)
        for result in results {
            if case .failure(let finding) = result.result { output.note("nacre: \(result.node.name): \(finding)") }
        }
        try InitCommand.conclude(results)
    }
}
