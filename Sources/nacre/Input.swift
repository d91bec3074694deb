import ArgumentParser
import Attestation
import Bytes
import Manifest

/// Files that commands read and write.
enum Input {
    /// Largest input of any kind, bytes.
    static let limit = 64 << 20

    /// All bytes of a regular file, or a `parse-unreadable` finding (exit code 2).
    static func read(_ path: String, limit: Int = limit) throws(Finding) -> [UInt8] {
        do { return try Files.read(path, limit: limit) } catch { throw error.finding }
    }

    /// Reads `path` by `parse`, naming the file in the error.
    static func parse<T, E: Error>(
        _ path: String, limit: Int = limit, _ parse: ([UInt8]) throws(E) -> T
    ) throws(Finding) -> T {
        let bytes = try read(path, limit: limit)
        do {
            return try parse(bytes)
        } catch {
            switch error {
            case let error as ParseError:
                throw ParseError(error.detail, field: "\(path): \(error.field)", offset: error.offset, error.message)
                    .finding
            case let error as Finding: throw error
            default: throw Finding("parse-form", claim: path, actual: "\(error)")
            }
        }
    }

    /// `nacre.policy.v1`.
    static func policy(_ path: String) throws(Finding) -> AppraisalPolicy {
        try parse(path, limit: 1 << 20) { (bytes) throws(ParseError) in try AppraisalPolicy(parsing: bytes) }
    }

    static func write(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o644, replacing: Bool = true) throws {
        do {
            try Files.write(bytes, to: path, mode: mode, replacing: replacing)
        } catch {
            throw Finding("write-failed", claim: path, actual: error.message)
        }
    }
}

extension Instant: ExpressibleByArgument {
    public init?(argument: String) { self.init(argument) }
}

extension Manifest.Profile: ExpressibleByArgument {}

/// Bytes given as hexadecimal text.
struct HexArgument: ExpressibleByArgument {
    let bytes: [UInt8]

    init?(argument: String) {
        guard let bytes = Hex.decode(argument) else { return nil }
        self.bytes = bytes
    }
}

/// The time to judge at.
struct TimeOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Judge as of this time, e.g. 2026-01-01T00:00:00Z; now by default.", valueName: "time"))
    var at: Instant?

    var instant: Instant { at ?? .now }
}

/// A manifest and, where given, what proves who made it.
struct ManifestOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The manifest.", valueName: "file"))
    var manifest: String

    @Option(help: ArgumentHelp("Its signature, a Sigstore bundle; needs --trust-root.", valueName: "file"))
    var bundle: String?

    @Option(
        help: ArgumentHelp("Keys that may sign it: nacre.trustroot.v1 or one PEM public key.", valueName: "file"))
    var trustRoot: String?

    func validate() throws {
        guard (bundle == nil) == (trustRoot == nil) else {
            throw ValidationError("--bundle and --trust-root go together.")
        }
    }
}
