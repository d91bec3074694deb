import ArgumentParser
import Bytes
import Glibc
import Host
import ImageBuild
import Manifest
import Measurement

/// Where the build finds its parts and keeps what it may use again.
struct BuildOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The project's folder mkosi/, with lock.json.", valueName: "dir"))
    var configuration = "mkosi"

    @Option(help: ArgumentHelp("Packages and tools trees kept between builds.", valueName: "dir"))
    var cache: String = {
        let home = unsafe getenv("HOME").map { unsafe String(cString: $0) } ?? "/root"
        return "\(home)/.cache/nacre"
    }()

    func absolute(_ path: String) -> String {
        if path.hasPrefix("/") { return path }
        guard let here = unsafe getcwd(nil, 0) else { return path }
        defer { unsafe free(here) }
        return "\(unsafe String(cString: here))/\(path)"
    }
}

struct ImageBuildCommand: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build",
        abstract: "Build the node image, predict its registers, write and sign its manifest.",
        discussion: """
            Every input comes from lock.json: from the cache, else this machine's Debian mirror, else Debian's snapshot \
            archive. A file that differs from the lock ends the build. The result replaces --out as a whole.
            """)

    @OptionGroup var places: BuildOptions

    @Option(
        help: ArgumentHelp("Directory with release builds of bootstrapper, verity-init and pause.", valueName: "dir"))
    var binaries = "build/bin"

    @Option(help: ArgumentHelp("Where the finished image directory goes.", valueName: "dir"))
    var out = "build/image"

    @Option(help: "Profile; 'debug' has a login on the serial console, 'simulated' a TEE that proves nothing.")
    var profile = Manifest.Profile.production

    @Option(
        name: .customLong("extra-tree"),
        help: ArgumentHelp("Directory with files for the image that the profile keeps; repeat.", valueName: "dir"))
    var extraTrees: [String] = []

    @Option(
        help: ArgumentHelp(
            "Firmware that confidential VMs are launched with, code and variables in one; the pinned OVMF by default.",
            valueName: "file"))
    var firmware: String?

    @Option(help: ArgumentHelp("Numbers of vCPUs to publish SEV-SNP launch digests for.", valueName: "n,…"))
    var vcpus = CommaList<Int>([])

    @Option(help: ArgumentHelp("QEMU CPU models to publish SEV-SNP launch digests for.", valueName: "type,…"))
    var vcpuType = CommaList<String>(["EPYC-v4"])

    @Option(
        help: ArgumentHelp(
            "Exactly this version of Kubernetes; by default the newest pinned one that upstream hands out, else Debian's.",
            valueName: "version"))
    var kubernetes: String?

    @Option(help: ArgumentHelp("Private key that signs the manifest, PEM.", valueName: "file"))
    var key = "signing/development.key"

    @Option(help: ArgumentHelp("Grows with every release.", valueName: "number"))
    var releaseCounter = 1

    @Option(help: ArgumentHelp("Time after which the release is refused.", valueName: "time"))
    var notAfter: Instant = Instant(seconds: 1_924_992_000)

    @Option(help: ArgumentHelp("Source revision for the manifest.", valueName: "commit"))
    var revision: String?

    @Option(name: .customLong("tool"), help: ArgumentHelp("A tool and its version; repeat.", valueName: "name=version"))
    var tools: [String] = []

    @Option(help: ArgumentHelp("Base URL of a Debian snapshot archive.", valueName: "url"))
    var snapshot = "https://snapshot.debian.org"

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard Release.toolchain(tools) != nil else { throw ValidationError("--tool must be name=version.") }
        if let kubernetes, KubernetesVersion(kubernetes) == nil {
            throw ValidationError("--kubernetes must be a version such as 1.20.2.")
        }
        try LaunchDigest.validate(vcpus: vcpus.values, types: vcpuType.values)
    }

    func run() async throws {
        // Modes of files that the build makes end up in the root and so in its hash: not the caller's choice.
        _ = umask(0o022)
        let request = BuildRequest(
            configuration: places.absolute(places.configuration), binaries: places.absolute(binaries),
            output: places.absolute(out), cache: places.absolute(places.cache), profile: profile.rawValue,
            extraTrees: extraTrees.map(places.absolute), snapshot: snapshot,
            kubernetes: kubernetes.flatMap { KubernetesVersion($0) })
        let output = output
        let builder = ImageBuilder(
            request,
            stage: { name, duration in
                let tenths = duration / .milliseconds(100)
                output.note("stage \(name): \((tenths).rounded() / 10) s")
            }, progress: { output.note($0) })
        let release = ImageRelease(
            Release(
                version: Nacre.configuration.version, releaseCounter: releaseCounter, profile: profile,
                notAfter: notAfter, revision: revision, toolchain: Release.toolchain(tools) ?? [:]),
            lock: "\(request.configuration)/lock.json", key: places.absolute(key),
            launches: .init(
                firmware: firmware.map(places.absolute), vcpus: vcpus.values, vcpuTypes: vcpuType.values))
        try await builder.build { directory, kubernetes throws(Finding) in
            try await release.write(into: directory, kubernetes: kubernetes.name)
        }
        let summary = try ImageSummary(directory: request.output)
        switch output.output {
        case .text: print(summary.table)
        case .json: print(summary.json.pretty, terminator: "")
        }
    }
}

struct ImageLockCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "lock",
        abstract: "Pin today's versions of every package that the image is made of or with.",
        discussion: "Asks this machine's Debian mirror through lists of its own; prints what changed.")

    @OptionGroup var places: BuildOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        let configuration = places.absolute(places.configuration)
        let path = "\(configuration)/lock.json"
        let packages = "\(places.absolute(places.cache))/packages"
        try HostFiles.makeDirectories(packages)
        let cache = places.absolute(places.cache)
        let turn = try DirectoryLock(directory: cache, purpose: "nacre image lock", patience: .seconds(3600)) {
            output.note("waiting for another process: \($0)")
        }
        defer { turn.keep() }
        let scratch = "\(cache)/lock.work"
        try HostFiles.remove(scratch)
        try HostFiles.makeDirectory(scratch)
        let old = HostFiles.exists(path) ? try PackageLock(parsing: HostFiles.read(path, limit: 16 << 20)) : nil
        let resolver = LockResolver(
            configuration: configuration, cache: PackageCache(directory: packages),
            mirror: try DebianMirror.ofThisMachine(scratch: scratch), scratch: scratch)
        let lock = try resolver.resolve(kubernetes: old?.kubernetes) { output.note($0) }
        // What is written must be readable by the strict reader.
        let bytes = Array(lock.text.utf8)
        _ = try PackageLock(parsing: bytes)
        try HostFiles.write(path, bytes)
        try HostFiles.remove(scratch)
        let changes = LockDifference(from: old ?? PackageLock(sets: [:]), to: lock).lines
        switch output.output {
        case .text:
            print(changes.isEmpty ? "nothing changed" : changes.joined(separator: "\n"))
        case .json:
            let document: JSON = [
                "schema": "nacre.lock-changes.v1", "changes": .array(changes.map { .string($0) }),
                "packages": .integer(Int128(lock.all.count)),
            ]
            print(document.pretty, terminator: "")
        }
    }
}
