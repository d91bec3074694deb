import ArgumentParser
import Bytes
import Cluster
import Provisioning

/// `nacre status`: what runs here, what the last verdict was, and what nodes say of themselves.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the nodes of this directory's cluster.",
        discussion: """
            Without --passphrase-file: what runs, and the last verdict; nothing is judged. With it, every node is verified \
            and asked over the attested channel, which takes the owner key: its phase, with the time of each, and its disk.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let cluster = try directory.cluster()
        let status = try cluster.status()
        var nodes = status["nodes"]?.array ?? []
        var failure: ExitCode?
        if passphrase.passphraseFile != nil, let document = try cluster.document() {
            let session = try OwnerSession(
                cluster, document, passphrase: try passphrase.read(isNew: false))
            for (index, node) in document.nodes.enumerated() where nodes.indices.contains(index) {
                let (live, exit) = Self.ask(node, session)
                nodes[index] = JSON.object((nodes[index].object ?? [:]).merging(live) { _, live in live })
                if let exit { failure = failure == Exit.rejected ? failure : exit }
            }
        }
        if output.output == .json {
            var fields = status.object ?? [:]
            fields["nodes"] = .array(nodes)
            print(JSON.object(fields).compact)
        } else {
            for node in nodes { print(Self.line(node)) }
        }
        if let failure { throw failure }
    }

    /// What the node says, as fields of `nacre.status.v1`.
    private static func ask(
        _ node: ClusterDocument.Node, _ session: OwnerSession
    ) -> (fields: [String: JSON], exit: ExitCode?) {
        let now = JSON.string(Instant.now.description)
        do throws(Finding) {
            let status = try session.client.status(try OwnerSession.endpoint(node))
            return (
                [
                    "phase": .string(status.phase.rawValue), "stateDisk": .string(status.disk),
                    "ready": .bool(status.kubernetes?.isReady ?? false),
                    "kubernetes": status.kubernetes?.json ?? .null,
                    "verified": ["at": now, "verdict": "accept", "reason": "ok"],
                    "phases": .array(
                        status.timings.map {
                            [
                                "name": .string($0.phase.rawValue),
                                "seconds": .double(Double($0.milliseconds) / 1000),
                            ]
                        }),
                    "generation": status.generation.map { .integer(Int128($0)) } ?? .null,
                    "failure": (status.failure ?? misplaced(status, node)).map { .string("\($0)") } ?? .null,
                ], nil
            )
        } catch {
            let isRejected = !["connection", "busy", "local"].contains(error.family)
            return (
                [
                    "failure": .string("\(error)"),
                    "verified": isRejected ? ["at": now, "verdict": "reject", "reason": .string(error.reason)] : .null,
                ], isRejected ? Exit.rejected : Exit.failed
            )
        }
    }

    /// A machine is what its disk says.
    private static func misplaced(_ status: NodeStatus, _ node: ClusterDocument.Node) -> Finding? {
        guard let name = status.membership?.node.description, name != node.name else { return nil }
        return Finding(
            "disk-other-node", claim: node.name, expected: "this node's own disk", actual: "the disk of \(name)",
            source: "cluster.json", next: "put the disks back, and restart both machines")
    }

    private static func line(_ node: JSON) -> String {
        var words = ["name", "role", "phase"].map { node[$0]?.string ?? "-" }
        let verified = node["verified"]
        words.append(
            verified?["verdict"]?.string.map { verdict in
                "last verdict: \(verdict) (\(verified?["reason"]?.string ?? "-")) at \(verified?["at"]?.string ?? "-")"
            } ?? "never verified")
        if let kubernetes = node["kubernetes"], let phase = kubernetes["phase"]?.string {
            let ready = kubernetes["ready"]?.bool == true ? "Ready" : "not Ready"
            words.append("Kubernetes \(Report.plain(kubernetes["version"]?.string ?? "")): \(phase), \(ready)")
            if let failure = kubernetes["failure"]?["reason"]?.string { words.append(Report.plain(failure)) }
        }
        if let disk = node["stateDisk"]?.string { words.append("state disk: \(Report.plain(disk))") }
        let phases = (node["phases"]?.array ?? []).map { phase in
            let seconds = phase["seconds"].map(\.compact) ?? "-"
            return "\(phase["name"]?.string ?? "-") \(seconds) s"
        }
        if !phases.isEmpty { words.append(phases.joined(separator: ", ")) }
        if let failure = node["failure"]?.string { words.append(Report.plain(failure)) }
        return words.joined(separator: "  ")
    }
}
