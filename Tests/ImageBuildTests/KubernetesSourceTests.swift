import Bytes
import Crypto
import Host
import TestKit
import Testing

@testable import ImageBuild

/// A pinned release, a pinned "source package", and places to get both from.
private struct World {
    let folder: TemporaryFolder
    let archive: [UInt8]
    static let programs = KubernetesPrograms.node + [KubernetesPrograms.client]

    init() throws {
        folder = try TemporaryFolder()
        for name in ["scratch", "packages", "mirror/pool", "upstream/v1.36.3", "kubernetes/server/bin"] {
            try HostFiles.makeDirectories("\(folder.path)/\(name)")
        }
        for name in Self.programs {
            try HostFiles.create("\(folder.path)/kubernetes/server/bin/\(name)", Array(name.utf8), mode: 0o755)
        }
        try HostFiles.create("\(folder.path)/kubernetes/server/bin/kubeadm", Array("not wanted".utf8), mode: 0o755)
        let path = "\(folder.path)/archive"
        _ = try Tools.output(
            "/usr/bin/tar", ["-czf", path, "-C", folder.path, "kubernetes"], scratch: folder.path)
        archive = try HostFiles.read(path, limit: 1 << 20)
        try HostFiles.create("\(folder.path)/mirror/pool/source", Array("source".utf8))
        try recipe("test -s \"$1/source/source\"")
    }

    /// Ends with programs whose bytes say the version, and leaves a line for each run.
    func recipe(_ middle: String) throws {
        let text = """
            set -e
            echo run >>"\(folder.path)/runs"
            \(middle)
            mkdir "$1/out"
            for name in \(Self.programs.joined(separator: " ")); do echo "built $2" >"$1/out/$name"; done

            """
        try HostFiles.create("\(folder.path)/build", Array(text.utf8))
    }

    func publish(_ bytes: [UInt8]) throws {
        try HostFiles.create("\(folder.path)/upstream/v1.36.3/server.tar.gz", bytes)
        try HostFiles.create("\(folder.path)/upstream/v1.36.3/server.tar.gz.sha512", Array("text".utf8))
    }

    func source(
        upstream: String? = nil, limit: Int = 1 << 20, progress: @escaping (String) -> Void = { _ in }
    ) throws -> KubernetesSource {
        let bytes = Array("source".utf8)
        let package: JSON = [
            "name": "kubernetes", "version": "1.20.2-1", "architecture": "source", "archive": "debian",
            "path": "pool/source", "size": .integer(Int128(bytes.count)),
            "sha256": .hex(HashAlgorithm.sha256.hash(bytes)), "sha1": .hex(HashAlgorithm.sha1.hash(bytes)),
        ]
        let lock = try KubernetesLock(
            json: [
                "upstream": [
                    [
                        "version": "1.36.3", "file": "server.tar.gz", "origin": "a test",
                        "sha512": .hex(HashAlgorithm.sha512.hash(archive)),
                    ]
                ],
                "debian": ["version": "1.20.2", "source": [package], "go": []],
            ], path: "lock")
        var source = KubernetesSource(
            lock: lock, recipe: "\(folder.path)/build", cache: "\(folder.path)/cache",
            packages: PackageCache(directory: "\(folder.path)/packages", patience: .seconds(20)),
            scratch: "\(folder.path)/scratch", patience: .seconds(20), progress: progress)
        source.upstream = upstream ?? "file://\(folder.path)/upstream"
        source.archiveLimit = limit
        return source
    }

    func programs(_ source: KubernetesSource, _ version: String? = nil) throws -> KubernetesPrograms {
        try source.programs(
            version.flatMap { KubernetesVersion($0) },
            mirror: { DebianMirror(bases: ["debian": "file://\(folder.path)/mirror"]) }, snapshot: "file:///nowhere")
    }

    func text(_ programs: KubernetesPrograms, _ name: String) throws -> String {
        String(decoding: try HostFiles.read(programs.path(of: name), limit: 1 << 20), as: UTF8.self)
    }

