import Bytes
import Crypto
import Host

/// Makes a new lock: asks apt, through lists of its own, which packages the configuration needs today.
public struct LockResolver: Sendable {
    /// The folder `mkosi/` of the project.
    public let configuration: String
    public let cache: PackageCache
    public let mirror: DebianMirror
    public let scratch: String

    public init(configuration: String, cache: PackageCache, mirror: DebianMirror, scratch: String) {
        self.configuration = configuration
        self.cache = cache
        self.mirror = mirror
        self.scratch = scratch
    }

    static let release = "trixie"

    /// - Parameter kubernetes: kept as it is: people pin that by hand.
    /// - Throws: `image-lock` where apt cannot resolve a set.
    public func resolve(kubernetes: KubernetesLock?, progress: (String) -> Void) throws(Finding) -> PackageLock {
        let stable = try apt(
            "stable",
            suites: [
                ("debian", Self.release), ("debian", "\(Self.release)-updates"),
                ("debian", "\(Self.release)-backports"),
                ("debian-security", "\(Self.release)-security"),
            ])
        let sid = try apt("sid", suites: [("debian", "sid")])
        progress("resolving the image, the tools tree, firmware and mkosi")
        var records: [PackageLock.Purpose: [Record]] = [:]
        records[.image] = try resolve(
            ["?essential"] + (try Self.packages(in: "\(configuration)/mkosi.conf")), with: stable)
        records[.tools] = try resolve(
            ["?essential"] + (try Self.packages(in: "\(configuration)/tools/mkosi.conf")), with: stable)
        records[.firmware] = try show(["ovmf/\(Self.release)"], with: stable)
        records[.mkosi] = try show(["mkosi"], with: sid)
        records[.containers] = try show(["busybox-static"], with: stable)
        var sets: [PackageLock.Purpose: [PackageLock.Package]] = [:]
        for (purpose, records) in records {
            var packages: [PackageLock.Package] = []
            for record in records { packages.append(try complete(record)) }
            sets[purpose] = packages
        }
        return PackageLock(sets: sets, kubernetes: kubernetes)
    }

