import Bytes
import Crypto
import Glibc
import Host

/// What `nacre image build` was asked for.
public struct BuildRequest: Sendable {
    /// The folder `mkosi/` of the project: configuration and lock.
    public var configuration: String
    /// Directory with the release builds of `bootstrapper` and `verity-init`.
    public var binaries: String
    /// Where the finished image directory goes; replaced as a whole.
    public var output: String
    /// Kept between builds: packages, tools trees.
    public var cache: String
    /// `production`, `debug` with its serial login, or `simulated` with its simulated TEE.
    public var profile: String
    /// Directories whose files are put into the image too, as far as the profile keeps them.
    public var extraTrees: [String]
    /// Base URL of a snapshot archive.
    public var snapshot: String
    /// This version of Kubernetes; `nil`: the newest that can be had.
    public var kubernetes: KubernetesVersion?
    /// How long to wait for another build of the same output, or one that fills the cache.
    public var patience: Duration

    public init(
        configuration: String, binaries: String, output: String, cache: String, profile: String,
        extraTrees: [String] = [], snapshot: String, kubernetes: KubernetesVersion? = nil,
        patience: Duration = .seconds(3600)
    ) {
        self.configuration = configuration
        self.binaries = binaries
        self.output = output
        self.cache = cache
        self.profile = profile
        self.extraTrees = extraTrees
        self.snapshot = snapshot
        self.kubernetes = kubernetes
        self.patience = patience
    }
}

/// Builds the node image: locked packages → tools tree → mkosi → a directory with everything that belongs together.
///
/// Each step writes beside its result and renames it when whole, so that a build killed at any moment leaves either the
/// previous result or none, and can be run again.
public struct ImageBuilder: Sendable {
    public let request: BuildRequest
    /// Called when a stage ends: its name and how long it took.
    let stage: @Sendable (String, Duration) -> Void
    /// Called with lines for people.
    let progress: @Sendable (String) -> Void

    /// Names in a finished image directory.
    public enum File {
        public static let raw = "nacre.raw"
        public static let uki = "nacre.efi"
        public static let rootHash = "nacre.roothash"
        public static let contents = "contents.json"
        public static let packages = "packages.json"
        public static let measurements = "measurements.json"
        public static let manifest = "manifest.json"
        public static let bundle = "manifest.json.sigstore.json"
        public static let compressed = "nacre.raw.zst"
        /// For the owner's machine, of the version that the image has.
        public static let kubectl = "kubectl"
        public static let firmwareCode = "firmware/OVMF_CODE_4M.fd"
        public static let firmwareVariables = "firmware/OVMF_VARS_4M.fd"
        /// Code and variables in one, as confidential VMs are launched with it.
        public static let firmwareCombined = "firmware/OVMF.fd"
    }

    public init(
        _ request: BuildRequest, stage: @escaping @Sendable (String, Duration) -> Void,
        progress: @escaping @Sendable (String) -> Void
    ) {
        self.request = request
        self.stage = stage
        self.progress = progress
    }

    private func timed<Result>(_ name: String, _ body: () throws(Finding) -> Result) throws(Finding) -> Result {
        let start = ContinuousClock.now
        let result = try body()
        stage(name, ContinuousClock.now - start)
        return result
    }

