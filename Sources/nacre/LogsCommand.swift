import ArgumentParser
import Bytes
import Glibc
import Provisioning

/// `nacre logs`: the serial console of a local machine.
struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs",
        abstract: "Print the serial console of a local machine.",
        discussion: """
            Whatever runs in the machine writes this text. Control characters and escape sequences are left out; \
            vm/<node>/console.log has every byte.
            """)

    @OptionGroup var directory: DirectoryOption
    @Argument(help: "The node (default: the first).")
    var node: String?
    @Flag(name: .shortAndLong, help: "Go on as the console grows, until interrupted.")
    var follow = false

    func run() throws {
        var console = ConsoleStream(path: try directory.cluster().console(node))
        while true {
            let text = try console.next()
            if !text.isEmpty {
                let bytes = Array(text.utf8)
                guard unsafe write(STDOUT_FILENO, bytes, bytes.count) == bytes.count else { return }
            } else if follow {
                usleep(200_000)
            } else {
                return
            }
        }
    }
}
