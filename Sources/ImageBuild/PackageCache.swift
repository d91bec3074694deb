import Bytes
import Crypto
import Host

/// The locked packages on this machine: fetched once, hashed on every use.
public struct PackageCache: Sendable {
    /// Directory that holds the `.deb` files, kept between builds.
    public let directory: String
    /// How long to wait for another process that fetches into it.
    let patience: Duration

    public init(directory: String, patience: Duration = .seconds(3600)) {
        self.directory = directory
        self.patience = patience
    }

    /// Brings every package of `lock` here, trying in order: this cache, the machine's Debian mirror, Debian's snapshot
    /// archive. Whatever the source, a file that differs from the lock ends the build.
    ///
    /// - Parameters:
    ///   - snapshot: base URL of a snapshot archive, asked for `/file/<sha1>`.
    ///   - progress: called with a line for people.
    /// - Throws: `image-package` naming package, expected and found hash; `image-fetch` where no source has it.
    public func fetch(
        _ lock: PackageLock, mirror: () throws(Finding) -> DebianMirror, snapshot: String, scratch: String,
        progress: (String) -> Void
    ) throws(Finding) {
        try fetch(lock.all, mirror: mirror, snapshot: snapshot, scratch: scratch, progress: progress)
    }

    /// The same for some packages only.
    func fetch(
        _ packages: [PackageLock.Package], mirror: () throws(Finding) -> DebianMirror, snapshot: String,
        scratch: String,
        progress: (String) -> Void
    ) throws(Finding) {
        guard !(try missing(packages)).isEmpty else { return }
        let turn = try DirectoryLock(directory: directory, purpose: "fetching packages", patience: patience) {
            progress("waiting for another process that fetches packages: \($0)")
        }
        defer { turn.keep() }
        // Whoever was waited for may have fetched them.
        let missing = try missing(packages)
        guard !missing.isEmpty else { return }
        let mirror = try mirror()
        progress("fetching \(missing.count) of \(packages.count) packages")
        try fetch(missing, scratch: scratch) { package in
            mirror.bases[package.archive].map { "\($0)/\(package.path)" }
        }
        let absent = missing.filter { !HostFiles.exists(path(of: $0)) }
        if !absent.isEmpty {
            progress("the mirror lacks \(absent.count) packages; asking the snapshot archive")
            try fetch(absent, scratch: scratch) { "\(snapshot)/file/\(Hex.encode($0.sha1))" }
        }
        if let package = absent.first(where: { !HostFiles.exists(path(of: $0)) }) {
            throw Finding(
                "image-fetch", claim: package.fileName, expected: "sha256 \(Hex.encode(package.sha256))",
                actual: "in no source: cache, mirror \(mirror.bases[package.archive] ?? ""), snapshot archive",
                source: "mkosi/lock.json", next: "check the network, or refresh the pins with `nacre image lock`")
        }
    }

    /// Those that are not here; those that are here are checked.
    private func missing(_ packages: [PackageLock.Package]) throws(Finding) -> [PackageLock.Package] {
        var missing: [PackageLock.Package] = []
        for package in packages {
            let path = path(of: package)
            guard HostFiles.exists(path) else {
                missing.append(package)
                continue
            }
            try check(path, package, source: "the cache, \(path)", next: "remove that file and build again")
        }
        return missing
    }

    public func path(of package: PackageLock.Package) -> String { "\(directory)/\(package.fileName)" }

    /// One download run for all of them; files that the source lacks are left out, files it has are checked. Only while
    /// this process has the cache to itself: a killed one leaves its folder, the next run empties it.
    private func fetch(
        _ packages: [PackageLock.Package], scratch: String, url: (PackageLock.Package) -> String?
    ) throws(Finding) {
        let incoming = "\(directory)/.incoming"
        try HostFiles.remove(incoming)
        try HostFiles.makeDirectory(incoming)
        // apt's own downloader: it knows the machine's proxies and credentials. Some thirty files a call.
        for start in stride(from: 0, to: packages.count, by: 32) {
            var arguments = ["download-file"]
            for package in packages[start..<min(start + 32, packages.count)] {
                if let url = url(package) { arguments += [url, "\(incoming)/\(package.fileName)"] }
            }
            // A missing file fails the whole call: what did arrive is looked at one by one below.
            _ = try? Tools.output("/usr/lib/apt/apt-helper", arguments, scratch: scratch, limit: .seconds(1800))
            for package in packages[start..<min(start + 32, packages.count)] {
                let file = "\(incoming)/\(package.fileName)"
                guard HostFiles.exists(file) else { continue }
                try check(file, package, source: url(package) ?? "", next: "refresh the pins with `nacre image lock`")
                // From a `file:` mirror apt leaves a link, which would dangle one day: the bytes themselves are kept.
                let whole = "\(incoming)/.whole"
                try HostFiles.copy(file, to: whole, mode: 0o644)
                try HostFiles.flush(whole)
                try HostFiles.move(whole, to: path(of: package))
            }
        }
        try HostFiles.remove(incoming)
    }

    private func check(
        _ file: String, _ package: PackageLock.Package, source: String, next: String
    ) throws(Finding) {
        let bytes = try HostFiles.read(file, limit: 1 << 30)
        let found = HashAlgorithm.sha256.hash(bytes)
        guard found == package.sha256, bytes.count == package.size else {
            throw Finding(
                "image-package", claim: "\(package.name) \(package.version)",
                expected: "sha256 \(Hex.encode(package.sha256))",
                actual: "\(Hex.encode(found)) (\(bytes.count) bytes) from \(source)",
                source: "mkosi/lock.json", next: next)
        }
    }
}
