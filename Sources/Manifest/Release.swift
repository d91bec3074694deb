import Bytes
import Crypto

/// A release before it is written down: its files by path, and what only people know about it.
public struct Release: Sendable {
    public var product: String
    public var version: String
    public var releaseCounter: Int
    public var minimumRelease: Int
    public var profile: Manifest.Profile
    public var notAfter: Instant
    /// Source revision, `nil` outside of version control.
    public var revision: String?
    /// Tool → version.
    public var toolchain: [String: String]
    public var kubernetes: String?
    /// The boot phase in which nodes answer; `nil`: the last one measured, shutdown aside.
    public var phase: String?

    public init(
        product: String = "nacre", version: String, releaseCounter: Int, minimumRelease: Int = 0,
        profile: Manifest.Profile, notAfter: Instant, revision: String?, toolchain: [String: String],
        kubernetes: String? = nil, phase: String? = nil
    ) {
        self.product = product
        self.version = version
        self.releaseCounter = releaseCounter
        self.minimumRelease = minimumRelease
        self.profile = profile
        self.notAfter = notAfter
        self.revision = revision
        self.toolchain = toolchain
        self.kubernetes = kubernetes
        self.phase = phase
    }

    /// `name=version` each, as the command line takes them; `nil` where one is not of that form.
    public static func toolchain(_ tools: [String]) -> [String: String]? {
        var toolchain: [String: String] = [:]
        for tool in tools {
            let parts = tool.split(separator: "=", maxSplits: 1).map(String.init)
            guard parts.count == 2 else { return nil }
            toolchain[parts[0]] = parts[1]
        }
        return toolchain
    }

    /// The files that a manifest speaks for.
    public struct Paths: Sendable {
        public var raw: String
        public var uki: String
        /// The root file system's image, where it is released by itself.
        public var root: String?
        /// The lock that pins all inputs.
        public var lock: String
        /// Bill of materials.
        public var sbom: String?

        public init(raw: String, uki: String, root: String? = nil, lock: String, sbom: String? = nil) {
            self.raw = raw
            self.uki = uki
            self.root = root
            self.lock = lock
            self.sbom = sbom
        }
    }

    /// The manifest of these files, checked by the strict reader: what it refuses nobody could verify.
    ///
    /// - Parameter rootHash: dm-verity's, 32 bytes.
    public func manifest(
        measurements: Measurements, rootHash: [UInt8], paths: Paths
    ) throws(Finding) -> Manifest {
        let manifest = Manifest(
            product: product, version: version, releaseCounter: releaseCounter, profile: profile,
            files: Manifest.Files(
                raw: try Manifest.File(describing: paths.raw), uki: try Manifest.File(describing: paths.uki),
                root: try paths.root.map { path throws(Finding) in try Manifest.File(describing: path) },
                rootHash: rootHash),
            inputs: Manifest.Inputs(
                lock: try Manifest.File(describing: paths.lock).sha256, revision: revision, toolchain: toolchain),
            measurements: measurements, phase: phase ?? measurements.answeringPhase, kubernetes: kubernetes,
            sbom: try paths.sbom.map { path throws(Finding) in try Manifest.File(describing: path).sha256 },
            notAfter: notAfter, minimumRelease: minimumRelease)
        return try Manifest(parsing: manifest.bytes)
    }
}

extension Manifest.File {
    /// Name, size and SHA-256 of a file of any size.
    public init(describing path: String) throws(Finding) {
        do {
            var digest = Digest(.sha256)
            let size = try Bytes.Files.read(path) { piece throws(FileError) in digest.update(piece) }
            self.init(name: Bytes.Files.name(of: path), size: size, sha256: digest.finish())
        } catch { throw error.finding }
    }
}