    /// `Packages=` of a mkosi configuration: words, one or more a line, until the next setting.
    static func packages(in path: String) throws(Finding) -> [String] {
        let text = String(decoding: try HostFiles.read(path, limit: 1 << 20), as: UTF8.self)
        var packages: [String] = []
        var inside = false
        for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
            let words = line.split(separator: " ")
            if line.hasPrefix("Packages=") {
                inside = true
                packages += line.dropFirst("Packages=".count).split(separator: " ").map(String.init)
            } else if inside, line.hasPrefix(" "), let first = words.first, !first.hasPrefix("#") {
                packages += words.map(String.init)
            } else if !line.hasPrefix(" "), !line.hasPrefix("#") {
                inside = false
            }
        }
        return packages
    }

    /// What apt's index says of one package.
    private struct Record {
        var fields: [String: String] = [:]
        var archive = ""
    }

    /// An apt of our own: its lists, its empty status, its sources; nothing of the machine's state is read or changed.
    private func apt(_ name: String, suites: [(archive: String, suite: String)]) throws(Finding) -> String {
        let root = "\(scratch)/apt-\(name)"
        for path in ["", "/lists", "/lists/partial", "/cache", "/cache/archives", "/cache/archives/partial"] {
            try HostFiles.makeDirectory(root + path)
        }
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        let sources = suites.map { "deb [signed-by=\(keyring)] \(mirror.bases[$0.archive] ?? "") \($0.suite) main\n" }
        try HostFiles.write("\(root)/sources.list", Array(sources.joined().utf8))
        try HostFiles.write("\(root)/status", [])
        let configuration = """
            Dir::State "\(root)";
            Dir::State::lists "\(root)/lists";
            Dir::State::status "\(root)/status";
            Dir::Cache "\(root)/cache";
            Dir::Etc::sourcelist "\(root)/sources.list";
            Dir::Etc::sourceparts "/dev/null";
            Dir::Etc::preferences "/dev/null";
            Dir::Etc::preferencesparts "/dev/null";
            APT::Architecture "amd64";
            APT::Architectures "amd64";
            APT::Install-Recommends "false";
            APT::Sandbox::User "root";
            Acquire::Languages "none";

            """
        let path = "\(root)/apt.conf"
        try HostFiles.write(path, Array(configuration.utf8))
        _ = try run("/usr/bin/apt-get", ["update"], with: path)
        return path
    }

    private func run(_ program: String, _ arguments: [String], with apt: String) throws(Finding) -> String {
        try Tools.output(program, arguments, scratch: scratch, environment: ["APT_CONFIG": apt])
    }

    /// The closure of `names` on an empty system.
    private func resolve(_ names: [String], with apt: String) throws(Finding) -> [Record] {
        let plan = try run("/usr/bin/apt-get", ["install", "--simulate"] + names, with: apt)
        // Inst NAME (VERSION ORIGIN [ARCH])
        var wanted: [String] = []
        for line in plan.split(separator: "\n") where line.hasPrefix("Inst ") {
            let words = line.split(separator: " ")
            guard words.count >= 3, words[2].hasPrefix("(") else { continue }
            wanted.append("\(words[1])=\(words[2].dropFirst())")
        }
        return try show(wanted, with: apt)
    }

    private func show(_ names: [String], with apt: String) throws(Finding) -> [Record] {
        let text = try run("/usr/bin/apt-cache", ["show", "--no-all-versions"] + names, with: apt)
        var records: [Record] = []
        for paragraph in text.split(separator: "\n\n") {
            var record = Record()
            for line in paragraph.split(separator: "\n") where !line.hasPrefix(" ") {
                guard let colon = line.firstIndex(of: ":") else { continue }
                let value = line[line.index(after: colon)...].drop { $0 == " " }
                record.fields[String(line[..<colon])] = String(value)
            }
            if record.fields["Package"] != nil { records.append(record) }
        }
        guard records.count == names.count else {
            throw Finding(
                "image-lock", claim: "apt-cache show", expected: "\(names.count) packages",
                actual: "\(records.count)", next: "run it again; the mirror may have changed meanwhile")
        }
        return records
    }

    /// Downloads what the index names, checks it against the index (signed by Debian), and adds the SHA-1 by which the
    /// snapshot archive knows the file.
    private func complete(_ record: Record) throws(Finding) -> PackageLock.Package {
        guard let name = record.fields["Package"], let version = record.fields["Version"],
            let architecture = record.fields["Architecture"], let path = record.fields["Filename"],
            let size = record.fields["Size"].flatMap({ Int($0) }),
            let sha256 = record.fields["SHA256"].flatMap({ Hex.decode($0) })
        else {
            throw Finding(
                "image-lock", claim: "apt's index", expected: "name, version, path, size and SHA256",
                actual: "\(record.fields["Package"] ?? "a record without a name")")
        }
        for archive in ["debian", "debian-security"] {
            let draft = PackageLock.Package(
                name: name, version: version, architecture: architecture, archive: archive, path: path, size: size,
                sha256: sha256, sha1: [UInt8](repeating: 0, count: 20))
            let file = cache.path(of: draft)
            if !HostFiles.exists(file) {
                let incoming = "\(scratch)/incoming.deb"
                try HostFiles.remove(incoming)
                let url = "\(mirror.bases[archive] ?? "")/\(path)"
                _ = try? Tools.output("/usr/lib/apt/apt-helper", ["download-file", url, incoming], scratch: scratch)
                guard HostFiles.exists(incoming) else { continue }
                try HostFiles.move(incoming, to: file)
            }
            let bytes = try HostFiles.read(file, limit: 1 << 30)
            guard HashAlgorithm.sha256.hash(bytes) == sha256 else {
                throw Finding(
                    "image-package", claim: "\(name) \(version)", expected: "sha256 \(Hex.encode(sha256))",
                    actual: Hex.encode(HashAlgorithm.sha256.hash(bytes)), source: "apt's signed index",
                    next: "remove \(file) and run it again")
            }
            return PackageLock.Package(
                name: name, version: version, architecture: architecture, archive: archive, path: path, size: size,
                sha256: sha256, sha1: HashAlgorithm.sha1.hash(bytes))
        }
        throw Finding("image-fetch", claim: "\(name) \(version)", expected: "at \(path)", actual: "not on the mirror")
    }
}
