import Bytes
import TestKit
import Testing

extension IntegrationTests {
    /// Whole nodes with a simulated TEE: the bootstrapper inside is the released one, and takes it for the kernel's.
    @Suite(.serialized) struct SimulatedNodeTests {
        /// The options that name the image's own manifest.
        private static func own(_ image: String) -> [String] {
            let manifest = image + "/manifest.json"
            return ["--manifest", manifest, "--bundle", manifest + ".sigstore.json", "--trust-root", Built.trustRoot]
        }

        private static func roots() throws -> JSON {
            try JSON(parsing: readFile(Built.simulatedKeys + "/roots.json"))
        }

        /// A built-in policy with `change` applied, as a file.
        private static func policy(
            _ folder: TemporaryFolder, _ node: LocalNode, development: Bool, _ change: (inout [String: JSON]) -> Void
        ) async throws -> String {
            let shown =
                try await development
                ? node.nacre("policy", "show", "-o", "json", "--allow-development")
                : node.nacre("policy", "show", "-o", "json")
            var policy = try #require(try JSON(parsing: shown.output).object)
            change(&policy)
            return try folder.file("policy-\(UInt32.random(in: 0 ... .max)).json", JSON.object(policy).compact)
        }

        @Test(Built.whole) func `the programs that are released hold nothing of it`() throws {
            for program in [Built.nacre, Built.bootstrapper] {
                // The module's name is in every mangled name, the other in every certificate.
                let found = try Tool.run([
                    "grep", "-a", "-c", "-e", "SimulatedTEE", "-e", "Nacre Simulated TEE", program,
                ])
                #expect(found.status == 1, "\(program): \(found.text)")
                #expect(
                    try Tool.run(["grep", "-a", "-c", "nacre.evidence.v1", program]).status == 0, "strings are found")
            }
        }

        @Test(Built.ifBuilt(Built.simulatedImage))
        func `SEV-SNP: accepted, marked simulated, by a policy that names the root and by no other`() async throws {
            let own = Self.own(Built.simulatedImage)
            // By its own manifest it does not even start: nothing built in names the root.
            let unstarted = try await LocalNode(image: Built.simulatedImage + "/nacre.raw", manifest: own).up()
            #expect(unstarted.status == 3, "\(unstarted.errors)")
            #expect(try JSON(parsing: unstarted.output)["reason"]?.string == "policy-simulated-profile")
            let node = try LocalNode(image: Built.simulatedImage + "/nacre.raw")
            let up = try await node.up()
            #expect(up.status == 3, "\(up.errors)\(up.text)")
            let folder = try TemporaryFolder()
            let roots = try Self.roots()
            let naming = try await Self.policy(folder, node, development: true) { $0["simulatedRoots"] = roots }
            let accepted = try await node.verify(by: own, "--policy", naming)
            #expect(accepted.status == 0, "\(accepted.text)\(accepted.errors)")
            let verdict = try JSON(parsing: accepted.output)
            #expect(verdict["claims"]?["protection"]?.string == "simulated")
            #expect(verdict["claims"]?["platform"]?.string == "sev-snp")
            #expect(verdict["marks"]?.array?.contains("simulated") == true)

            let builtIn = try await node.verify(by: own)
            #expect(builtIn.status == 3)
            #expect(try JSON(parsing: builtIn.output)["reason"]?.string == "policy-simulated-profile")
            let other = try await Self.policy(folder, node, development: true) {
                $0["simulatedRoots"] = [.string(String(repeating: "00", count: 32))]
            }
            let refused = try await node.verify(by: own, "--policy", other)
            #expect(refused.status == 3)
            #expect(try JSON(parsing: refused.output)["reason"]?.string == "chain-root")
            // The launch digest is the firmware's: who does not let the host's TPM through refuses the node.
            let strict = try await Self.policy(folder, node, development: false) {
                $0["simulatedRoots"] = roots
                $0["allowDevelopmentKey"] = true
            }
            let untrusted = try await node.verify(by: own, "--policy", strict)
            #expect(untrusted.status == 3)
            #expect(try JSON(parsing: untrusted.output)["reason"]?.string == "policy-tpm-root")
            try await node.endsWithoutTrace()
        }

