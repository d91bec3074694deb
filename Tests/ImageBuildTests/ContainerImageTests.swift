import Bytes
import Crypto
import Host
import TestKit
import Testing

@testable import ImageBuild

@Suite("Container images from nothing")
struct ContainerImageTests {
    /// Lists an archive by the machine's tar.
    private func listing(_ bytes: [UInt8]) throws -> [String] {
        let folder = try TemporaryFolder()
        try HostFiles.create("\(folder.path)/archive.tar", bytes)
        return try Tools.output(
            "/usr/bin/tar", ["--list", "--verbose", "--numeric-owner", "--utc", "-f", "archive.tar"],
            scratch: folder.path
        ).split(separator: "\n").map { $0.split(separator: " ").joined(separator: " ") }
    }

    @Test("tar reads what is written: root's, at time 0, in order")
    func tar() throws {
        var archive = TarArchive()
        archive["b"] = .file(mode: 0o644, Array(repeating: 1, count: 513))
        archive["a"] = .directory(mode: 0o1777)
        archive["a/link"] = .link(to: "../b")
        archive["a/empty"] = .file(mode: 0o755, [])
        #expect(
            try listing(try archive.bytes()) == [
                "drwxrwxrwt 0/0 0 1970-01-01 00:00 a/", "-rwxr-xr-x 0/0 0 1970-01-01 00:00 a/empty",
                "lrwxrwxrwx 0/0 0 1970-01-01 00:00 a/link -> ../b", "-rw-r--r-- 0/0 513 1970-01-01 00:00 b",
            ])
        archive[String(repeating: "x", count: 101)] = .file(mode: 0o644, [])
        #expect(throws: Finding.self) { try archive.bytes() }
    }

    @Test("every blob is what its digest and size say, from the index down to the layer")
    func digests() throws {
        let image = ContainerImage.pause(program: Array("a program".utf8))
        let bytes = try image.archive()
        #expect(bytes == (try image.archive()))
        let folder = try TemporaryFolder()
        try HostFiles.create("\(folder.path)/image.tar", bytes)
        _ = try Tools.output("/usr/bin/tar", ["-xf", "image.tar"], scratch: folder.path)
        func document(_ name: String) throws -> JSON {
            try JSON(parsing: HostFiles.read("\(folder.path)/\(name)", limit: 1 << 20))
        }
        func blob(_ descriptor: JSON?) throws -> String {
            let digest = try #require(descriptor?["digest"]?.string?.split(separator: ":").last)
            let path = "\(folder.path)/blobs/sha256/\(digest)"
            let bytes = try HostFiles.read(path, limit: 1 << 20)
            #expect(Hex.encode(HashAlgorithm.sha256.hash(bytes)) == digest)
            #expect(descriptor?["size"]?.integer == bytes.count)
            return "blobs/sha256/\(digest)"
        }
        #expect(try document("oci-layout")["imageLayoutVersion"] == "1.0.0")
        let entry = try #require(try document("index.json")["manifests"]?.array?.first)
        #expect(entry["annotations"]?["io.containerd.image.name"] == "node.local/pause:1")
        let manifest = try document(try blob(entry))
        let configuration = try document(try blob(manifest["config"]))
        let layer = try blob(manifest["layers"]?.array?.first)
        #expect(configuration["rootfs"]?["diff_ids"]?.array == [.string("sha256:\(layer.split(separator: "/")[2])")])
        #expect(configuration["config"]?["User"] == "65534:65534")
        let files = try listing(try HostFiles.read("\(folder.path)/\(layer)", limit: 1 << 20))
        #expect(files.contains("-rwxr-xr-x 0/0 9 1970-01-01 00:00 bin/pause"))
    }

    @Test("the small image's command and every name it is called by are in it")
    func app() throws {
        let image = ContainerImage.app(busybox: [0x7F])
        for name in image.command.prefix(1) + ["/bin/sh", "/bin/nslookup", "/bin/wget"] {
            guard case .link(let target)? = image.root[String(name.dropFirst())] else {
                Issue.record("\(name) is no link")
                continue
            }
            #expect(target == "busybox")
        }
    }
}
