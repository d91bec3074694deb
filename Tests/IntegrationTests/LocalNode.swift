import Bytes
import Glibc
import TestKit
import Testing

/// One machine in a cluster directory of its own, driven through the command line. It ends with this object.
final class LocalNode: Sendable {
    private let folder: TemporaryFolder
    let directory: String
    private let image: String
    private let manifest: [String]
    private let firmware: String
    /// Words before every command of this node.
    private let environment: [String]
    /// More options of `nacre up`.
    private let options: [String]

    /// - Parameters:
    ///   - image: the disk to boot.
    ///   - manifest: the options that say what to judge it by; by default the signed production manifest.
    ///   - host: what the host hands the guest beside its disk.
    init(
        image: String = Built.disk, manifest: [String] = LocalNode.production, host: HostInputs = HostInputs(),
        options: [String] = []
    ) throws {
        self.options = options
        folder = try TemporaryFolder()
        directory = folder.path + "/cluster"
        self.image = image
        self.manifest = manifest
        firmware = try host.firmware(in: folder)
        environment = try host.environment(in: folder)
    }

    static let production = [
        "--manifest", Built.manifest, "--bundle", Built.bundle, "--trust-root", Built.trustRoot,
    ]
    /// Emulation on a shared machine: five times what a boot takes on an idle one.
    static let patience = 240

    private var upCommand: [String] {
        [Built.nacre, "up", "--dir", directory, "--image", image, "--firmware", firmware]
            + ["--timeout", String(Self.patience), "-o", "json"] + manifest + options
    }

    func up() async throws -> Tool.Output { try await run(upCommand) }

    /// `nacre up`, killed (SIGKILL, itself alone) after `seconds`.
    func up(killedAfter seconds: Double) async throws -> Tool.Output {
        try await run(["timeout", "--foreground", "--signal", "KILL", String(seconds)] + upCommand)
    }

    func down() async throws -> Tool.Output { try await run([Built.nacre, "down", "--dir", directory, "-o", "json"]) }

    /// Another program, beside the node.
    func tool(_ command: [String]) async throws -> Tool.Output { try await run(command) }

    func nacre(_ arguments: String...) async throws -> Tool.Output { try await nacre(arguments) }
    func nacre(_ arguments: [String]) async throws -> Tool.Output { try await run([Built.nacre] + arguments) }

    /// `nacre verify` of the live node's endpoint, the local TPM let through unless a policy or other options are given.
    func verify(by manifest: [String]? = nil, _ options: String...) async throws -> Tool.Output {
        let rules = options.isEmpty ? ["--allow-development"] : options
        return try await run(
            [Built.nacre, "verify", try endpoint(), "-o", "json"] + (manifest ?? self.manifest) + rules)
    }

    /// Where the node answers, host:port, as the cluster's document has it.
    func endpoint() throws -> String {
        let cluster = try JSON(parsing: readFile(directory + "/cluster.json"))
        let node = try #require(cluster["nodes"]?.array?.first)
        let endpoint = try #require(node["endpoint"]?.string)
        return endpoint.hasPrefix("https://") ? String(endpoint.dropFirst(8)) : endpoint
    }

    /// The first node's attested channel, on this host's loopback.
    func channelPort() throws -> UInt16 {
        let cluster = try JSON(parsing: readFile(directory + "/cluster.json"))
        let channel = try #require(cluster["nodes"]?.array?.first?["channel"]?.string)
        return try #require(UInt16(channel.drop { $0 != ":" }.dropFirst()))
    }

    /// Everything the machine ever wrote to its serial port.
    func console(of name: String = "control-plane-0") throws -> String {
        String(decoding: try readFile("\(directory)/vm/\(name)/console.log"), as: UTF8.self)
    }

    /// Processes that work in this directory, removed or not: QEMU and swtpm run in the machine's folder.
    func processes() throws -> [String] {
        let found = try Tool.run(["find", "/proc", "-maxdepth", "2", "-name", "cwd", "-lname", directory + "*"])
        return found.text.split(separator: "\n").map(String.init)
    }

    /// Ends the machine, twice, and expects that nothing of it is left.
    func endsWithoutTrace() async throws {
        let first = try await down()
        #expect(first.status == 0, "\(first.errors)")
        #expect(try processes().isEmpty)
        // `up` made the directory, `down` removes it.
        let left = try Tool.run(["find", directory]).text
        #expect(left.isEmpty, "left behind: \(left)")
        let again = try await down()
        #expect(again.status == 0, "\(again.errors)")
        #expect(try JSON(parsing: again.output)["ended"] == [])
    }

    private func run(_ command: [String]) async throws -> Tool.Output {
        let command = environment + command
        return try await onThread { Result { try Tool.run(command) } }.get()
    }

    deinit { _ = try? Tool.run([Built.nacre, "down", "--dir", directory, "--quiet"]) }
}

/// Boots the production image once for all tests of a suite, and expects that nothing is left after them.
struct ProductionBoot: SuiteTrait, TestScoping {
    @TaskLocal private static var running: (node: LocalNode, first: Tool.Output, authority: SoftwareTPM.Authority?)?

    static var node: LocalNode {
        get throws { try #require(running).node }
    }
    /// Who certified the machine's TPM; `nil` where swtpm_localca is missing.
    static var authority: SoftwareTPM.Authority? {
        get throws { try #require(running).authority }
    }
    /// What the first `nacre up` printed.
    static var first: Tool.Output {
        get throws { try #require(running).first }
    }

    func provideScope(
        for test: Test, testCase: Test.Case?, performing body: @Sendable () async throws -> Void
    ) async throws {
        var host = HostInputs()
        host.authority = try SoftwareTPM.Authority()
        let node = try LocalNode(host: host)
        let first = try await node.up()
        try await Self.$running.withValue((node, first, host.authority)) { try await body() }
        try await node.endsWithoutTrace()
    }
}

extension Trait where Self == ProductionBoot {
    /// The tests of the suite share one machine that runs the production image.
    static var productionBoot: Self { Self() }
}
