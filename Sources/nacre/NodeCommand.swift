import ArgumentParser
import Bytes
import Provisioning

/// `nacre node`: single machines.
struct NodeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "node", abstract: "Start and stop single local machines.", subcommands: [Start.self, Stop.self])

    struct Start: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Start a stopped local machine.")
        @OptionGroup var directory: DirectoryOption
        @OptionGroup var output: OutputOptions
        @Argument(help: "The node.") var name: String

        func run() throws {
            let printer = ProgressPrinter(quiet: output.quiet)
            let started = try directory.cluster().start(name) { printer.show($0) }
            switch output.output {
            case .json: print(answer(name, started == nil ? "was running" : "started"))
            case .text: print(started.map { "\(name) started with \($0.kind.rawValue)" } ?? "\(name) was running")
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
            case .json: print(answer(name, ending))
            case .text: print("\(name) \(ending)")
            }
        }
    }

    private static func answer(_ name: String, _ result: String) -> String {
        JSON.object(["schema": "nacre.node.v1", "name": .string(name), "result": .string(result)]).compact
    }
}
