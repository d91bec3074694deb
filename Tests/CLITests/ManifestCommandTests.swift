import Bytes
import Glibc
import Manifest
import SyntheticNode
import TestKit
import Testing

/// `nacre manifest`, by exit codes: 0 done, 2 unusable, 3 judged and rejected.
@Suite struct ManifestCommandTests {
    static let time = "2027-01-15T00:00:00Z"

    static func verify(_ release: Release, _ more: String...) throws -> Tool.Output {
        try Tool.run(
            [
                Nacre.path, "manifest", "verify", "--manifest", release.file("manifest.json"), "--bundle",
                release.file("manifest.json.sigstore.json"), "--trust-root", release.file("key.pub"), "--at", time,
                "-o", "json",
            ] + more)
    }

    @Test func `create, keygen, sign, verify and show work together`() throws {
        let folder = try TemporaryFolder()
        let path = folder.path
        let document = try folder.file("measurements.json", SyntheticNode.measurements().pretty)
        let image = try folder.file("image.raw", [UInt8](repeating: 7, count: 100_000))
        let create = try Nacre.run(
            "manifest", "create", "--measurements", document, "--raw", image, "--uki", image, "--root-hash",
            String(repeating: "0a", count: 32), "--lock", document, "--profile", "production", "--release-counter", "5",
            "--not-after", "2030-01-01T00:00:00Z", "--tool", "swift=6.3.1", "--out", "\(path)/m.json",
            "-o", "json")
        #expect(create.status == 0, "\(create.errors)")
        #expect(try Nacre.json(create)["schema"]?.string == "nacre.manifest-create.v1")
        let written = try Manifest(parsing: readFile("\(path)/m.json"))
        #expect(written.phase == "ready")
        #expect(written.files.raw.size == 100_000)
        #expect(try Tool.run(["sha256sum", image]).text.hasPrefix(Hex.encode(written.files.raw.sha256)))

        #expect(try Nacre.run("manifest", "keygen", "--out", "\(path)/dev.key").status == 0)
        var info = stat()
        #expect(unsafe stat("\(path)/dev.key", &info) == 0)
        #expect(info.st_mode & 0o777 == 0o600)
        let first = try readFile("\(path)/dev.key")
        #expect(try Nacre.run("manifest", "keygen", "--out", "\(path)/dev.key").status == 1)
        #expect(try readFile("\(path)/dev.key") == first)

        let sign = try Nacre.run(
            "manifest", "sign", "--manifest", "\(path)/m.json", "--key", "\(path)/dev.key", "-o", "json")
        #expect(sign.status == 0, "\(sign.errors)")
        #expect(try Nacre.json(sign)["schema"]?.string == "nacre.manifest-sign.v1")
        let verify = try Nacre.run(
            "manifest", "verify", "--manifest", "\(path)/m.json", "--bundle", "\(path)/m.json.sigstore.json",
            "--trust-root", "\(path)/dev.key.trustroot.json", "--at", Self.time, "-o", "json")
        #expect(verify.status == 0, "\(verify.errors)")
        let verdict = try Nacre.json(verify)
        #expect(verdict["verdict"]?.string == "accept")
        #expect(verdict["claims"]?["role"]?.string == "development")
        #expect(verdict["claims"]?["imageDigest"]?.string == Hex.encode(written.imageDigest))
        #expect(try Nacre.run("manifest", "show", "\(path)/m.json").text.contains("release 5, production"))
    }

    @Test func `a whole release is accepted, and every kind of damage refused with its reason`() throws {
        let release = try Release()
        #expect(try Self.verify(release).status == 0)
        let genuine = try SyntheticNode.manifest().bytes

        var flipped = genuine
        flipped[genuine.count / 2] ^= 1
        _ = try release.folder.file("manifest.json", flipped)
        let changed = try Self.verify(release)
        #expect(changed.status == 3)
        #expect(try Nacre.json(changed)["reason"]?.string == "manifest-digest")
        _ = try release.folder.file("manifest.json", genuine)

        let late = try Nacre.run(
            "manifest", "verify", "--manifest", release.file("manifest.json"), "--bundle",
            release.file("manifest.json.sigstore.json"), "--trust-root", release.file("key.pub"), "--at",
            "2099-01-01T00:00:00Z")
        #expect(late.status == 3)
        #expect(late.text.contains("expired-manifest"))

        let other = try Release()
        _ = try release.folder.file("key.pub", readFile(other.file("key.pub")))
        let wrong = try Self.verify(release)
        #expect(wrong.status == 3)
        #expect(try Nacre.json(wrong)["reason"]?.string == "signature-manifest")

        _ = try release.folder.file("manifest.json.sigstore.json", "{")
        #expect(try Self.verify(release).status == 2)
    }

    @Test func `what cannot be used is exit code 2, and nothing is written`() throws {
        let release = try Release()
        #expect(try Self.verify(release, "--state", "x").status == 2)
        #expect(try Nacre.run("manifest", "verify").status == 2)
        #expect(try Nacre.run("manifest", "show", release.file("absent")).status == 2)
        #expect(try Nacre.run("manifest", "show", release.file("key")).status == 2)
        #expect(try Nacre.run("manifest", "show", release.path).status == 2)
        let out = release.file("out.json")
        let sign = try Nacre.run(
            "manifest", "sign", "--manifest", release.file("evidence.json"), "--key",
            release.file("key"), "--out", out)
        #expect(sign.status == 2)
        #expect(unsafe access(out, F_OK) != 0)
        #expect(
            try Nacre.run(
                "manifest", "sign", "--manifest", release.file("manifest.json"), "--key",
                release.file("key.pub"), "--out", out
            ).status == 2)
        #expect(unsafe access(out, F_OK) != 0)
    }
}