    var kept: [String] { get throws { try HostFiles.names(in: "\(folder.path)/cache").filter { $0 != ".lock" } } }
    var runs: Int { HostFiles.size("\(folder.path)/runs") / 4 }
}

@Suite("Kubernetes' programs")
struct KubernetesSourceTests {
    @Test("upstream's pinned archive: the six programs and nothing else of it, asked for once")
    func upstream() throws {
        let world = try World()
        try world.publish(world.archive)
        let programs = try world.programs(try world.source())
        #expect(programs.name == "1.36.3")
        #expect(try HostFiles.names(in: programs.directory) == World.programs.sorted())
        #expect(try world.text(programs, "kubelet") == "kubelet")
        try HostFiles.remove("\(world.folder.path)/upstream")
        #expect(try world.programs(try world.source()) == programs)
        #expect(world.runs == 0)
    }

    @Test("other bytes than the pinned ones end the build: Debian's are no way out")
    func wrongBytes() throws {
        let world = try World()
        try world.publish(world.archive + [0])
        let finding = #expect(throws: Finding.self) { try world.programs(try world.source()) }
        #expect(finding?.reason == "image-kubernetes")
        #expect(finding?.expected.contains(Hex.encode(HashAlgorithm.sha512.hash(world.archive))) == true)
        #expect(finding?.actual.contains(Hex.encode(HashAlgorithm.sha512.hash(world.archive + [0]))) == true)
        #expect(try world.kept.isEmpty)
        #expect(world.runs == 0)
    }

