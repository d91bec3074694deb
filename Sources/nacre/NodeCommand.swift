import ArgumentParser
import Bytes
import Provisioning

/// `nacre node`: single machines.
struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node",
        abstract: "Start and stop single machines; list and revoke nodes; exchange the keys of their disks.",
        subcommands: [Start.self, Stop.self, Rekey.self, NodeList.self, NodeRevoke.self])

    struct Start: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Start a stopped local machine.")
        @OptionGroup var directory: DirectoryOption
        @OptionGroup var output: OutputOptions
        @Argument(help: "The node.") var name: String

        func run() throws {
            let printer = ProgressPrinter(quiet: output.quiet)
            let started = try directory.cluster().start(name) { printer.show($0) }
            switch output.output {
            case .json: Report.out(answer(name, started == nil ? "was running" : "started") + "\n")
            case .text:
                Report.out((started.map { "\(name) started with \($0.kind.rawValue)" } ?? "\(name) was running") + "\n")
            }
        }
    }

    struct Stop: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Stop a local machine by its power button.")
        @OptionGroup var directory: DirectoryOption
        @OptionGroup var output: OutputOptions
        @Argument(help: "The node.") var name: String
        @Flag(help: "Kill the machine: what its disks had only in caches is lost.")
        var powerCut = false

        func run() throws {
            let printer = ProgressPrinter(quiet: output.quiet)
            let ending = try directory.cluster().stop(name, powerCut: powerCut) { printer.show($0) }
            switch output.output {
            case .json: Report.out(answer(name, ending) + "\n")
            case .text: Report.out("\(name) \(ending)\n")
            }
        }
    }

    struct Rekey: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Exchange the keys of nodes' state disks for those of the next epoch, while they are in use.",
            discussion: """
                Each node is verified first. Cut off at any moment, the disk opens with the old key or the new one; \
                name the nodes that failed to go on. The owner refuses copies of a disk from before; control planes do so \
                once the node has rejoined.
                """)

        @OptionGroup var directory: DirectoryOption
        @OptionGroup var passphrase: PassphraseOptions
        @OptionGroup var output: OutputOptions
        @Argument(help: "The nodes (default: all).") var names: [String] = []
        @Option(help: "Seconds that a node may take to answer.")
        var timeout: Int = 300

        func run() throws {
            try OwnerSession.ask(
                directory, passphrase, nodes: names, timeout: timeout, "exchanging its disk's key", output
            ) { (session, secret, node, endpoint) throws(Finding) in
                try session.client.rekey(
                    endpoint, node: try OwnerSession.name(node), epoch: (node.epoch ?? 1) + 1, secret)
            }
        }
    }

    private static func answer(_ name: String, _ result: String) -> String {
        JSON.object(["schema": "nacre.node.v1", "name": .string(name), "result": .string(result)]).compact
    }
}
