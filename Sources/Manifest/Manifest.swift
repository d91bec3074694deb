import Bytes
import Crypto

/// A release's manifest, `nacre.manifest.v1`: which image it is, what it was made from, and what it will measure.
///
/// Strict: unknown fields, missing fields, other schema versions and values out of range are refused with their path.
/// Reading says nothing about who made it; `ManifestVerifier` does.
public struct Manifest: Sendable, Equatable {
    public static let schema = "nacre.manifest.v1"
    /// Largest manifest that is read, bytes.
    public static let maximumSize = 8 << 20

    public enum Profile: String, Sendable, CaseIterable {
        case production
        /// Serial login and other conveniences: never accepted by a production policy.
        case debug
        /// Plays a TEE that it has not: never accepted unless the policy names the simulated roots.
        case simulated
    }

    /// One released file.
    public struct File: Sendable, Equatable {
        public let name: String
        public let size: Int
        public let sha256: [UInt8]

        public init(name: String, size: Int, sha256: [UInt8]) {
            self.name = name
            self.size = size
            self.sha256 = sha256
        }
    }

    public struct Files: Sendable, Equatable {
        public let raw: File
        public let uki: File
        /// The root file system's image, where it is released by itself.
        public let root: File?
        /// dm-verity root hash, 32 bytes.
        public let rootHash: [UInt8]

        public init(raw: File, uki: File, root: File?, rootHash: [UInt8]) {
            self.raw = raw
            self.uki = uki
            self.root = root
            self.rootHash = rootHash
        }
    }

    /// What the image was made from.
    public struct Inputs: Sendable, Equatable {
        /// SHA-256 of the lock that pins every package and tool.
        public let lock: [UInt8]
        /// Source revision (a commit id), `nil` when built outside of version control.
        public let revision: String?
        /// Tool → version.
        public let toolchain: [String: String]

        public init(lock: [UInt8], revision: String?, toolchain: [String: String]) {
            self.lock = lock
            self.revision = revision
            self.toolchain = toolchain
        }
    }

    public let product: String
    public let version: String
    /// Grows with every release of the product; the rollback floor is kept in it.
    public let releaseCounter: Int
    public let profile: Profile
    public let files: Files
    public let inputs: Inputs
    public let measurements: Measurements
    /// The boot phase in which a node of this release answers; `nil` when no register goes by phases.
    public let phase: String?
    /// Version of Kubernetes inside, or `nil`.
    public let kubernetes: String?
    /// SHA-256 of the bill of materials, or `nil`.
    public let sbom: [UInt8]?
    /// After this the release is refused.
    public let notAfter: Instant
    /// The smallest release counter whose nodes this release still accepts beside its own.
    public let minimumRelease: Int

    /// SHA-256 of the canonical measurement document: the image's one identity.
    public var imageDigest: [UInt8] { measurements.imageDigest }

    public init(
        product: String, version: String, releaseCounter: Int, profile: Profile, files: Files, inputs: Inputs,
        measurements: Measurements, phase: String?, kubernetes: String?, sbom: [UInt8]?, notAfter: Instant,
        minimumRelease: Int
    ) {
        self.product = product
        self.version = version
        self.releaseCounter = releaseCounter
        self.profile = profile
        self.files = files
        self.inputs = inputs
        self.measurements = measurements
        self.phase = phase
        self.kubernetes = kubernetes
        self.sbom = sbom
        self.notAfter = notAfter
        self.minimumRelease = minimumRelease
    }
}

extension Manifest {
    public init(parsing bytes: [UInt8]) throws(Finding) {
        do {
            try self.init(json: try JSON(parsing: bytes, limit: Self.maximumSize))
        } catch let error as ParseError {
            throw error.finding
        } catch let error as Finding {
            throw error
        } catch {
            throw Finding("parse-form", claim: "manifest", actual: "\(error)")
        }
    }

    private init(json: JSON) throws {
        var fields = try JSONFields(json, path: "manifest")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "manifest.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        product = try Self.text(&fields, "product")
        version = try Self.text(&fields, "version")
        releaseCounter = try Self.counter(&fields, "releaseCounter")
        let profileName = try fields.string("profile")
        guard let profile = Profile(rawValue: profileName) else {
            throw ParseError("form", field: "manifest.profile", offset: 0, "unknown profile \(profileName)")
        }
        self.profile = profile
        let imageDigest = try fields.hex("imageDigest", count: 32)
        files = try Files(json: fields.required("files"))
        inputs = try Inputs(json: fields.required("inputs"))
        measurements = try Measurements(fields.required("measurements"))
        phase = try Self.nullable(&fields, "phase")?.textValue("manifest.phase")
        kubernetes = try Self.nullable(&fields, "kubernetes")?.textValue("manifest.kubernetes")
        sbom = try Self.nullable(&fields, "sbom").map { try JSONFields.hex($0, path: "manifest.sbom", count: 32) }
        let time = try fields.string("notAfter")
        guard let notAfter = Instant(time), notAfter.description == time else {
            throw ParseError("form", field: "manifest.notAfter", offset: 0, "must be a time like 2027-01-01T00:00:00Z")
        }
        self.notAfter = notAfter
        var minimum = try JSONFields(fields.required("minimumCounters"), path: "manifest.minimumCounters")
        minimumRelease = try Self.counter(&minimum, "release")
        try minimum.end()
        try fields.end()
        guard minimumRelease <= releaseCounter else {
            throw ParseError(
                "range", field: "manifest.minimumCounters.release", offset: 0, "above the release's own counter")
        }
        guard constantTimeEqual(imageDigest, measurements.imageDigest) else {
            throw Finding(
                "manifest-image-digest", claim: "imageDigest", expected: Hex.encode(measurements.imageDigest),
                actual: Hex.encode(imageDigest), source: "the manifest's own measurement document")
        }
        guard phase.map({ measurements.phases.contains($0) }) ?? measurements.phases.isEmpty else {
            throw ParseError(
                "form", field: "manifest.phase", offset: 0,
                "must be one of \(measurements.phases.joined(separator: ", "))")
        }
    }