    /// Builds everything up to the disk; `finish` then adds what is computed from it (measurements, manifest) into the
    /// unfinished directory, before that becomes the result.
    ///
    /// - Throws: `image-…` findings.
    public func build(
        finish: (_ directory: String, _ kubernetes: KubernetesPrograms) async throws(Finding) -> Void
    ) async throws(Finding) {
        for directory in [request.cache, "\(request.cache)/packages", "\(request.cache)/tools"] {
            try HostFiles.makeDirectories(directory)
        }
        try HostFiles.makeDirectories(HostFiles.parent(of: request.output))
        let parent = HostFiles.parent(of: request.output)
        let name = HostFiles.name(of: request.output)
        // Beside the output, which is replaced as a whole.
        let turn = try DirectoryLock(
            directory: request.output, purpose: "nacre image build", patience: request.patience,
            file: "\(parent)/.\(name).lock"
        ) { progress("waiting for another build of \(request.output): \($0)") }
        defer { turn.keep() }
        // A name of its own: mkosi may outlive a build that was killed, and then writes where nobody looks any more.
        let prefix = ".\(name).work-"
        for name in try HostFiles.names(in: parent) where name.hasPrefix(prefix) {
            try? HostFiles.remove("\(parent)/\(name)")
        }
        let work = "\(parent)/\(prefix)\(Hex.encode(randomBytes(4)))"
        try HostFiles.makeDirectory(work)
        let lockBytes = try HostFiles.read("\(request.configuration)/lock.json", limit: 16 << 20)
        let lock: PackageLock
        do {
            lock = try PackageLock(parsing: lockBytes)
        } catch {
            throw error.finding
        }
        let cache = PackageCache(directory: "\(request.cache)/packages", patience: request.patience)
        try timed("packages") { () throws(Finding) in
            try cache.fetch(
                lock, mirror: { () throws(Finding) in try DebianMirror.ofThisMachine(scratch: work) },
                snapshot: request.snapshot, scratch: work, progress: progress)
        }
        guard let pins = lock.kubernetes else {
            throw Finding(
                "image-kubernetes", claim: "lock.json", expected: "a section kubernetes", actual: "none",
                source: request.configuration)
        }
        let kubernetes = try timed("kubernetes") { () throws(Finding) in
            try KubernetesSource(
                lock: pins, recipe: "\(request.configuration)/kubernetes/build",
                cache: "\(request.cache)/kubernetes", packages: cache, scratch: work, patience: request.patience,
                progress: progress
            ).programs(
                request.kubernetes, mirror: { () throws(Finding) in try DebianMirror.ofThisMachine(scratch: work) },
                snapshot: request.snapshot)
        }
        let mkosi = Mkosi(
            lock: lock, cache: cache, configuration: request.configuration, work: work, patience: request.patience,
            progress: progress)
        let tools = try timed("tools tree") { () throws(Finding) in
            try mkosi.toolsTree(in: "\(request.cache)/tools")
        }
        let staging = "\(work)/result"
        try HostFiles.makeDirectory(staging)
        try timed("image") { () throws(Finding) in
            try mkosi.image(
                tools: tools, binaries: request.binaries, kubernetes: kubernetes, profile: request.profile,
                extraTrees: request.extraTrees, output: staging)
        }
        // A copy: whoever changes it changes nothing in the cache.
        try HostFiles.copy(
            kubernetes.path(of: KubernetesPrograms.client), to: "\(staging)/\(File.kubectl)", mode: 0o755)
        try timed("compress") { () throws(Finding) in
            // For downloads; not part of the manifest, since its bytes depend on this machine's zstd.
            _ = try Tools.output(
                "/usr/bin/zstd",
                [
                    "-q", "-9", "--long=27", "-T0", "-f", "\(staging)/\(File.raw)", "-o",
                    "\(staging)/\(File.compressed)",
                ],
                scratch: work, limit: .seconds(900))
        }
        try timed("firmware") { () throws(Finding) in try mkosi.firmware(into: staging) }
        let start = ContinuousClock.now
        try await finish(staging, kubernetes)
        stage("measure and sign", ContinuousClock.now - start)
        // Everything of it reaches the disk before its name does.
        sync()
        // The old result goes first: between the two renames there is no image, never half of one.
        let old = "\(work)/old"
        if HostFiles.exists(request.output) { try HostFiles.move(request.output, to: old) }
        try HostFiles.move(staging, to: request.output)
        try HostFiles.remove(work)
        turn.removeFile()
    }
}

/// The runs of mkosi, all of them offline and in private directories.
struct Mkosi {
    let lock: PackageLock
    let cache: PackageCache
    let configuration: String
    let work: String
    let patience: Duration
    let progress: (String) -> Void

