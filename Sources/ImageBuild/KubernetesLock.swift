import Bytes

/// A released version of Kubernetes.
public struct KubernetesVersion: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let major: Int
    public let minor: Int
    public let patch: Int

    /// `1.36.3`, with or without a leading `v`; `nil` for anything else.
    public init?(_ text: String) {
        let digits = text.hasPrefix("v") ? text.dropFirst() : text[...]
        let parts = digits.split(separator: ".", omittingEmptySubsequences: false).map { part -> Int? in
            guard (1...4).contains(part.count), part.allSatisfy({ ("0"..."9").contains($0) }) else { return nil }
            return Int(part)
        }
        guard parts.count == 3, let major = parts[0], let minor = parts[1], let patch = parts[2] else { return nil }
        self.major = major
        self.minor = minor
        self.patch = patch
    }

    public var description: String { "\(major).\(minor).\(patch)" }

    public static func < (one: Self, other: Self) -> Bool {
        (one.major, one.minor, one.patch) < (other.major, other.minor, other.patch)
    }

    init(_ fields: inout JSONFields, path: String) throws(ParseError) {
        let text = try fields.string("version")
        guard let version = Self(text), version.description == text else {
            throw ParseError("form", field: "\(path).version", offset: 0, "not of the form 1.2.3: \(text)")
        }
        self = version
    }
}

/// Where Kubernetes comes from, pinned: the section `kubernetes` of `lock.json`. Written by people, kept by refreshes.
public struct KubernetesLock: Sendable, Equatable {
    /// Upstream's archive of a release, as upstream's changelog names it.
    public struct Release: Sendable, Equatable {
        public let version: KubernetesVersion
        /// Name of the archive below upstream's folder of the version.
        public let file: String
        public let sha512: [UInt8]
        /// Where the digest was read.
        public let origin: String
    }

    /// Newest first.
    public let upstream: [Release]
    /// What Debian's source package holds.
    public let version: KubernetesVersion
    /// That source package, file by file.
    public let source: [PackageLock.Package]
    /// Debian's Go, which builds it.
    public let go: [PackageLock.Package]

    init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        var releases: [Release] = []
        for entry in try fields.array("upstream") {
            releases.append(try Release(json: entry, path: "\(path).upstream[\(releases.count)]"))
        }
        upstream = releases.sorted { $0.version > $1.version }
        guard Set(upstream.map(\.version)).count == upstream.count else {
            throw ParseError("form", field: "\(path).upstream", offset: 0, "a version twice")
        }
        var debian = try JSONFields(try fields.required("debian"), path: "\(path).debian")
        version = try KubernetesVersion(&debian, path: "\(path).debian")
        source = try Self.packages(try debian.array("source"), path: "\(path).debian.source")
        go = try Self.packages(try debian.array("go"), path: "\(path).debian.go")
        try debian.end()
        try fields.end()
    }

    private static func packages(_ entries: [JSON], path: String) throws(ParseError) -> [PackageLock.Package] {
        var packages: [PackageLock.Package] = []
        for entry in entries {
            packages.append(try PackageLock.Package(json: entry, path: "\(path)[\(packages.count)]"))
        }
        return packages
    }

    /// As lines of the lock, indented by one space.
    var text: String {
        func list(_ name: String, _ entries: [JSON], indent: String) -> String {
            let lines = entries.map { "\(indent) \($0.compact)" }.joined(separator: ",\n")
            return "\(indent)\"\(name)\": [\(entries.isEmpty ? "" : "\n\(lines)\n\(indent)")]"
        }
        return """
             "kubernetes": {
            \(list("upstream", upstream.map(\.json), indent: "  ")),
              "debian": {
               "version": "\(version)",
            \(list("source", source.map(\.json), indent: "   ")),
            \(list("go", go.map(\.json), indent: "   "))
              }
             }
            """
    }
}

extension KubernetesLock.Release {
    init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        version = try KubernetesVersion(&fields, path: path)
        file = try fields.string("file")
        sha512 = try fields.hex("sha512", count: 64)
        origin = try fields.string("origin")
        try fields.end()
        // Becomes part of a URL.
        let allowed = Set("abcdefghijklmnopqrstuvwxyz0123456789-.")
        guard file.hasSuffix(".tar.gz"), file.allSatisfy(allowed.contains), !file.contains(".."), !origin.isEmpty else {
            throw ParseError("form", field: path, offset: 0, "file not of the form name.tar.gz, or no origin")
        }
    }

    var json: JSON {
        [
            "version": .string("\(version)"), "file": .string(file), "sha512": .hex(sha512),
            "origin": .string(origin),
        ]
    }
}
