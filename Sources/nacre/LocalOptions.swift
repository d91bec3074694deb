import ArgumentParser
import Bytes
import Glibc
import Provisioning

/// Where a cluster lives.
struct DirectoryOption: ParsableArguments {
    @Option(help: "The cluster's directory.", completion: .directory)
    var dir: String = "."

    /// The cluster of this directory.
    func cluster() throws(Finding) -> LocalCluster { try LocalCluster(directory: dir, host: .current) }
}

extension Host {
    /// The host with this process's environment.
    static var current: Host {
        var variables: [String: String] = [:]
        var entry = unsafe environ
        while let text = unsafe entry.pointee {
            let parts = unsafe String(cString: text).split(
                separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            if parts.count == 2 { variables[String(parts[0])] = String(parts[1]) }
            unsafe entry += 1
        }
        return Host(environment: variables)
    }
}

/// `2G`, `2048M`.
struct MemoryArgument: ExpressibleByArgument {
    let mebibytes: Int

    init?(argument: String) {
        guard let size = MemorySize.mebibytes(argument) else { return nil }
        mebibytes = size
    }
}

/// What `make image` leaves behind, for commands that are not told.
enum BuiltArtifacts {
    static let image = "build/image/nacre.raw"
    static let manifestName = "manifest.json"

    /// The built image, which must be there.
    static func existingImage() throws(Finding) -> String {
        guard unsafe access(image, R_OK) == 0 else {
            throw Finding(
                "parse-missing", claim: "image", expected: image, actual: "not there",
                next: "build it with make image, or name one with --image")
        }
        return image
    }
}

/// Progress of machines on standard error: on a terminal one line that changes, else one line for each step.
final class ProgressPrinter {
    private let quiet: Bool
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private var isLineOpen = false
    private var turn = 0
    private var lastSteps: [String: String] = [:]

    init(quiet: Bool) { self.quiet = quiet }

    func show(_ progress: Progress) {
        if quiet { return }
        switch progress {
        case .note(let text): line("nacre: \(text)")
        case .step(let node, let name, let time):
            lastSteps[node] = name
            line("nacre: \(node): \(name) after \(Self.seconds(time))")
        case .waiting(let node, let time):
            guard isTerminal else { return }
            turn += 1
            let wheel = ["|", "/", "-", "\\"][turn % 4]
            let step = lastSteps[node] ?? "running"
            put("\r\u{1B}[K\(wheel) \(node): \(step), \(Self.seconds(time))")
            isLineOpen = true
        }
    }

    /// Takes the changing line away.
    func finish() {
        if isLineOpen { put("\r\u{1B}[K") }
        isLineOpen = false
    }

    private func line(_ text: String) {
        finish()
        standardError(text)
    }

    private func put(_ text: String) {
        let bytes = Array(text.utf8)
        _ = unsafe write(STDERR_FILENO, bytes, bytes.count)
    }

    static func seconds(_ time: Duration) -> String {
        let tenths = Int((time.seconds * 10).rounded())
        return "\(tenths / 10).\(tenths % 10) s"
    }
}