    /// A directory with hard links (or copies) of one set's packages: what mkosi takes them from.
    private func packageDirectory(_ purpose: PackageLock.Purpose) throws(Finding) -> String {
        let directory = "\(work)/packages-\(purpose.rawValue)"
        try HostFiles.makeDirectory(directory)
        for package in lock[purpose] {
            try HostFiles.link(cache.path(of: package), to: "\(directory)/\(package.fileName)")
        }
        return directory
    }

    /// Unpacks a set with dpkg-deb, without running anything of it.
    private func unpack(_ purpose: PackageLock.Purpose, into directory: String) throws(Finding) {
        try HostFiles.makeDirectory(directory)
        for package in lock[purpose] {
            _ = try Tools.output("/usr/bin/dpkg-deb", ["-x", cache.path(of: package), directory], scratch: work)
        }
    }

    /// mkosi from its package: pure Python, run in place.
    private func mkosiModules() throws(Finding) -> String {
        let root = "\(work)/mkosi"
        if !HostFiles.exists(root) { try unpack(.mkosi, into: root) }
        return "\(root)/usr/lib/python3/dist-packages"
    }

    private func run(_ arguments: [String], log: String) throws(Finding) {
        let modules = try mkosiModules()
        for directory in ["\(work)/workspace", "\(work)/package-cache", "\(work)/home"] {
            try HostFiles.makeDirectory(directory)
        }
        do throws(Finding) {
            try Command(
                program: "/usr/bin/python3",
                arguments: [
                    "-m", "mkosi", "--workspace-directory", "\(work)/workspace", "--package-cache-dir",
                    "\(work)/package-cache",
                ] + arguments,
                environment: [
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "\(work)/home",
                    "PYTHONPATH": modules, "PYTHONDONTWRITEBYTECODE": "1", "SOURCE_DATE_EPOCH": "0",
                    "TERM": "dumb",
                ],
                directory: work, log: log
            ).run(limit: .seconds(3600))
        } catch {
            // The log stays where the next build does not remove it.
            let kept = "\(HostFiles.parent(of: work))/build-failure.log"
            try? HostFiles.write(kept, (try? HostFiles.read(log, limit: 64 << 20)) ?? [])
            throw Finding(
                "image-mkosi", claim: "mkosi", expected: "exit code 0", actual: error.actual,
                source: log, next: "the whole log is in \(kept)")
        }
    }

    /// The tools tree for this lock, built once and kept: its name is the digest of all that goes into it.
    func toolsTree(in directory: String) throws(Finding) -> String {
        var digest = Digest(.sha256)
        digest.update(try HostFiles.read("\(configuration)/tools/mkosi.conf", limit: 1 << 20))
        for package in lock[.tools] + lock[.mkosi] { digest.update(package.sha256) }
        let tree = "\(directory)/\(Hex.encode(digest.finish().prefix(16)))"
        let turn = try DirectoryLock(directory: directory, purpose: "building the tools tree", patience: patience) {
            progress("waiting for another process that builds it: \($0)")
        }
        defer { turn.keep() }
        // Of builds that were killed. What their mkosi still writes to now is left to the next build.
        for name in try HostFiles.names(in: directory) where name.hasPrefix(".partial-") {
            try? HostFiles.remove("\(directory)/\(name)")
        }
        // After the wait: whoever was waited for may have built it.
        if HostFiles.exists("\(tree)/usr/bin/zstd") { return tree }
        progress("building the tools tree (once for each lock)")
        // Beside the place it is renamed to: the cache may lie on another file system than the build.
        let output = "\(directory)/.partial-\(Hex.encode(randomBytes(4)))"
        try HostFiles.makeDirectory(output)
        let packages = try packageDirectory(.tools)
        try run(
            [
                "--directory", "\(configuration)/tools", "--package-directory", packages, "--output-directory", output,
                "--force", "build",
            ],
            log: "\(work)/mkosi-tools.log")
        // Places that mkosi binds the machine's files over, and wants to exist.
        let built = "\(output)/tools"
        try HostFiles.write("\(built)/etc/resolv.conf", [])
        for name in ["ssl", "pki", "static", "ca-certificates", "pacman.d"] {
            try HostFiles.makeDirectory("\(built)/etc/\(name)")
        }
        try HostFiles.remove(tree)
        sync()
        try HostFiles.move(built, to: tree)
        return tree
    }

