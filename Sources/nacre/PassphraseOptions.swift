import ArgumentParser
import Bytes
import CLinux
import Glibc

/// Where the passphrase of the sealed keys comes from; never an argument, never the environment.
struct PassphraseOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "File with the passphrase of the sealed keys, its first line; - is standard input. Asked for on the terminal by "
                + "default.", valueName: "file"))
    var passphraseFile: String?

    /// Whether there is somebody or something to ask.
    var isAvailable: Bool { passphraseFile != nil || isatty(STDIN_FILENO) == 1 }

    /// - Parameter isNew: asked twice on a terminal.
    func read(isNew: Bool) throws(Finding) -> Secret {
        // From here on this process holds secrets: no core file, no debugger of the same user.
        guard nacre_not_dumpable() == 0 else {
            throw Finding("local-process", claim: "core dumps", expected: "forbidden", actual: "the kernel refuses")
        }
        if passphraseFile == "-" { return try Self.line(STDIN_FILENO, "standard input") }
        if let passphraseFile {
            let file = unsafe open(passphraseFile, O_RDONLY | O_CLOEXEC | O_NOCTTY)
            guard file >= 0 else {
                throw Finding(
                    "parse-unreadable", claim: passphraseFile, expected: "a readable file",
                    actual: unsafe String(cString: strerror(errno)))
            }
            defer { close(file) }
            return try Self.line(file, passphraseFile)
        }
        guard isatty(STDIN_FILENO) == 1 else {
            throw Finding(
                "parse-missing", claim: "passphrase", expected: "a terminal to ask on, or --passphrase-file",
                actual: "neither")
        }
        let first = try Self.ask(isNew ? "New passphrase for owner key and cluster secret: " : "Passphrase: ")
        if isNew {
            let second = try Self.ask("The same again: ")
            guard first.equals(second) else {
                throw Finding(
                    "parse-form", claim: "passphrase", expected: "twice the same", actual: "two different ones")
            }
        }
        return first
    }

    private static let limit = 1024

    /// Up to the first line feed or the end, byte by byte into locked memory: no buffer keeps a copy.
    private static func line(_ file: Int32, _ source: String) throws(Finding) -> Secret {
        var count = 0
        let whole = Secret(count: limit + 1) { span in
            while count <= limit {
                let found = unsafe span.withUnsafeMutableBytes { buffer in
                    unsafe Glibc.read(file, buffer.baseAddress?.advanced(by: count), 1)
                }
                if found < 0, errno == EINTR { continue }
                if found <= 0 || span[count] == UInt8(ascii: "\n") { return }
                count += 1
            }
        }
        let hasReturn = count > 0 && whole.withBytes { $0[count - 1] == UInt8(ascii: "\r") }
        if hasReturn { count -= 1 }
        guard (1...limit).contains(count) else {
            throw Finding(
                "parse-range", claim: "passphrase", expected: "1 to \(limit) bytes",
                actual: count == 0 ? "none" : "more", source: source)
        }
        return Secret(whole, from: 0, count: count)
    }

    /// Without echo; the terminal is as before afterwards, whatever happens.
    private static func ask(_ prompt: String) throws(Finding) -> Secret {
        let text = Array(prompt.utf8)
        _ = unsafe write(STDERR_FILENO, text, text.count)
        var before = termios()
        guard unsafe tcgetattr(STDIN_FILENO, &before) == 0 else {
            throw Finding("parse-missing", claim: "passphrase", expected: "a terminal", actual: "none")
        }
        var silent = before
        silent.c_lflag &= ~tcflag_t(ECHO)
        _ = unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent)
        defer {
            _ = unsafe tcsetattr(STDIN_FILENO, TCSAFLUSH, &before)
            _ = unsafe write(STDERR_FILENO, "\n", 1)
        }
        return try line(STDIN_FILENO, "terminal")
    }
}
