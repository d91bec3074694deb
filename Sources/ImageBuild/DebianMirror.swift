import Bytes
import Host

/// Where this machine's own apt gets Debian from. No host is named anywhere in the project.
public struct DebianMirror: Sendable, Equatable {
    /// Base URLs without a trailing slash, by archive (`debian`, `debian-security`).
    public let bases: [String: String]

    /// Asks apt. Falls back for the security archive to the main one's sibling.
    ///
    /// - Throws: `image-mirror` where apt knows no Debian archive.
    public static func ofThisMachine(scratch: String) throws(Finding) -> DebianMirror {
        let output = try Tools.output(
            "/usr/bin/apt-get",
            ["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT) $(ORIGIN)", "Created-By: Packages"],
            scratch: scratch)
        var bases: [String: String] = [:]
        for line in output.split(separator: "\n") {
            let parts = line.split(separator: " ")
            guard parts.count == 4, parts[2] == "main", parts[3] == "Debian" else { continue }
            let base = parts[0].hasSuffix("/") ? String(parts[0].dropLast()) : String(parts[0])
            bases[parts[1].hasSuffix("-security") ? "debian-security" : "debian"] = base
        }
        guard let main = bases["debian"] else {
            throw Finding(
                "image-mirror", claim: "apt's sources", expected: "a Debian archive with component main",
                actual: "none", source: "apt-get indextargets", next: "run apt-get update, or add a Debian source")
        }
        if bases["debian-security"] == nil { bases["debian-security"] = main + "-security" }
        return DebianMirror(bases: bases)
    }

    public init(bases: [String: String]) { self.bases = bases }
}

/// Runs a program to its end and returns what it wrote.
enum Tools {
    static let environment = ["PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"]

    static func output(
        _ program: String, _ arguments: [String], scratch: String, environment: [String: String] = [:],
        limit: Duration = .seconds(300)
    ) throws(Finding) -> String {
        let log = "\(scratch)/output-\(HostFiles.name(of: program))"
        try HostFiles.remove(log)
        try Command(
            program: program, arguments: arguments,
            environment: Self.environment.merging(environment) { _, new in new }, directory: scratch, log: log
        ).run(limit: limit)
        return String(decoding: try HostFiles.read(log, limit: 64 << 20), as: UTF8.self)
    }
}
