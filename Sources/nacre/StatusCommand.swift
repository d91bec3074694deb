import ArgumentParser
import Bytes
import Provisioning

/// `nacre status`: what runs here and what the last verdict was.
struct StatusCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "status",
        abstract: "Show the nodes of this directory's cluster and their last verdict.",
        discussion: "Nothing is judged here; nacre verify does that.")

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var output: OutputOptions

    func run() throws {
        let status = try directory.cluster().status()
        if output.output == .json {
            print(status.compact)
            return
        }
        for node in status["nodes"]?.array ?? [] {
            let words = ["name", "role", "phase"].map { node[$0]?.string ?? "-" }
            let verified = node["verified"]
            let verdict =
                verified?["verdict"]?.string.map { verdict in
                    "last verdict: \(verdict) (\(verified?["reason"]?.string ?? "-")) at \(verified?["at"]?.string ?? "-")"
                } ?? "never verified"
            print((words + [verdict]).joined(separator: "  "))
        }
    }
}
