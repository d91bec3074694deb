import Bytes
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// `nacre image build`, killed (SIGKILL, itself alone: what it started may go on for a while) and run again.
    @Suite(.serialized, Built.long) struct InterruptedBuildTests {
        private static let home = unsafe getenv("HOME").map { unsafe String(cString: $0) } ?? "/root"

        @Test func `killed at any moment it can be run again, and nothing half made is taken for whole`() async throws {
            let seed = UInt64.random(in: 0 ... .max)
            print("moments of seed \(seed)")
            var generator = SeededGenerator(seed: seed)
            let folder = try TemporaryFolder()
            // The packages of this machine, and no tools tree yet: that is made on the way too.
            let cache = folder.path + "/cache"
            try #require(unsafe mkdir(cache, 0o755) == 0)
            for name in ["packages", "kubernetes"] {
                try #require(unsafe symlink("\(Self.home)/.cache/nacre/\(name)", "\(cache)/\(name)") == 0)
            }
            let result = folder.path + "/build/image"
            let command = [
                Built.nacre, "image", "build", "--configuration", Built.root + "/mkosi", "--binaries",
                Files.folder(of: Built.bootstrapper), "--key", Built.key, "--cache", cache, "--out", result, "-o",
                "json",
            ]
            func run(_ command: [String]) async throws -> Tool.Output {
                try await onThread { Result { try Tool.run(command) } }.get()
            }
            // Twice: towards the first result, then towards one that replaces it.
            for round in 1...2 {
                for limit in [0.3, 10, 60] {
                    let seconds = Double.random(in: 0.01...limit, using: &generator)
                    let killed = try await run(
                        ["timeout", "--foreground", "--signal", "KILL", String(seconds)] + command)
                    #expect(killed.status == 137, "after \(seconds) s: \(killed.errors)")
                    if unsafe access(result, F_OK) == 0 { try Self.expectWhole(result) }
                }
                let whole = try await run(command)
                try #require(whole.status == 0, "round \(round): \(whole.errors)")
                try Self.expectWhole(result)
                let left = try Tool.run(["ls", "-A", folder.path + "/build"]).text
                #expect(left == "image\n", "unfinished work of killed builds is taken away")
            }
            let trees = try Tool.run(["ls", "-A", cache + "/tools"]).text.split(separator: "\n")
            #expect(trees.filter { $0 != ".lock" }.count == 1, "one tools tree and no part of another: \(trees)")
        }

        /// The manifest in `directory` is signed, and its digests are those of the files beside it.
        private static func expectWhole(_ directory: String) throws {
            let manifest = directory + "/manifest.json"
            let verified = try Tool.run([
                Built.nacre, "manifest", "verify", "--manifest", manifest, "--bundle", manifest + ".sigstore.json",
                "--trust-root", Built.trustRoot,
            ])
            #expect(verified.status == 0, "\(verified.errors)\(verified.text)")
            let files = try JSON(parsing: readFile(manifest))["files"]
            for (field, name) in [("raw", "nacre.raw"), ("uki", "nacre.efi")] {
                let found = try Tool.run(["sha256sum", "\(directory)/\(name)"]).text.prefix(64)
                #expect(files?[field]?["sha256"]?.string == String(found), "\(name)")
            }
            for name in ["measurements.json", "firmware/OVMF_CODE_4M.fd", "nacre.raw.zst", "contents.json"] {
                #expect(unsafe access("\(directory)/\(name)", R_OK) == 0, "\(name)")
            }
        }
    }
}