    @Test("over HTTP: the right bytes, and no more of them than the limit", arguments: [true, false])
    func http(isLarge: Bool) throws {
        let world = try World()
        let bytes = isLarge ? [UInt8](repeating: 0, count: 3 << 20) : world.archive
        try world.publish(bytes)
        let server = Command(
            program: "/usr/bin/python3",
            arguments: ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", "upstream"],
            environment: ["PATH": "/usr/bin"], directory: world.folder.path, log: "http.log")
        let child = try server.start()
        defer {
            child.identity.signal(9)
            _ = child.wait(for: .seconds(5))
        }
        var port: Substring?
        let deadline = ContinuousClock.now + .seconds(20)
        while port == nil, ContinuousClock.now < deadline {
            let log = String(
                decoding: (try? HostFiles.read("\(world.folder.path)/http.log", limit: 1 << 16)) ?? [], as: UTF8.self)
            port = log.firstMatch(of: #/port (\d+)/#)?.1
        }
        let source = try world.source(upstream: "http://127.0.0.1:\(try #require(port))")
        if isLarge {
            // Cut off at the limit, it never was an answer.
            let programs = try world.programs(source)
            #expect(programs.isFromDebian)
        } else {
            #expect(try world.text(try world.programs(source), "kubectl") == "kubectl")
        }
    }

    @Test("no answer: Debian's source, built once, without a network; one line says which and why")
    func debian() throws {
        let world = try World()
        nonisolated(unsafe) var lines: [String] = []
        let programs = try world.programs(
            try world.source(upstream: "file:///nowhere") { line in unsafe lines.append(line) })
        #expect(programs.name == "1.20.2+debian12")
        #expect(try world.text(programs, "kubelet") == "built 1.20.2\n")
        #expect(unsafe lines.contains { $0.contains("1.20.2") && $0.contains("does not answer") })
        #expect(try world.programs(try world.source(upstream: "file:///nowhere")) == programs)
        #expect(world.runs == 1)
    }

    @Test("the recipe sees no way out: of network devices there is only its own loopback")
    func network() throws {
        let world = try World()
        try world.recipe("test \"$(grep -c : /proc/net/dev)\" = 1 && grep -q lo: /proc/net/dev")
        #expect(try world.programs(try world.source(upstream: "file:///nowhere")).isFromDebian)
    }

    @Test("another recipe, another place; one that fails or leaves a program out leaves nothing")
    func recipes() throws {
        let world = try World()
        let first = try world.programs(try world.source(upstream: "file:///nowhere"))
        try world.recipe(":")
        let second = try world.programs(try world.source(upstream: "file:///nowhere"))
        #expect(first.directory != second.directory)
        let before = try world.kept
        for middle in ["exit 3", "mkdir \"$1/out\"; echo only >\"$1/out/kubelet\"; exit 0"] {
            try world.recipe(middle)
            #expect(throws: Finding.self) { try world.programs(try world.source(upstream: "file:///nowhere")) }
        }
        // The next run takes away what a killed or failed one left.
        _ = try? world.programs(try world.source(), "1.20.2")
        #expect(try world.kept.filter { !$0.hasPrefix(".partial-") } == before)
    }

    @Test("a version that is asked for: exactly that one or an end")
    func forced() throws {
        let world = try World()
        #expect(try world.programs(try world.source(), "1.20.2").isFromDebian)
        let absent = #expect(throws: Finding.self) { try world.programs(try world.source(), "1.36.3") }
        #expect(absent?.actual == "no answer")
        let unknown = #expect(throws: Finding.self) { try world.programs(try world.source(), "1.35.0") }
        #expect(unknown?.expected == "one of 1.36.3, 1.20.2")
        try world.publish(world.archive)
        #expect(try world.programs(try world.source(), "1.36.3").name == "1.36.3")
    }

    @Test("flags that only some versions take")
    func flags() {
        func environment(_ text: String) -> String? { KubernetesVersion(text).map(KubernetesFlags.environment) }
        #expect(
            environment("1.20.2") == """
                API_SERVER_FLAGS=--enable-priority-and-fairness=false \
                --runtime-config=api/beta=false,api/alpha=false,batch/v1beta1=true,discovery.k8s.io/v1beta1=true,\
                policy/v1beta1=true
                CONTROLLER_MANAGER_FLAGS=--port=0
                KUBELET_FLAGS=--container-runtime=remote \
                --container-runtime-endpoint=unix:///run/containerd/containerd.sock \
                --pod-infra-container-image=node.local/pause:1
                SCHEDULER_FLAGS=--port=0

                """)
        #expect(
            environment("1.36.3") == "API_SERVER_FLAGS=\nCONTROLLER_MANAGER_FLAGS=\nKUBELET_FLAGS=\nSCHEDULER_FLAGS=\n")
    }

    @Test("the lock's section is read back, and strictly read")
    func lock() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let bytes = try HostFiles.read("/\(root)/mkosi/lock.json", limit: 16 << 20)
        let lock = try PackageLock(parsing: bytes)
        #expect(lock.text == String(decoding: bytes, as: UTF8.self))
        let kubernetes = try #require(lock.kubernetes)
        #expect(kubernetes.version.description == "1.20.2")
        #expect(kubernetes.source.map(\.fileName).contains { $0.hasSuffix(".dsc") })
        for (from, to) in [
            ("\"version\": \"1.20.2\"", "\"version\": \"1.20\""), ("server-linux", "../linux"),
            ("\"origin\":", "\"other\":"), ("   \"go\": [", "   \"more\": 1,\n   \"go\": ["),
        ] {
            let pieces = lock.text.split(separator: from, omittingEmptySubsequences: false)
            #expect(pieces.count == 2, "\(from)")
            #expect(throws: ParseError.self) { try PackageLock(parsing: Array(pieces.joined(separator: to).utf8)) }
        }
    }

    @Test("versions are compared by their numbers")
    func versions() throws {
        let texts = ["1.9.0", "1.20.2", "1.36.3", "1.36.10"]
        let versions = texts.compactMap { KubernetesVersion($0) }
        #expect(versions.count == 4 && versions == versions.sorted())
        for text in ["", "1.2", "1.2.3.4", "1..3", "1.2.x", "-1.2.3", "1.2.99999", "1.2.3-rc.1"] {
            #expect(KubernetesVersion(text) == nil, "\(text)")
        }
    }
}
