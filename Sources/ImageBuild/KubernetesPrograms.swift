import Bytes
import Crypto
import Host

/// Kubernetes' programs, ready to be put into an image.
public struct KubernetesPrograms: Sendable, Equatable {
    public let version: KubernetesVersion
    /// Whether Debian's source was built, not upstream's archive taken.
    public let isFromDebian: Bool
    /// Directory that holds them.
    let directory: String

    /// What the node runs.
    static let node = ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet"]
    /// For the owner's machine; no node has it.
    static let client = "kubectl"

    /// As manifests name it.
    public var name: String { isFromDebian ? "\(version)+debian12" : "\(version)" }

    func path(of program: String) -> String { "\(directory)/\(program)" }
}

/// Gets the programs of one version: from the cache, from upstream, or by building Debian's source.
///
/// What is in the cache under its name is whole: it was written beside and renamed. The name is the digest of all that
/// went into it, so another lock, another recipe or another compiler never finds it.
struct KubernetesSource {
    /// Upstream's download place.
    static let upstream = "https://dl.k8s.io"
    /// No archive of a release is larger.
    static let largestArchive = 1 << 30

    let lock: KubernetesLock
    /// `build`, which makes Debian's source into programs.
    let recipe: String
    /// Kept between builds: one directory for each set of programs.
    let cache: String
    let packages: PackageCache
    let scratch: String
    var upstream = Self.upstream
    var archiveLimit = Self.largestArchive
    let patience: Duration
    let progress: (String) -> Void

    /// - Parameter version: exactly this one; `nil`: the newest that upstream hands out, else Debian's.
    /// - Throws: `image-kubernetes`.
    func programs(
        _ version: KubernetesVersion?, mirror: () throws(Finding) -> DebianMirror, snapshot: String
    ) throws(Finding) -> KubernetesPrograms {
        try HostFiles.makeDirectories(cache)
        let turn = try DirectoryLock(directory: cache, purpose: "getting Kubernetes", patience: patience) {
            progress("waiting for another process that gets Kubernetes: \($0)")
        }
        defer { turn.keep() }
        for name in try HostFiles.names(in: cache) where name.hasPrefix(".partial-") {
            try? HostFiles.remove("\(cache)/\(name)")
        }
        if let version {
            if let release = lock.upstream.first(where: { $0.version == version }) {
                guard let programs = try fetched(release) else {
                    throw Finding(
                        "image-kubernetes", claim: "Kubernetes \(version)",
                        expected: "\(release.file) from \(upstream)",
                        actual: "no answer", source: "mkosi/lock.json",
                        next: "check the network, or leave the version out: Debian's \(lock.version) is built then")
                }
                progress("Kubernetes \(version), upstream's, as asked for")
                return programs
            }
            guard version == lock.version else {
                let known = (lock.upstream.map(\.version) + [lock.version]).map(\.description).joined(separator: ", ")
                throw Finding(
                    "image-kubernetes", claim: "Kubernetes \(version)", expected: "one of \(known)",
                    actual: "not pinned", source: "mkosi/lock.json", next: "docs/kubernetes.md says how to pin it")
            }
            progress("Kubernetes \(version) from Debian's source, as asked for")
            return try built(mirror: mirror, snapshot: snapshot)
        }
        if let newest = lock.upstream.first {
            if let programs = try fetched(newest) {
                progress("Kubernetes \(newest.version), upstream's newest that is pinned")
                return programs
            }
            progress(
                "Kubernetes \(lock.version) from Debian's source: \(upstream) does not answer, which has "
                    + "\(newest.version)")
        } else {
            progress("Kubernetes \(lock.version) from Debian's source: no release of upstream is pinned")
        }
        return try built(mirror: mirror, snapshot: snapshot)
    }

    // MARK: Upstream

