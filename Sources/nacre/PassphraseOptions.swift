import ArgumentParser
import Bytes
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
        if let passphraseFile { return try Self.line(of: passphraseFile) }
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

    private static func line(of path: String) throws(Finding) -> Secret {
        var bytes: [UInt8] = []
        if path == "-" {
            bytes = try standardInput()
        } else {
            bytes = try Input.read(path, limit: 1 << 16)
        }
        return try first(line: &bytes, of: path)
    }

    /// Up to the first line feed; all copies made here are wiped.
    private static func first(line bytes: inout [UInt8], of source: String) throws(Finding) -> Secret {
        let whole = Secret(wiping: &bytes)
        let count = whole.withBytes { bytes in
            (0..<bytes.count).first { bytes[$0] == UInt8(ascii: "\n") || bytes[$0] == UInt8(ascii: "\r") }
                ?? bytes.count
        }
        guard (1...limit).contains(count) else {
            throw Finding(
                "parse-range", claim: "passphrase", expected: "1 to \(limit) bytes", actual: "\(count) bytes",
                source: source)
        }
        return Secret(whole, from: 0, count: count)
    }

    /// One read after the other, up to the first line feed or the end.
    private static func standardInput() throws(Finding) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count <= limit {
            var byte: UInt8 = 0
            let count = unsafe Glibc.read(STDIN_FILENO, &byte, 1)
            if count < 0, errno == EINTR { continue }
            if count <= 0 || byte == UInt8(ascii: "\n") { return bytes }
            bytes.append(byte)
        }
        return bytes
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
        var bytes = try standardInput()
        return try first(line: &bytes, of: "terminal")
    }
}
