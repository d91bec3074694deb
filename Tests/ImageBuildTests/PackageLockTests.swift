import Bytes
import Crypto
import Host
import TestKit
import Testing

@testable import ImageBuild

/// A lock with one small "package", and the bytes it pins.
private func sample(_ bytes: [UInt8] = Array("a package".utf8)) -> (lock: PackageLock, package: PackageLock.Package) {
    let package = PackageLock.Package(
        name: "sample", version: "1:2.0-1+b3", architecture: "amd64", archive: "debian",
        path: "pool/main/s/sample/sample_2.0-1+b3_amd64.deb", size: bytes.count,
        sha256: HashAlgorithm.sha256.hash(bytes), sha1: HashAlgorithm.sha1.hash(bytes))
    return (PackageLock(sets: [.image: [package]]), package)
}

@Suite("nacre.lock.v1")
struct PackageLockTests {
    @Test("what is written is read back")
    func roundTrip() throws {
        let lock = sample().lock
        let read = try PackageLock(parsing: Array(lock.text.utf8))
        #expect(read[.image] == lock[.image])
        #expect(read.text == lock.text)
    }

    @Test("the committed lock pins every set")
    func committed() throws {
        let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let lock = try PackageLock(parsing: readFile("/\(root)/mkosi/lock.json"))
        for purpose in PackageLock.Purpose.allCases { #expect(!lock[purpose].isEmpty) }
        #expect(lock[.mkosi].map(\.name) == ["mkosi"])
        #expect(lock[.image].contains { $0.name.hasPrefix("linux-binary-") })
    }

    @Test(
        "strict: other schemas, unknown fields and names that would leave the folder are refused",
        arguments: [
            ("nacre.lock.v1", "nacre.lock.v2"), ("\"size\":9", "\"size\":9,\"extra\":1"),
            ("\"sample\"", "\"../sample\""), ("pool/main", "/etc/../pool"), ("\"debian\"", "\"elsewhere\""),
            ("\"mkosi\": []", "\"mkosi\": {}"),
        ])
    func strict(from: String, to: String) {
        let text = sample().lock.text
        let pieces = text.split(separator: from, maxSplits: 1, omittingEmptySubsequences: false)
        #expect(pieces.count == 2)
        #expect(throws: ParseError.self) {
            try PackageLock(parsing: Array(pieces.joined(separator: to).utf8))
        }
    }

    @Test("the epoch's colon is written as apt writes it")
    func fileName() { #expect(sample().package.fileName == "sample_1%3a2.0-1+b3_amd64.deb") }

    @Test("a refresh says what changed")
    func difference() {
        let old = sample().lock
        let new = sample(Array("other bytes".utf8)).lock
        #expect(LockDifference(from: old, to: new).lines == ["image: sample 1:2.0-1+b3 has other bytes"])
        #expect(LockDifference(from: old, to: old).lines.isEmpty)
        #expect(LockDifference(from: PackageLock(sets: [:]), to: old).lines == ["image: + sample 1:2.0-1+b3"])
    }
}

@Suite("The package cache")
struct PackageCacheTests {
    /// A "mirror" of plain files that apt's own downloader reads.
    private struct World: Sendable {
        let folder: TemporaryFolder
        let cache: PackageCache
        let mirror: DebianMirror

        init() throws {
            folder = try TemporaryFolder()
            for name in ["cache", "mirror", "snapshot", "snapshot/file", "scratch"] {
                try HostFiles.makeDirectory("\(folder.path)/\(name)")
            }
            cache = PackageCache(directory: "\(folder.path)/cache", patience: .seconds(20))
            mirror = DebianMirror(bases: ["debian": "file://\(folder.path)/mirror"])
        }

        func put(_ bytes: [UInt8], at path: String) throws {
            let whole = "\(folder.path)/\(path)"
            try HostFiles.makeDirectories(HostFiles.parent(of: whole))
            try HostFiles.write(whole, bytes)
        }

        func fetch(_ lock: PackageLock) throws {
            try cache.fetch(
                lock, mirror: { mirror }, snapshot: "file://\(folder.path)/snapshot",
                scratch: "\(folder.path)/scratch", progress: { _ in })
        }
    }

