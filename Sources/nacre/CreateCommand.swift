import ArgumentParser
import Bytes
import Glibc
import Provisioning

/// `nacre create`: the machines that nacre.yaml asks for, started.
struct CreateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Make and start the machines of nacre.yaml.",
        discussion: """
            Nothing is billed for local machines, so nothing is asked. Run again, it starts what does not run. The nodes \
            are nobody's until nacre init.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var output: OutputOptions
    @Option(help: "Number of control planes, instead of the file's.") var controlPlanes: Int?
    @Option(help: "Number of workers, instead of the file's.") var workers: Int?
    @Flag(name: .shortAndLong, help: "Do not ask before something that costs money.") var yes = false

    func run() throws {
        let cluster = try directory.cluster()
        let config = try ConfigCommand.read("\(directory.dir)/\(ClusterConfig.file)")
        var request = UpRequest(config)
        request.attestation = try config.policy.map { try Input.policy($0) }
        if let controlPlanes { request.controlPlanes = controlPlanes }
        if let workers { request.workers = workers }
        if try cluster.document() == nil {
            output.note(
                "nacre: \(request.controlPlanes ?? 0) control planes and \(request.workers ?? 0) workers in QEMU, "
                    + "\(config.memoryMiB) MiB and \(config.processors) processors each")
        }
        let printer = ProgressPrinter(quiet: output.quiet)
        let document = try cluster.create(request) { printer.show($0) }
        switch output.output {
        case .json:
            Report.out(
                JSON.object([
                    "schema": "nacre.created.v1",
                    "nodes": .array(
                        document.nodes.map {
                            [
                                "name": .string($0.name), "role": .string($0.role.rawValue),
                                "endpoint": .string($0.endpoint),
                            ]
                        }),
                ]).compact + "\n")
        case .text:
            for node in document.nodes { Report.out("\(node.name)  \(node.role.rawValue)  \(node.endpoint)\n") }
        }
    }
}