    public var json: JSON {
        [
            "schema": .string(Self.schema),
            "product": .string(product),
            "version": .string(version),
            "releaseCounter": .integer(Int128(releaseCounter)),
            "profile": .string(profile.rawValue),
            "imageDigest": .hex(imageDigest),
            "files": [
                "raw": files.raw.json, "uki": files.uki.json, "root": files.root?.json ?? .null,
                "rootHash": .hex(files.rootHash),
            ],
            "inputs": [
                "lock": .hex(inputs.lock), "revision": inputs.revision.map { .string($0) } ?? .null,
                "toolchain": .object(inputs.toolchain.mapValues { .string($0) }),
            ],
            "measurements": measurements.json,
            "phase": phase.map { .string($0) } ?? .null,
            "kubernetes": kubernetes.map { .string($0) } ?? .null,
            "sbom": sbom.map { .hex($0) } ?? .null,
            "notAfter": .string(notAfter.description),
            "minimumCounters": ["release": .integer(Int128(minimumRelease))],
        ]
    }

    /// The file's bytes.
    public var bytes: [UInt8] { Array(json.pretty.utf8) }

    /// A field that must stand but may be null.
    private static func nullable(_ fields: inout JSONFields, _ key: String) throws(ParseError) -> JSON? {
        let value = try fields.required(key)
        return value == .null ? nil : value
    }

    fileprivate static func text(_ fields: inout JSONFields, _ key: String) throws(ParseError) -> String {
        try fields.required(key).textValue("manifest.\(key)")
    }

    private static func counter(_ fields: inout JSONFields, _ key: String) throws(ParseError) -> Int {
        let value = try fields.integer(key)
        guard (0...1 << 53).contains(value) else {
            throw ParseError("range", field: "manifest.\(key)", offset: 0, "must be 0 to 2^53")
        }
        return value
    }
}

extension Manifest.File {
    var json: JSON { ["name": .string(name), "size": .integer(Int128(size)), "sha256": .hex(sha256)] }

    init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        name = try fields.required("name").textValue("\(path).name")
        size = try fields.integer("size")
        sha256 = try fields.hex("sha256", count: 32)
        try fields.end()
        guard size >= 0, !name.contains("/") else {
            throw ParseError("form", field: path, offset: 0, "a file name without folders and a size")
        }
    }
}

extension Manifest.Files {
    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "manifest.files")
        raw = try Manifest.File(json: fields.required("raw"), path: "manifest.files.raw")
        uki = try Manifest.File(json: fields.required("uki"), path: "manifest.files.uki")
        let root = try fields.required("root")
        self.root = root == .null ? nil : try Manifest.File(json: root, path: "manifest.files.root")
        rootHash = try fields.hex("rootHash", count: 32)
        try fields.end()
    }
}

extension Manifest.Inputs {
    init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "manifest.inputs")
        lock = try fields.hex("lock", count: 32)
        let revision = try fields.required("revision")
        self.revision = revision == .null ? nil : try revision.textValue("manifest.inputs.revision")
        guard let tools = try fields.required("toolchain").object, tools.count <= 64 else {
            throw ParseError("form", field: "manifest.inputs.toolchain", offset: 0, "must map tools to versions")
        }
        var toolchain: [String: String] = [:]
        for (tool, version) in tools {
            toolchain[tool] = try version.textValue("manifest.inputs.toolchain.\(tool)")
        }
        self.toolchain = toolchain
        try fields.end()
    }
}

extension JSON {
    /// One to 256 bytes of text without control characters: these strings reach terminals.
    func textValue(_ path: String) throws(ParseError) -> String {
        guard let text = string, (1...256).contains(text.utf8.count),
            text.unicodeScalars.allSatisfy({ $0.value >= 0x20 && !(0x7F...0x9F).contains($0.value) })
        else { throw ParseError("form", field: path, offset: 0, "must be 1 to 256 bytes of plain text") }
        return text
    }
}