    /// `nil` where upstream does not answer. Other bytes than the pinned ones end the build.
    private func fetched(_ release: KubernetesLock.Release) throws(Finding) -> KubernetesPrograms? {
        let directory = "\(cache)/upstream-\(release.version)-\(Hex.encode(release.sha512.prefix(16)))"
        let programs = KubernetesPrograms(version: release.version, isFromDebian: false, directory: directory)
        if HostFiles.exists(directory) { return programs }
        let partial = try partialDirectory()
        defer { try? HostFiles.remove(partial) }
        let url = "\(upstream)/v\(release.version)/\(release.file)"
        // Something small first, which upstream publishes beside it: who is not there is given up on soon.
        guard download("\(url).sha512", to: "\(partial)/answer", sizeLimit: 1 << 16, limit: .seconds(30)) else {
            return nil
        }
        progress("fetching \(url)")
        let archive = "\(partial)/archive"
        guard download(url, to: archive, sizeLimit: archiveLimit, limit: .seconds(3600)) else { return nil }
        var digest = Digest(.sha512)
        do throws(FileError) {
            try Files.read(archive) { piece throws(FileError) in digest.update(piece) }
        } catch { throw error.finding }
        let found = digest.finish()
        guard found == release.sha512 else {
            throw Finding(
                "image-kubernetes", claim: "Kubernetes \(release.version)",
                expected: "sha512 \(Hex.encode(release.sha512)) (\(release.origin))",
                actual: "\(Hex.encode(found)) (\(HostFiles.size(archive)) bytes) from \(url)",
                source: "mkosi/lock.json",
                next: "do not use these bytes; try another network")
        }
        let out = "\(partial)/out"
        try HostFiles.makeDirectory(out)
        let names = (KubernetesPrograms.node + [KubernetesPrograms.client]).map { "kubernetes/server/bin/\($0)" }
        _ = try Tools.output(
            "/usr/bin/tar",
            ["--extract", "--gzip", "--no-same-owner", "--strip-components=3", "-C", out, "-f", archive] + names,
            scratch: partial)
        try keep(out, as: directory)
        return programs
    }

    /// By apt's own downloader, which knows the machine's proxies. Not larger than `sizeLimit`: the kernel sees to it.
    private func download(_ url: String, to path: String, sizeLimit: Int, limit: Duration) -> Bool {
        do throws(Finding) {
            _ = try Tools.output(
                "/usr/bin/prlimit",
                [
                    "--fsize=\(sizeLimit)", "/usr/lib/apt/apt-helper", "-o", "Acquire::Retries=1", "-o",
                    "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20", "download-file", url, path,
                ], scratch: scratch, limit: limit)
        } catch { return false }
        // From a `file:` place apt leaves a link.
        return HostFiles.isRegular(path)
    }

    // MARK: Debian

    private func built(
        mirror: () throws(Finding) -> DebianMirror, snapshot: String
    ) throws(Finding) -> KubernetesPrograms {
        var digest = Digest(.sha256)
        digest.update(try HostFiles.read(recipe, limit: 1 << 20))
        digest.update(Array("\(lock.version)\n".utf8))
        for file in lock.source + lock.go { digest.update(file.sha256) }
        let directory = "\(cache)/debian-\(lock.version)-\(Hex.encode(digest.finish().prefix(16)))"
        let programs = KubernetesPrograms(version: lock.version, isFromDebian: true, directory: directory)
        if HostFiles.exists(directory) { return programs }
        try packages.fetch(
            lock.source + lock.go, mirror: mirror, snapshot: snapshot, scratch: scratch, progress: progress)
        progress(
            "building Kubernetes \(lock.version) from Debian's source (once; five to fifteen minutes on two cores)")
        let work = try partialDirectory()
        for (folder, files) in [("packages", lock.go), ("source", lock.source)] {
            try HostFiles.makeDirectory("\(work)/\(folder)")
            for file in files { try HostFiles.link(packages.path(of: file), to: "\(work)/\(folder)/\(file.fileName)") }
        }
        try Command(
            program: "/usr/bin/unshare",
            arguments: ["--user", "--map-root-user", "--net", "/bin/bash", recipe, work, "\(lock.version)"],
            environment: Tools.environment, directory: work, log: "\(work)/log"
        ).run(limit: .seconds(3600))
        try keep("\(work)/out", as: directory)
        try HostFiles.remove(work)
        return programs
    }

    // MARK: The cache

    private func partialDirectory() throws(Finding) -> String {
        let directory = "\(cache)/.partial-\(Hex.encode(randomBytes(4)))"
        try HostFiles.makeDirectory(directory)
        return directory
    }

    /// Gives whole programs, on disk, their name.
    private func keep(_ out: String, as directory: String) throws(Finding) {
        for name in KubernetesPrograms.node + [KubernetesPrograms.client] {
            guard HostFiles.isRegular("\(out)/\(name)") else {
                throw Finding("image-kubernetes", claim: name, expected: "a program", actual: "missing", source: out)
            }
            try HostFiles.flush("\(out)/\(name)")
        }
        try HostFiles.flush(out)
        try HostFiles.move(out, to: directory)
    }
}