        @Test(Built.ifBuilt(Built.simulatedImage))
        func `SEV-SNP: a cluster of two, a power cut, unattended rejoin, all off, recover`() async throws {
            let folder = try TemporaryFolder()
            let words = try folder.file("passphrase", "correct horse battery\n")
            let roots = try Self.roots()
            let naming = try await Self.policy(folder, LocalNode(), development: true) { $0["simulatedRoots"] = roots }
            let cluster = try LocalNode(
                image: Built.simulatedImage + "/nacre.raw", manifest: Self.own(Built.simulatedImage),
                options: ["--workers", "1", "--policy", naming, "--passphrase-file", words, "--no-wait"])
            let story = ClusterStory(cluster: cluster, words: words)
            let first = try await cluster.up()
            try #require(first.status == 0, "\(first.errors)\(first.text)")
            for node in try JSON(parsing: first.output)["nodes"]?.array ?? [] {
                #expect(node["protection"]?.string == "simulated")
            }
            let both = [ClusterStory.plane, ClusterStory.worker]
            for name in both { try await story.expectOpen(name, generation: 1) }

            try await story.stop(ClusterStory.worker, "--power-cut")
            try await story.start(ClusterStory.worker)
            try await story.expectOpen(ClusterStory.worker, generation: 2)
            #expect(try cluster.console(of: ClusterStory.worker).contains("claimed by rejoin through 10.0.2.2:"))

            for name in both { try await story.stop(name, "--power-cut") }
            for name in both { try await story.start(name) }
            try await story.expectWaiting(ClusterStory.plane, nil)
            try await story.command("recover")
            try await story.expectOpen(ClusterStory.plane, generation: 2)
            try await story.expectOpen(ClusterStory.worker, generation: 3)
            let verified = try await cluster.nacre("verify", "--dir", cluster.directory, "-o", "json")
            #expect(verified.status == 0, "\(verified.errors)")
            try await cluster.endsWithoutTrace()
        }

        @Test(Built.ifBuilt(Built.simulatedTDXImage))
        func `TDX: production, the root named, accepts MRTD and RTMRs that the manifest predicts`() async throws {
            let own = Self.own(Built.simulatedTDXImage)
            let node = try LocalNode(image: Built.simulatedTDXImage + "/nacre.raw")
            let up = try await node.up()
            #expect(up.status == 3, "the production manifest is another image's: \(up.errors)\(up.text)")
            let folder = try TemporaryFolder()
            let (evidence, bundle) = (folder.path + "/evidence.json", folder.path + "/bundle.json")
            let nonce = String(repeating: "5a", count: 32)
            let collected = try await node.nacre(
                "evidence", "collect", "--endpoint", node.endpoint(), "--nonce", nonce, "--out", evidence)
            #expect(collected.status == 0, "\(collected.errors)")
            let bundled = try await node.nacre(
                "evidence", "bundle", "--evidence", evidence, "--manifest", own[1], "--collateral",
                Built.simulatedKeys + "/collateral.json", "--out", bundle)
            #expect(bundled.status == 0, "\(bundled.errors)")
            try await node.endsWithoutTrace()

            // Judged later, the machine gone.
            let roots = try Self.roots()
            func verify(_ change: (inout [String: JSON]) -> Void) async throws -> Tool.Output {
                let policy = try await Self.policy(folder, node, development: false, change)
                return try await node.nacre(
                    "evidence", "verify", "--evidence", bundle, "--trust-root", Built.trustRoot, "--nonce", nonce,
                    "--policy", policy, "-o", "json")
            }
            let accepted = try await verify {
                $0["simulatedRoots"] = roots
                $0["allowDevelopmentKey"] = true
            }
            #expect(accepted.status == 0, "\(accepted.text)\(accepted.errors)")
            let verdict = try JSON(parsing: accepted.output)
            #expect(verdict["claims"]?["protection"]?.string == "simulated")
            #expect(verdict["claims"]?["platform"]?.string == "tdx")
            #expect(verdict["marks"]?.array?.contains("simulated") == true)
            let refused = try await verify {
                $0["simulatedRoots"] = [.string(String(repeating: "00", count: 32))]
                $0["allowDevelopmentKey"] = true
            }
            #expect(refused.status == 3)
            #expect(try JSON(parsing: refused.output)["reason"]?.string == "pck-chain")
        }
    }
}