    func image(
        tools: String, binaries: String, kubernetes: KubernetesPrograms, profile: String, extraTrees: [String],
        output: String
    ) throws(Finding) {
        let sources = "\(work)/sources"
        let extra = "\(work)/extra"
        let own = "\(extra)/usr/lib/nacre"
        for directory in [sources, "\(extra)/usr/bin", "\(own)/images", "\(own)/kubernetes"] {
            try HostFiles.makeDirectories(directory)
        }
        try HostFiles.copy("\(binaries)/verity-init", to: "\(sources)/verity-init", mode: 0o755)
        try HostFiles.copy("\(binaries)/bootstrapper", to: "\(own)/bootstrapper", mode: 0o755)
        for name in try HostFiles.names(in: configuration) where name.hasPrefix("keep") {
            try HostFiles.copy("\(configuration)/\(name)", to: "\(sources)/\(name)", mode: 0o644)
        }
        for program in KubernetesPrograms.node {
            try HostFiles.link(kubernetes.path(of: program), to: "\(extra)/usr/bin/\(program)", mode: 0o755)
        }
        try HostFiles.create(
            "\(own)/kubernetes/flags.env", Array(KubernetesFlags.environment(kubernetes.version).utf8))
        try HostFiles.create("\(own)/kubernetes/version", Array("\(kubernetes.name)\n".utf8))
        let busybox = "\(work)/containers"
        try unpack(.containers, into: busybox)
        for (name, image) in [
            ("pause", ContainerImage.pause(program: try HostFiles.read("\(binaries)/pause", limit: 1 << 20))),
            ("app", .app(busybox: try HostFiles.read("\(busybox)/usr/bin/busybox", limit: 64 << 20))),
        ] { try HostFiles.create("\(own)/images/\(name).tar", try image.archive()) }
        let packages = try packageDirectory(.image)
        let result = "\(work)/image-output"
        try HostFiles.makeDirectory(result)
        var arguments = [
            "--directory", configuration, "--tools-tree", tools, "--package-directory", packages,
            "--build-sources", sources, "--extra-tree", extra, "--output-directory", result, "--force",
        ]
        for tree in extraTrees { arguments += ["--extra-tree", tree] }
        if profile != "production" { arguments += ["--profile", profile] }
        try run(arguments + ["build"], log: "\(work)/mkosi-image.log")
        for (from, name) in [
            ("nacre.raw", ImageBuilder.File.raw), ("nacre.efi", ImageBuilder.File.uki),
            ("nacre.roothash", ImageBuilder.File.rootHash), ("nacre.contents.json", ImageBuilder.File.contents),
            ("nacre.manifest", ImageBuilder.File.packages),
        ] {
            try HostFiles.move("\(result)/\(from)", to: "\(output)/\(name)")
        }
    }

    /// OVMF as the lock pins it: the local machines' firmware, so that its registers are predictable too.
    func firmware(into output: String) throws(Finding) {
        let root = "\(work)/firmware"
        try unpack(.firmware, into: root)
        try HostFiles.makeDirectory("\(output)/firmware")
        for (from, name) in [
            ("OVMF/OVMF_CODE_4M.fd", ImageBuilder.File.firmwareCode),
            ("OVMF/OVMF_VARS_4M.fd", ImageBuilder.File.firmwareVariables),
            ("ovmf/OVMF.fd", ImageBuilder.File.firmwareCombined),
        ] {
            try HostFiles.copy("\(root)/usr/share/\(from)", to: "\(output)/\(name)", mode: 0o644)
        }
    }
}
