import Bytes

/// Every Debian package that an image is made of or with, pinned: `nacre.lock.v1`, committed as `mkosi/lock.json`.
public struct PackageLock: Sendable, Equatable {
    public static let schema = "nacre.lock.v1"

    /// What packages are for. Each set is complete: dependencies included.
    public enum Purpose: String, Sendable, CaseIterable {
        /// mkosi itself, from Debian sid.
        case mkosi
        /// The tools tree that mkosi works in.
        case tools
        /// The node's root and initrd.
        case image
        /// Firmware for local machines.
        case firmware
        /// Programs of the container images that the node brings along.
        case containers
    }

    /// One `.deb`, or one file of a source package (architecture `source`).
    public struct Package: Sendable, Equatable {
        public let name: String
        public let version: String
        public let architecture: String
        /// `debian` or `debian-security`: the archive whose pool holds it.
        public let archive: String
        /// Path below the archive, `pool/…`.
        public let path: String
        public let size: Int
        public let sha256: [UInt8]
        /// Only a name: Debian's snapshot archive finds files by SHA-1. Never trusted.
        public let sha1: [UInt8]

        /// The name apt gives the file; the epoch's colon is written `%3a`.
        public var fileName: String {
            if architecture == "source" { return Files.name(of: path) }
            let version = version.split(separator: ":", omittingEmptySubsequences: false).joined(separator: "%3a")
            return "\(name)_\(version)_\(architecture).deb"
        }
    }

    public let sets: [Purpose: [Package]]
    /// Where Kubernetes comes from. `nil` only for locks without it, of which no image is built.
    public let kubernetes: KubernetesLock?

    public init(sets: [Purpose: [Package]], kubernetes: KubernetesLock? = nil) {
        self.kubernetes = kubernetes
        self.sets = sets.mapValues { $0.sorted { ($0.name, $0.version) < ($1.name, $1.version) } }
    }

    public subscript(purpose: Purpose) -> [Package] { sets[purpose] ?? [] }

    /// Every package once, in order.
    public var all: [Package] {
        var seen: Set<String> = []
        return Purpose.allCases.flatMap { self[$0] }.filter { seen.insert($0.fileName).inserted }
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes), path: "lock")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "lock.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        var sets: [Purpose: [Package]] = [:]
        for purpose in Purpose.allCases {
            var packages: [Package] = []
            for entry in try fields.array(purpose.rawValue) {
                packages.append(try Package(json: entry, path: "lock.\(purpose.rawValue)[\(packages.count)]"))
            }
            sets[purpose] = packages
        }
        let kubernetes = try fields.optional("kubernetes").map { json throws(ParseError) in
            try KubernetesLock(json: json, path: "lock.kubernetes")
        }
        try fields.end()
        self.init(sets: sets, kubernetes: kubernetes)
    }

    /// One package a line, so that a refresh reads as a list of changes.
    public var text: String {
        var lines = ["{", " \"schema\": \"\(Self.schema)\","]
        for (index, purpose) in Purpose.allCases.enumerated() {
            let entries = self[purpose].map { "  \($0.json.compact)" }.joined(separator: ",\n")
            let comma = index + 1 < Purpose.allCases.count || kubernetes != nil ? "," : ""
            lines.append(" \"\(purpose.rawValue)\": [\(entries.isEmpty ? "" : "\n\(entries)\n ")]\(comma)")
        }
        if let kubernetes { lines.append(kubernetes.text) }
        return (lines + ["}"]).joined(separator: "\n") + "\n"
    }
}

extension PackageLock.Package {
    init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        name = try fields.string("name")
        version = try fields.string("version")
        architecture = try fields.string("architecture")
        archive = try fields.string("archive")
        self.path = try fields.string("path")
        size = try fields.integer("size")
        sha256 = try fields.hex("sha256", count: 32)
        sha1 = try fields.hex("sha1", count: 20)
        try fields.end()
        // These become file names and URLs: nothing that leaves the folder or ends an argument.
        let allowed = Set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-~_:")
        for (field, value) in [("name", name), ("version", version), ("architecture", architecture)]
        where value.isEmpty || !value.allSatisfy(allowed.contains) {
            throw ParseError("form", field: "\(path).\(field)", offset: 0, "not of the form Debian uses: \(value)")
        }
        guard ["debian", "debian-security"].contains(archive), self.path.hasPrefix("pool/"),
            !self.path.contains(".."), self.path.allSatisfy({ allowed.contains($0) || $0 == "/" }), size > 0
        else { throw ParseError("form", field: path, offset: 0, "archive, path or size not of Debian's form") }
    }

    var json: JSON {
        [
            "name": .string(name), "version": .string(version), "architecture": .string(architecture),
            "archive": .string(archive), "path": .string(path), "size": .integer(Int128(size)),
            "sha256": .hex(sha256), "sha1": .hex(sha1),
        ]
    }
}

/// What changed between two locks, for people.
public struct LockDifference: Sendable, Equatable {
    public let lines: [String]

    public init(from old: PackageLock, to new: PackageLock) {
        var lines: [String] = []
        for purpose in PackageLock.Purpose.allCases {
            let before = Dictionary(old[purpose].map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
            let after = Dictionary(new[purpose].map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
            for name in Set(before.keys).union(after.keys).sorted() {
                switch (before[name], after[name]) {
                case (let was?, let now?) where was.version != now.version:
                    lines.append("\(purpose.rawValue): \(name) \(was.version) -> \(now.version)")
                case (let was?, let now?) where was.sha256 != now.sha256:
                    lines.append("\(purpose.rawValue): \(name) \(now.version) has other bytes")
                case (nil, let now?): lines.append("\(purpose.rawValue): + \(name) \(now.version)")
                case (let was?, nil): lines.append("\(purpose.rawValue): - \(name) \(was.version)")
                default: break
                }
            }
        }
        self.lines = lines
    }
}
