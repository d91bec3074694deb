import ArgumentParser
import Bytes
import Glibc
import Provisioning

/// `nacre config`: the file that says what a cluster is made of.
struct ConfigCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "config", abstract: "Write and check nacre.yaml.",
        subcommands: [Generate.self, Validate.self, Schema.self])

    enum Provider: String, ExpressibleByArgument, CaseIterable {
        case qemu
    }

    struct Generate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write a commented nacre.yaml with the defaults; never over one that is there.")
        @Argument(help: "Where the machines are to be.") var provider: Provider
        @OptionGroup var directory: DirectoryOption
        @OptionGroup var output: OutputOptions

        func run() throws {
            _ = unsafe mkdir(directory.dir, 0o755)
            let path = "\(directory.dir)/\(ClusterConfig.file)"
            try Input.write(Array(ClusterConfig.sample.utf8), to: path, replacing: false)
            switch output.output {
            case .json: Report.out(JSON.object(["schema": "nacre.config.v1", "file": .string(path)]).compact + "\n")
            case .text: Report.out("\(path)\n")
            }
        }
    }

    struct Validate: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Check nacre.yaml; errors name line, key and what is allowed.")
        @Argument(help: "The file (default: nacre.yaml in --dir).", completion: .file()) var file: String?
        @OptionGroup var directory: DirectoryOption
        @OptionGroup var output: OutputOptions

        func run() throws {
            let path = file ?? "\(directory.dir)/\(ClusterConfig.file)"
            let config = try ConfigCommand.read(path)
            switch output.output {
            case .json:
                Report.out(
                    JSON.object([
                        "schema": "nacre.config.v1", "file": .string(path), "valid": true,
                        "controlPlanes": .integer(Int128(config.controlPlanes)),
                        "workers": .integer(Int128(config.workers)), "stateDisk": config.stateDisk.json,
                    ]).compact + "\n")
            case .text: Report.out("\(path) is valid\n")
            }
        }
    }

    struct Schema: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print the JSON Schema of nacre.yaml.")
        @OptionGroup var output: OutputOptions

        func run() throws {
            let schema = ClusterConfig.schema
            Report.out(output.output == .json ? schema.compact + "\n" : schema.pretty)
        }
    }

    static func read(_ path: String) throws -> ClusterConfig {
        try ClusterConfig(parsing: try Input.read(path, limit: 1 << 16), file: path)
    }
}
