import ArgumentParser
import Bytes
import Glibc

/// The root command. Subcommands live one per file and hold no logic.
struct Nacre: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nacre",
        abstract: "Encrypted Kubernetes nodes that their owner can verify.",
        discussion: """
            Exit codes: 0 done or accepted, 1 the operation failed, 2 unusable arguments or files, \
            3 judged and rejected.
            """,
        version: "0.1.0",
        subcommands: [
            UpCommand.self, DownCommand.self, CreateCommand.self, InitCommand.self, RecoverCommand.self,
            VerifyCommand.self, StatusCommand.self, NodeCommand.self, LogsCommand.self, ConfigCommand.self, Image.self,
            EvidenceCommand.self, ManifestCommand.self, PolicyCommand.self,
        ])
}

/// The exit codes of the command line; they are contract.
enum Exit {
    static let failed = ExitCode(1)
    static let unusable = ExitCode(2)
    static let rejected = ExitCode(3)
}

/// Text for people or one JSON document for programs.
enum OutputFormat: String, ExpressibleByArgument, CaseIterable {
    case text, json
}

/// Options that every command takes.
struct OutputOptions: ParsableArguments {
    @Option(name: .shortAndLong, help: "Form of the result on standard output.")
    var output: OutputFormat = .text

    @Flag(help: "No progress and no notes on standard error.")
    var quiet = false

    @Flag(help: "More detail on standard error.")
    var verbose = false

    /// A line for people on standard error.
    func note(_ text: String) { if !quiet { standardError(text) } }
    /// A line for people who asked for more.
    func detail(_ text: String) { if verbose { standardError(text) } }
}

func standardError(_ text: String) {
    // Lines of our own stay lines; nothing that they quote reaches a terminal as control characters.
    let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map { Report.plain(String($0)) }
    let line = Array((lines.joined(separator: "\n") + "\n").utf8)
    _ = unsafe write(STDERR_FILENO, line, line.count)
}

@main
enum Main {
    static func main() async {
        prepareDescriptors()
        do {
            var command = try Nacre.parseAsRoot()
            if var asynchronous = command as? any AsyncParsableCommand {
                try await asynchronous.run()
            } else {
                try command.run()
            }
        } catch {
            finish(error)
        }
    }

    /// A closed pipe fails a write instead of ending the program, and no file that is opened later can take the number
    /// of a standard stream that was closed: what is written there must fail, not land in that file.
    private static func prepareDescriptors() {
        // A handler rather than SIG_IGN, which programs that are started would inherit.
        signal(SIGPIPE) { _ in }
        for descriptor in [STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO] where fcntl(descriptor, F_GETFD) < 0 {
            _ = unsafe open("/dev/null", O_RDONLY)
        }
    }

    /// Maps every error to a message on standard error and one of the four exit codes.
    static func finish(_ error: any Error) -> Never {
        if let code = error as? ExitCode { exit(code.rawValue) }
        if let finding = error as? Finding {
            standardError("nacre: \(Report.plain(finding.description))")
            exit(finding.family == "parse" ? Exit.unusable.rawValue : Exit.failed.rawValue)
        }
        // Thrown while running: the parser no longer knows which subcommand's usage would go with it.
        if let error = error as? ValidationError {
            standardError("Error: \(error.message)")
            exit(Exit.unusable.rawValue)
        }
        let code = Nacre.exitCode(for: error)
        let message = Nacre.fullMessage(for: error)
        if code == .success {
            print(message)
            exit(0)
        }
        standardError(message.isEmpty ? "nacre: \(error)" : message)
        exit(code == .validationFailure ? Exit.unusable.rawValue : Exit.failed.rawValue)
    }
}
