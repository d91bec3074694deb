import ArgumentParser
import Bytes
import Glibc
import Provisioning

/// `nacre down`: ends what `nacre up` started in this directory.
struct DownCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "down",
        abstract: "End the local machines of this directory, and only those; nothing stays behind.")

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var output: OutputOptions
    @Flag(help: "Keep the machines' disks and TPM state, so that nacre up continues with them.")
    var keepDisks = false

    func run() throws {
        var ended: [String] = []
        // Nothing there is what this command is to achieve.
        if unsafe access(directory.dir, F_OK) == 0 {
            let printer = ProgressPrinter(quiet: output.quiet)
            ended = try directory.cluster().down(keepDisks: keepDisks) { printer.show($0) }
        }
        switch output.output {
        case .json:
            print(JSON.object(["schema": "nacre.down.v1", "ended": .array(ended.map { .string($0) })]).compact)
        case .text: print(ended.isEmpty ? "nothing was running" : "ended \(ended.joined(separator: ", "))")
        }
    }
}