    @Test("mirror first: the file arrives whole, under apt's name")
    func fromMirror() throws {
        let world = try World()
        let (lock, package) = sample()
        try world.put(Array("a package".utf8), at: "mirror/\(package.path)")
        try world.fetch(lock)
        #expect(try readFile(world.cache.path(of: package)) == Array("a package".utf8))
        // The second time nothing is asked of the mirror.
        try HostFiles.remove("\(world.folder.path)/mirror")
        try world.fetch(lock)
    }

    @Test("a file that the mirror no longer has comes from the snapshot archive by hash")
    func fromSnapshot() throws {
        let world = try World()
        let (lock, package) = sample()
        try world.put(Array("a package".utf8), at: "snapshot/file/\(Hex.encode(package.sha1))")
        try world.fetch(lock)
        #expect(try readFile(world.cache.path(of: package)) == Array("a package".utf8))
    }

    @Test("other bytes end the build with name, expected and found hash", arguments: ["mirror", "snapshot", "cache"])
    func differs(place: String) throws {
        let world = try World()
        let (lock, package) = sample()
        let other = Array("not those".utf8)
        switch place {
        case "mirror": try world.put(other, at: "mirror/\(package.path)")
        case "snapshot": try world.put(other, at: "snapshot/file/\(Hex.encode(package.sha1))")
        default: try world.put(other, at: "cache/\(package.fileName)")
        }
        let finding = #expect(throws: Finding.self) { try world.fetch(lock) }
        #expect(finding?.reason == "image-package")
        #expect(finding?.claim == "sample 1:2.0-1+b3")
        #expect(finding?.expected.contains(Hex.encode(package.sha256)) == true)
        #expect(finding?.actual.contains(Hex.encode(HashAlgorithm.sha256.hash(other))) == true)
        // What was refused is never found in the cache later.
        if place != "cache" { #expect(!HostFiles.exists(world.cache.path(of: package))) }
    }

    @Test("two processes fetch: the second waits, says for whom, and takes what the first brought")
    func together() async throws {
        let world = try World()
        let (lock, package) = sample()
        let directory = world.cache.directory
        let (waiting, told) = AsyncStream.makeStream(of: String.self)
        let (done, finished) = AsyncStream.makeStream(of: Finding?.self)
        do {
            let first = try DirectoryLock(directory: directory, purpose: "the first build", patience: .zero)
            // What the first one is at.
            try HostFiles.makeDirectory("\(directory)/.incoming")
            try HostFiles.write("\(directory)/.incoming/half", [1])
            Task.detached {
                do throws(Finding) {
                    try world.cache.fetch(
                        lock, mirror: { world.mirror }, snapshot: "file:///nowhere",
                        scratch: "\(world.folder.path)/scratch", progress: { told.yield($0) })
                    finished.yield(nil)
                } catch { finished.yield(error) }
            }
            let line = await waiting.first { _ in true }
            #expect(line?.contains("the first build") == true, "\(line ?? "")")
            #expect(HostFiles.exists("\(directory)/.incoming/half"), "not the second one's to remove")
            try HostFiles.write(world.cache.path(of: package), Array("a package".utf8))
            first.keep()
        }
        #expect(await done.first { _ in true } == .some(nil), "nothing was asked of the mirror, which has nothing")
    }

    @Test("a second build of one output is told who is at it, and touches nothing")
    func oneOutput() async throws {
        let world = try World()
        let output = "\(world.folder.path)/build/image"
        try HostFiles.makeDirectories("\(world.folder.path)/build/.image.work-0000")
        let first = try DirectoryLock(
            directory: output, purpose: "nacre image build", patience: .zero,
            file: "\(world.folder.path)/build/.image.lock")
        let builder = ImageBuilder(
            BuildRequest(
                configuration: "/nowhere", binaries: "/nowhere", output: output, cache: world.folder.path,
                profile: "production", snapshot: "", patience: .zero),
            stage: { _, _ in }, progress: { _ in })
        let finding = await #expect(throws: Finding.self) { try await builder.build { _, _ throws(Finding) in } }
        #expect(finding?.reason == "local-lock")
        #expect(finding?.actual.contains("nacre image build") == true)
        #expect(HostFiles.exists("\(world.folder.path)/build/.image.work-0000"), "the first build's folder")
        first.keep()
    }

    @Test("nobody has it: the package is named")
    func nowhere() throws {
        let world = try World()
        let finding = #expect(throws: Finding.self) { try world.fetch(sample().lock) }
        #expect(finding?.reason == "image-fetch")
    }
}
