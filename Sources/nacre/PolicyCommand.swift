import ArgumentParser
import Attestation
import Bytes
import Manifest

struct PolicyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy", abstract: "Show what a policy checks.", subcommands: [PolicyShow.self])
}

struct PolicyShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show",
        abstract: "Print what would be checked of a node, and what would not.",
        discussion: "With -o json: the policy itself, ready to be edited and given to --policy.")

    @Option(help: ArgumentHelp("The manifest whose values would be compared.", valueName: "file"))
    var manifest: String?

    @OptionGroup var policy: PolicyOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let read = try manifest.map { path in
            try Input.parse(path, limit: Manifest.maximumSize) { bytes in try Manifest(parsing: bytes) }
        }
        var shown = policy.fallback().0
        if let path = policy.policy {
            shown = try Input.parse(path, limit: 1 << 20) { bytes in try AppraisalPolicy(parsing: bytes) }
        }
        switch output.output {
        case .json: Report.out(shown.json.pretty)
        case .text: Report.out(Report.table(shown.outline(read)))
        }
    }
}
