import ArgumentParser
import Bytes
import Glibc
import Provisioning

/// `nacre logs`: what a node tells its owner, or the serial console of a local machine.
struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs",
        abstract: "Print a node's log, or the serial console of a local machine.",
        discussion: """
            With --passphrase-file the node is verified and its own log read over the attested channel, printed, and saved \
            as logs/<node>.log. Without, the serial console of the local machine is printed: whatever runs in the machine \
            writes this text. Control characters and escape sequences are left out; vm/<node>/console.log has every byte.
            """)

    @OptionGroup var directory: DirectoryOption
    @OptionGroup var passphrase: PassphraseOptions
    @Argument(help: "The node (default: the first).")
    var node: String?
    @Flag(name: .shortAndLong, help: "The console: go on as it grows, until interrupted.")
    var follow = false

    func validate() throws {
        guard passphrase.passphraseFile == nil || !follow else {
            throw ValidationError("--follow is for the console; leave out --passphrase-file")
        }
    }

    func run() throws {
        if passphrase.passphraseFile != nil { return try readLog() }
        var console = ConsoleStream(path: try directory.cluster().console(node))
        while true {
            let text = try console.next()
            if !text.isEmpty {
                Report.out(text)
            } else if follow {
                usleep(200_000)
            } else {
                return
            }
        }
    }

    private func readLog() throws {
        let cluster = try directory.cluster()
        guard let document = try cluster.document() else {
            throw Finding("local-absent", claim: cluster.directory, expected: "a cluster", actual: "none")
        }
        let session = try OwnerSession(cluster, document, passphrase: try passphrase.read(isNew: false))
        let node = try session.node(node)
        var text = ""
        try session.client.logs(try OwnerSession.endpoint(node)) { lines throws(Finding) in
            for line in lines {
                let line = Report.plain(line)
                Report.out(line + "\n")
                text += line + "\n"
            }
        }
        try cluster.saveLog(text, of: node.name)
    }
}
