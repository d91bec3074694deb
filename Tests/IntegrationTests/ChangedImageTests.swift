import Bytes
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// Images that differ from the released one, booted: the node may come up, but nobody takes it for the real one.
    @Suite(.serialized, Built.whole) struct ChangedImageTests {
        /// Boots `disk`, expects that `up` and `verify` reject it, and returns the verdict of `verify`.
        static func rejected(_ disk: DiskCopy, host: HostInputs = HostInputs()) async throws -> JSON {
            let node = try LocalNode(image: disk.path, host: host)
            let up = try await node.up()
            #expect(up.status == 3, "\(up.errors)\(up.text)")
            let result = try JSON(parsing: up.output)
            #expect(result["nodes"]?.array?.first?["verdict"]?.string == "reject")
            #expect(result["nodes"]?.array?.first?["protection"]?.string == nil, "a rejected node protects nothing")
            let verify = try await node.verify()
            #expect(verify.status == 3)
            let verdict = try JSON(parsing: verify.output)
            #expect(verdict["reason"]?.string == "register-mismatch")
            let text = try await node.nacre("verify", "--dir", node.directory)
            #expect(text.status == 3)
            #expect(text.text.contains("first difference at event"), "\(text.text)")
            try await node.endsWithoutTrace()
            return verdict
        }

        /// In both banks the explanation of `register` names `what`.
        static func expect(_ verdict: JSON, explains register: String, by what: String) {
            for bank in ["sha256", "sha384"] {
                let text = ProductionTests.explanation(verdict, of: "tpm/\(bank)/\(register)")
                #expect(text?.contains(what) == true, "\(bank)/\(register): \(text ?? "no explanation")")
            }
        }

        @Test func `one byte of the command line: the UKI and its section are named`() async throws {
            let disk = try DiskCopy()
            try disk.replace("panic=10", with: "panic=11", in: .cmdline)
            let verdict = try await Self.rejected(disk)
            #expect(verdict["claim"]?.string == "tpm/sha256/4")
            #expect(verdict["next"]?.string?.contains("expected UKI") == true)
            Self.expect(verdict, explains: "4", by: "UKI")
            Self.expect(verdict, explains: "9", by: "command line")
            Self.expect(verdict, explains: "11", by: ".cmdline")
        }

        @Test func `one bit of the root: it resets, never answers, and shows no shell`() async throws {
            let disk = try DiskCopy()
            try disk.flipRootBit()
            let node = try LocalNode(image: disk.path)
            let up = try await node.up()
            #expect(up.status == 1, "\(up.errors)\(up.text)")
            let result = try #require(try JSON(parsing: up.output)["nodes"]?.array?.first)
            #expect(result["verdict"] == .null, "nobody could judge it")
            #expect(result["reason"]?.string == "local-reboots")
            let console = try node.console()
            #expect(!console.contains("nacre: stages "), "attestable")
            #expect(console.contains("dm-verity device corrupted"), "\(console.suffix(2000))")
            for prompt in ["login:", "sh-5", "\n# ", "emergency mode", "Give root password", "(initramfs)"] {
                #expect(!console.contains(prompt), "\(prompt)")
            }
            try await node.endsWithoutTrace()
        }

        @Test(Built.long) func `one byte of the kernel: the UKI, the kernel and .linux are named`() async throws {
            let disk = try DiskCopy()
            // In the version that file(1) reads; the kernel itself has another copy.
            try disk.replace("(debian-kernel@", with: "(debian-Kernel@", in: .linux)
            let verdict = try await Self.rejected(disk)
            #expect(verdict["claim"]?.string == "tpm/sha256/4")
            Self.expect(verdict, explains: "11", by: ".linux")
        }

        @Test(Built.long) func `one byte of the initrd: its section is named`() async throws {
            let disk = try DiskCopy()
            try disk.changeInitrd()
            let verdict = try await Self.rejected(disk)
            #expect(verdict["claim"]?.string == "tpm/sha256/4")
            Self.expect(verdict, explains: "9", by: "nitrd")
            Self.expect(verdict, explains: "11", by: ".initrd")
        }

        @Test(Built.long) func `another partition table is named, and nothing else differs`() async throws {
            let disk = try DiskCopy()
            try disk.changeDiskGUID()
            let verdict = try await Self.rejected(disk)
            #expect(verdict["claim"]?.string == "tpm/sha256/5")
            Self.expect(verdict, explains: "5", by: "partition table")
            let registers = verdict["claims"]?["explanations"]?.array?.compactMap { $0["register"]?.string }
            #expect(registers == ["tpm/sha256/5", "tpm/sha384/5"])
        }

        @Test(
            Built.long,
            .enabled("no debug image: `make image-debug`") {
                unsafe access(Built.debugImage + "/nacre.raw", R_OK) == 0 || Built.isRequired
            })
        func `the debug image is not the production one, and no production policy takes it`() async throws {
            let manifest = Built.debugImage + "/manifest.json"
            let own = [
                "--manifest", manifest, "--bundle", manifest + ".sigstore.json", "--trust-root", Built.trustRoot,
            ]
            // By its own manifest it does not even start unless that is asked for.
            let refused = try await LocalNode(image: Built.debugImage + "/nacre.raw", manifest: own).up()
            #expect(refused.status == 3, "\(refused.errors)")
            #expect(try JSON(parsing: refused.output)["reason"]?.string == "policy-debug-profile")
            let node = try LocalNode(image: Built.debugImage + "/nacre.raw")
            let up = try await node.up()
            #expect(up.status == 3, "\(up.errors)")
            #expect(try await node.verify(by: own).status == 3, "--allow-development is not enough")
            let accepted = try await node.verify(by: own, "--allow-development", "--allow-debug")
            #expect(accepted.status == 0, "\(accepted.text)")
            #expect(try JSON(parsing: accepted.output)["marks"]?.array?.contains("debug") == true)
            // All but the debug profile allowed, so that nothing else can be the reason.
            let shown = try await node.nacre("policy", "show", "--allow-development", "-o", "json")
            let folder = try TemporaryFolder()
            let file = try folder.file("policy.json", shown.output)
            let judged = try await node.verify(by: own, "--policy", file)
            #expect(judged.status == 3)
            let reason = try JSON(parsing: judged.output)["reason"]?.string
            #expect(reason?.hasPrefix("policy") == true, "\(reason ?? "")")
            try await node.endsWithoutTrace()
        }
    }

    @Suite(.serialized, Built.long) struct InterruptionTests {
        @Test func `killed at any moment, up goes on where it was, and down leaves nothing`() async throws {
            let seed = UInt64.random(in: 0 ... .max)
            print("moments of seed \(seed)")
            var generator = SeededGenerator(seed: seed)
            let node = try LocalNode()
            // Early ones hit the making of variables and TPM, late ones the boot.
            for limit in [0.05, 0.2, 0.5, 2, 15] {
                let seconds = Double.random(in: 0.01...limit, using: &generator)
                let killed = try await node.up(killedAfter: seconds)
                #expect(killed.status == 137, "after \(seconds) s: \(killed.errors)")
            }
            let up = try await node.up()
            #expect(up.status == 0, "\(up.errors)")
            let processes = try node.processes()
            #expect(processes.count == 2, "one QEMU and one swtpm: \(processes)")
            try await node.endsWithoutTrace()
        }

        @Test func `down ends what a killed up left`() async throws {
            for seconds in [0.1, 0.4, 3] {
                let node = try LocalNode()
                _ = try await node.up(killedAfter: seconds)
                try await node.endsWithoutTrace()
            }
        }
    }
}
