import ArgumentParser
import Attestation
import Bytes
import Cluster
import Provisioning

/// `nacre init`: makes this directory's verified nodes a cluster of this owner.
struct InitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Verify the nodes and make them this owner's cluster.",
        discussion: """
            Makes owner key and cluster secret on first use, sealed with a passphrase. Each node is verified against the \
            manifest before it learns anything; then the owner key is proved to it and keys are handed over; it measures \
            the cluster's id and owner into register 15, once. Run again, it continues or says that all is well.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions
    @Option(
        help: ArgumentHelp(
            "What this node's state disk holds may go: it is formatted unless it is the node's own (repeatable).",
            valueName: "node"))
    var eraseDisk: [String] = []
    @Option(help: "Seconds that a node may take to answer.")
    var timeout: Int = 300
    @Flag(inversion: .prefixedNo, help: "End only when every node is Ready in Kubernetes.")
    var wait = true

    func validate() throws {
        guard (1...86_400).contains(timeout) else { throw ValidationError("--timeout must be 1 to 86400 seconds") }
    }

    func run() throws {
        try NodeJudgement.reporting(output) {
            let cluster = try directory.cluster()
            let results = try Self.initialise(
                cluster, passphrase, erase: eraseDisk, timeout: timeout, waits: wait, output)
            Self.report(results, output)
            try Self.conclude(results)
        }
    }

    /// What came of one node.
    struct NodeResult {
        let node: ClusterDocument.Node
        let result: Result<NodeStatus, Finding>
    }

    /// Control planes first: workers need one.
    static func initialise(
        _ cluster: LocalCluster, _ passphrase: PassphraseOptions, erase: [String] = [], timeout: Int, waits: Bool,
        _ output: OutputOptions
    ) throws -> [NodeResult] {
        let (session, established) = try handOver(cluster, passphrase, erase: erase, timeout: timeout, output)
        return waits ? ReadyStep.wait(session, established, timeout: max(timeout, 900), output) : established
    }

    /// Everything that takes the passphrase and the cluster secret: both are wiped when it is over, before the long wait.
    private static func handOver(
        _ cluster: LocalCluster, _ passphrase: PassphraseOptions, erase: [String], timeout: Int, _ output: OutputOptions
    ) throws -> (session: OwnerSession, results: [NodeResult]) {
        guard let present = try cluster.document() else {
            throw Finding(
                "local-absent", claim: cluster.directory, expected: "a cluster", actual: "none", next: "nacre create")
        }
        let names = present.nodes.map(\.name)
        if let unknown = erase.first(where: { !names.contains($0) }) {
            throw Finding("parse-node", claim: unknown, expected: names.joined(separator: ", "))
        }
        let words = try passphrase.read(isNew: !cluster.hasOwner)
        let printer = ProgressPrinter(quiet: output.quiet)
        let document = try cluster.makeOwner(passphrase: words) { printer.show($0) }
        let session = try OwnerSession(cluster, document, passphrase: words)
        let secret = try cluster.clusterSecret(passphrase: words)
        let manifest = try Input.read(document.manifest ?? "", limit: 1 << 20)
        var results: [NodeResult] = []
        for role in [Membership.Role.controlPlane, .worker] {
            for node in document.nodes where node.role == role {
                output.note("nacre: \(node.name): verifying, then handing over keys")
                let result: Result<NodeStatus, Finding>
                do throws(Finding) {
                    let endpoint = try OwnerSession.endpoint(node)
                    let request = InitRequest(
                        node: try OwnerSession.name(node), role: role, manifest: manifest,
                        policy: session.judgement.policy, disk: document.disk,
                        allowForeign: erase.contains(node.name), epoch: node.epoch ?? 1,
                        generation: node.generation ?? 0, peers: document.peers(of: node))
                    result = .success(
                        try OwnerSession.patiently(timeout) { () throws(Finding) in
                            try session.client.initialise(endpoint, request, secret)
                        })
                } catch { result = .failure(error) }
                results.append(NodeResult(node: node, result: result))
            }
        }
        try remember(results, cluster)
        let established = try PolicyStep.establish(session, manifest, results, timeout: timeout, output)
        let kubeconfig = try cluster.writeKubeconfig(secret)
        output.note("nacre: kubectl --kubeconfig \(kubeconfig): the owner's access, for 30 days")
        return (session, established)
    }

    /// An older copy of a disk than was seen is refused from now on.
    static func remember(_ results: [NodeResult], _ cluster: LocalCluster) throws(Finding) {
        var seen: [String: (generation: Int, epoch: Int)] = [:]
        for result in results {
            guard case .success(let status) = result.result, let generation = status.generation,
                status.membership?.node.description == result.node.name
            else { continue }
            seen[result.node.name] = (generation, status.epoch ?? 1)
        }
        try cluster.remember(seen)
    }

    static func report(_ results: [NodeResult], _ output: OutputOptions) {
        switch output.output {
        case .json:
            let nodes = results.map { result -> JSON in
                switch result.result {
                case .success(let status):
                    [
                        "name": .string(result.node.name), "result": "member", "phase": .string(status.phase.rawValue),
                        "stateDisk": .string(status.disk), "ready": .bool(status.kubernetes?.isReady ?? false),
                    ]
                case .failure(let finding):
                    ["name": .string(result.node.name), "result": "failed", "reason": .string(finding.reason)]
                }
            }
            let id = results.lazy.compactMap { try? $0.result.get().membership?.identity.clusterID }.first
            Report.out(
                JSON.fields([
                    "schema": "nacre.initialised.v1", "clusterID": id.map { .hex($0) } ?? .null,
                    "nodes": .array(nodes),
                ]).compact + "\n")
        case .text:
            for result in results {
                switch result.result {
                case .success(let status):
                    let id = status.membership.map { Hex.encode($0.identity.clusterID) } ?? "-"
                    let ready = status.kubernetes?.isReady == true ? "  Ready" : ""
                    Report.out(
                        "\(result.node.name)\(ready)  member of \(id)  state disk: \(Report.plain(status.disk))\n")
                case .failure(let finding): Report.out("\(result.node.name)  FAILED  \(Report.plain("\(finding)"))\n")
                }
            }
        }
        for result in results {
            if case .failure(let finding) = result.result { output.note("nacre: \(result.node.name): \(finding)") }
        }
    }

    /// Exit code 3 where a node or its answer was judged and rejected, 1 where it could not be asked.
    static func conclude(_ results: [NodeResult]) throws {
        let failures = results.compactMap { result -> Finding? in
            if case .failure(let finding) = result.result { finding } else { nil }
        }
        if failures.contains(where: { !["connection", "busy", "local"].contains($0.family) }) { throw Exit.rejected }
        if !failures.isEmpty { throw Exit.failed }
    }
}
