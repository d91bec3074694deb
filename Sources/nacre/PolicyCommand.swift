import ArgumentParser
import Attestation
import Bytes
import Cluster
import Manifest
import Provisioning

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Show what a policy checks; sign and apply a cluster's.",
        subcommands: [PolicyShow.self, PolicySign.self, PolicyApply.self])
}

struct PolicyShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Print what would be checked of a node, and what would not.",
        discussion: """
            With -o json: the policy itself, ready to be edited and given to --policy. With --cluster: the policy that the \
            owner last signed for this directory's cluster; its JSON is what nacre policy sign takes.
            """)

    @Option(help: ArgumentHelp("The manifest whose values would be compared.", valueName: "file"))
    var manifest: String?
    @Flag(help: "This directory's cluster: nodes, images, certificates, and what is demanded of evidence.")
    var cluster = false

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var policy: PolicyOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        if cluster { return try showCluster() }
        let read = try manifest.map { path in
            try Input.parse(path, limit: Manifest.maximumSize) { bytes in try Manifest(parsing: bytes) }
        }
        var shown = try policy.fallback().0
        if let path = policy.policy {
            shown = try Input.policy(path)
        }
        switch output.output {
        case .json: Report.out(shown.json.pretty)
        case .text: Report.out(Report.table(shown.outline(read)))
        }
    }

    private func showCluster() throws {
        let policy = try PolicyStep.present(try directory.cluster()).policy
        guard output.output == .text else { return Report.out(policy.json.pretty) }
        Report.out("version \(policy.version), cluster \(Hex.encode(policy.clusterID))\n")
        Report.out(PolicyStep.table(policy))
        Report.out("certificates hold \(policy.certificateLifetime) s; pods' network: \(policy.podNetwork.rawValue)\n")
        for image in policy.images {
            Report.out(Report.plain("image \(Hex.encode(image.imageDigest))  \(image.product) \(image.version)") + "\n")
            Report.out(Report.table(policy.attestation.outline(image)))
        }
    }
}

/// `nacre policy sign`: the owner's word on a changed policy.
struct PolicySign: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sign", abstract: "Sign a changed policy of this directory's cluster.",
        discussion: """
            Takes nacre.clusterpolicy.v1 as nacre policy show --cluster -o json prints it, with a higher version. No node \
            hears of it before nacre policy apply.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions
    @Argument(help: "The policy.") var file: String

    func run() throws {
        let policy = try Input.parse(file, limit: ClusterPolicy.maximumSize) { bytes in
            try ClusterPolicy(parsing: bytes)
        }
        let cluster = try directory.cluster()
        let owner = try cluster.ownerKey(passphrase: try passphrase.read(isNew: false))
        let signed = try cluster.signPolicy(owner) { _ in policy }
        PolicyStep.report(signed.policy, output)
    }
}

/// `nacre policy apply`: has the nodes go by the signed policy.
struct PolicyApply: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Give every node the policy that was signed last.",
        discussion: """
            Each node is verified first. Nodes refuse an older policy than they have. Control planes are enough: the \
            others hear of it from them within seconds.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions
    @Option(help: "Seconds that a node may take to answer.")
    var timeout: Int = 300

    func run() throws {
        let (session, signed) = try PolicyStep.session(directory, passphrase)
        let results = PolicyStep.apply(signed, session, to: session.document.nodes, timeout: timeout, output)
        InitCommand.report(results, output)
        try InitCommand.conclude(results)
    }
}
