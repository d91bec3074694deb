import ArgumentParser
import Attestation
import Bytes
import Glibc
import Provisioning

/// `nacre up`: a local cluster in QEMU, verified.
struct UpCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "up",
        abstract: "Boot a local cluster in QEMU and verify every node of it.",
        discussion: """
            Makes what is missing, starts what does not run, then asks every node for evidence and judges it against \
            the manifest, and makes them the cluster of this owner where there is a passphrase for its keys (nacre init). Run again, it continues or says that all is well. No root is needed. A local TPM is part of \
            this host: the verdict shows that the image booted as built, and proves nothing against this host.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions

    @Option(help: "Number of control planes (default: 1).")
    var controlPlanes: Int?
    @Option(help: "Number of workers (default: 0).")
    var workers: Int?
    @Option(help: "Raw disk image of the node (default: \(BuiltArtifacts.image)).", completion: .file())
    var image: String?
    @Option(help: "Manifest of the image (default: beside the image).", completion: .file())
    var manifest: String?
    @Option(help: "The manifest's signature (Sigstore bundle); goes with --trust-root.", completion: .file())
    var bundle: String?
    @Option(help: "Keys that may sign the manifest; goes with --bundle.", completion: .file())
    var trustRoot: String?
    @Option(
        help: "Policy that evidence is judged by (default: a local machine's own TPM is let through).",
        completion: .file())
    var policy: String?
    @Option(
        help: "Folder with OVMF_CODE_4M.fd and OVMF_VARS_4M.fd (default: beside the image).", completion: .directory)
    var firmware: String?
    @Option(help: "Memory of each machine, e.g. 2G (default: 2G).")
    var memory: MemoryArgument?
    @Option(help: "Processors of each machine (default: 2).")
    var cpus: Int?
    @Option(help: "Size of each machine's state disk, which takes the room that is used (default: 30G).")
    var diskSize: MemoryArgument?
    @Flag(help: "Let an image of the debug profile run and be accepted; noted in cluster.json.")
    var allowDebug = false
    @Option(help: "Seconds that a node has from its start to its verdict.")
    var timeout: Int = 600
    @Flag(inversion: .prefixedNo, help: "End only when every node is Ready in Kubernetes.")
    var wait = true

    func validate() throws {
        guard (1...86_400).contains(timeout) else { throw ValidationError("--timeout must be 1 to 86400 seconds") }
        guard (bundle == nil) == (trustRoot == nil) else {
            throw ValidationError("--bundle and --trust-root go together")
        }
        guard policy == nil || !allowDebug else {
            throw ValidationError("--allow-debug goes without --policy, which says so itself")
        }
        if let cpus, !(1...256).contains(cpus) { throw ValidationError("--cpus must be 1 to 256") }
        if let diskSize, diskSize.mebibytes < UpRequest.minimumDiskMiB {
            throw ValidationError("--disk-size must be at least \(UpRequest.minimumDiskMiB)M")
        }
    }

    func run() throws {
        try NodeJudgement.reporting(output) { try bringUp() }
    }

    private func bringUp() throws {
        let cluster = try LocalCluster(making: directory.dir, host: .current)
        let made = cluster.isOwnDirectory
        let present = try cluster.document()
        var request = UpRequest(
            controlPlanes: controlPlanes, workers: workers, image: image, manifest: manifest, bundle: bundle,
            trustRoot: trustRoot, firmware: firmware, memoryMiB: memory?.mebibytes, processors: cpus,
            diskMiB: diskSize?.mebibytes,
            limits: .init(time: .seconds(timeout)), allowsDebug: allowDebug, madeDirectory: made)
        request.attestation = try policy.map { try Input.policy($0) }
        let judge: NodeJudge
        do {
            if let present {
                judge = try NodeJudge(present)
            } else {
                request.image = try image ?? BuiltArtifacts.existingImage()
                request.manifest = manifest ?? Self.manifest(beside: request.image ?? "")
                judge = try NodeJudge(
                    manifest: request.manifest, bundle: bundle, trustRoot: trustRoot,
                    judging: request.judging)
            }
        } catch {
            if present == nil, made { try cluster.abandonDirectory() }
            throw error
        }
        let printer = ProgressPrinter(quiet: output.quiet)
        var result = try cluster.up(
            request, judge: { judge.ask($0, within: $1) }, report: { printer.show($0) })
        printer.finish()
        for node in result.nodes {
            guard case .failed = node.outcome else { continue }
            output.note("nacre: \(node.node.name): the end of its console:")
            for line in (try? cluster.consoleTail(node.node.name, lines: 20)) ?? [] { output.note("  | \(line)") }
        }
        var initialised: [InitCommand.NodeResult] = []
        if result.isVerified, passphrase.isAvailable {
            initialised = try InitCommand.initialise(cluster, passphrase, timeout: timeout, waits: wait, output)
            result.document = try cluster.document() ?? result.document
        }
        switch output.output {
        case .json:
            var json = result.json.object ?? [:]
            if !initialised.isEmpty { json["kubeconfig"] = .string(cluster.kubeconfigPath) }
            Report.out(JSON.object(json).compact + "\n")
        case .text:
            for node in result.nodes { judge.report(node.node.name, output) }
            for line in Self.text(result) { Report.out(line + "\n") }
            if !initialised.isEmpty { InitCommand.report(initialised, output) }
        }
        if result.isRejected { throw Exit.rejected }
        if !result.isVerified { throw Exit.failed }
        if initialised.isEmpty {
            output.note("nacre: verified, and nobody's cluster yet: nacre init makes it yours (it needs a passphrase)")
        }
        try InitCommand.conclude(initialised)
    }

    private static func manifest(beside image: String) -> String {
        let folder = image.lastIndex(of: "/").map { image[...$0] } ?? ""
        return folder + BuiltArtifacts.manifestName
    }

    /// The result for people, one node after the other, then what it means.
    static func text(_ result: UpResult) -> [String] {
        var lines: [String] = []
        for node in result.nodes {
            switch node.outcome {
            case .judged(let judged) where judged.verdict.isAccepted:
                lines.append(
                    "\(node.node.name)  verified  \(node.node.endpoint)  protection: \(judged.protection?.rawValue ?? "-")"
                )
            case .judged(let judged):
                lines.append("\(node.node.name)  REJECTED  \(node.node.endpoint)")
                if let finding = judged.verdict.finding { lines.append("  \(finding)") }
            case .failed(let finding):
                lines.append("\(node.node.name)  FAILED  \(finding)")
            }
        }
        let protections = result.nodes.compactMap { node -> Protection? in
            if case .judged(let judged) = node.outcome { judged.protection } else { nil }
        }
        if protections.contains(.noneLocalTPM) {
            lines.append(
                "The TPM of a local machine is a program on this host: these registers show that the image booted as "
                    + "built, and prove nothing against this host or anyone who controls it.")
        }
        if protections.contains(.simulated) {
            lines.append("A simulated root signed this evidence: it proves nothing about any hardware.")
        }
        return lines
    }
}
