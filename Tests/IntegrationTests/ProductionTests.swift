import Bytes
import Crypto
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// The production image, booted once.
    @Suite(.serialized, Built.whole, .productionBoot) struct ProductionTests {
        static let nonce = String(repeating: "5a", count: 32)

        /// The node's evidence for `nonce`, as a file in `folder`.
        static func collect(into folder: TemporaryFolder, nonce: String = nonce) async throws -> String {
            let file = folder.path + "/evidence.json"
            let node = try ProductionBoot.node
            let result = try await node.nacre(
                "evidence", "collect", "--endpoint", node.endpoint(), "--nonce", nonce, "--out", file)
            #expect(result.status == 0, "\(result.errors)")
            return file
        }

        @Test func `up accepts it, says what protects it, and in which stages it came up`() throws {
            let first = try ProductionBoot.first
            try #require(first.status == 0, "\(first.errors)")
            let result = try JSON(parsing: first.output)
            #expect(result["schema"]?.string == "nacre.up.v1")
            let node = try #require(result["nodes"]?.array?.first)
            #expect(node["verdict"]?.string == "accept")
            #expect(node["protection"]?.string == "none-local-tpm")
            let stages = node["stages"]?.array?.compactMap { $0["name"]?.string }
            #expect(stages?.suffix(5) == ["kernel", "initrd", "root", "attestable", "verified"])
            #expect(try ProductionBoot.node.processes().count == 2, "QEMU and swtpm")
        }

        /// The TPM's endorsement key, its certificate's chain, and a credential that this very boot activated.
        @Test func `a certified TPM counts for whoever names its authority, live and not later`() async throws {
            guard let authority = try ProductionBoot.authority else { return }
            let folder = try TemporaryFolder()
            let node = try ProductionBoot.node
            func policy(_ root: [UInt8]) async throws -> String {
                let shown = try await node.nacre("policy", "show", "-o", "json", "--allow-development")
                var fields = try #require(try JSON(parsing: shown.output).object)
                fields["allowTPMRoot"] = "certified"
                fields["endorsementRoots"] = [.string(String(decoding: root, as: UTF8.self))]
                return try folder.file("policy-\(UInt32.random(in: 0 ... .max)).json", JSON.object(fields).compact)
            }
            let named = try await policy(authority.certificates().issuer)
            let live = try await node.verify("--policy", named)
            try #require(live.status == 0, "\(live.errors)\(live.text)")
            let verdict = try JSON(parsing: live.output)
            #expect(verdict["claims"]?["tpmRoot"]?.string == "certified")
            // The same TPM by rules that name nobody.
            let unnamed = try JSON(parsing: try await node.verify().output)
            #expect(unnamed["marks"]?.array?.contains("development") == true)
            #expect(unnamed["claims"]?["tpmRoot"]?.string != "certified")

            let stranger = try #require(try SoftwareTPM.Authority())
            _ = try SoftwareTPM(authority: stranger)
            let refused = try await node.verify("--policy", policy(stranger.certificates().issuer))
            #expect(refused.status == 3)
            #expect(try JSON(parsing: refused.output)["reason"]?.string == "key-ek-chain")

            let saved = try await Self.collect(into: folder)
            let later = try await node.nacre(
                "evidence", "verify", "--evidence", saved, "--manifest", Built.manifest, "--bundle", Built.bundle,
                "--trust-root", Built.trustRoot, "--nonce", Self.nonce, "--policy", named, "-o", "json")
            #expect(later.status == 3, "\(later.errors)")
            #expect(try JSON(parsing: later.output)["reason"]?.string == "key-activation")
        }

        @Test func `up again finds that all is well`() async throws {
            let again = try await ProductionBoot.node.up()
            #expect(again.status == 0, "\(again.errors)")
            let (node, before) = (try JSON(parsing: again.output), try JSON(parsing: ProductionBoot.first.output))
            #expect(node["clusterID"] == before["clusterID"])
            #expect(node["nodes"]?.array?.first?["verdict"]?.string == "accept")
        }

        @Test(arguments: [HashAlgorithm.sha256, .sha384])
        func `predicted registers equal the quoted ones`(bank: HashAlgorithm) async throws {
            let folder = try TemporaryFolder()
            let evidence = try JSON(parsing: readFile(await Self.collect(into: folder)))
            #expect(evidence["schema"]?.string == "nacre.evidence.v1")
            let quoted = try #require(evidence["tpm"]?["pcrs"]?[bank.rawValue])
            let document = try JSON(parsing: readFile(Built.image + "/measurements.json"))
            let predicted = try #require(document["tpm"]?[bank.rawValue])
            for register in ["4", "5", "7", "9", "12", "13", "15"] {
                let value = try #require(predicted[register]?.string, "register \(register) is predicted")
                #expect(quoted[register]?.string == value, "register \(register)")
            }
            // The values of register 11 follow from each other by the phases' names, up to the one that nodes answer in.
            let phases = try #require(predicted["11"])
            var value = try #require(Hex.decode(phases["enter-initrd"]?.string ?? ""))
            for phase in ["leave-initrd", "sysinit", "ready", "nacre-attestable"] {
                value = bank.hash(value + bank.hash(Array(phase.utf8)))
                #expect(phases[phase]?.string == Hex.encode(value), "after \(phase)")
            }
            #expect(quoted["11"]?.string == Hex.encode(value))
        }

        @Test func `verify accepts the live node and marks it as development`() async throws {
            let node = try ProductionBoot.node
            let result = try await node.verify()
            #expect(result.status == 0, "\(result.errors)\(result.text)")
            let verdict = try JSON(parsing: result.output)
            #expect(verdict["verdict"]?.string == "accept")
            #expect(verdict["marks"] == ["development"])
            let text = try await node.nacre("verify", "--dir", node.directory)
            #expect(text.status == 0, "\(text.errors)")
            #expect(text.text.contains("proves nothing against that host"))
            // Without --dir or an option nothing is lenient, not even towards this machine.
            let bare = try await node.nacre(["verify", node.endpoint(), "-o", "json"] + LocalNode.production)
            #expect(bare.status == 3)
            #expect(try JSON(parsing: bare.output)["reason"]?.string?.hasPrefix("policy") == true)
        }

        @Test func `a production policy refuses a TPM that nobody vouches for`() async throws {
            let folder = try TemporaryFolder()
            let node = try ProductionBoot.node
            let policy = try await node.nacre("policy", "show", "-o", "json")
            let file = try folder.file("policy.json", policy.output)
            let result = try await node.verify(by: nil, "--policy", file)
            #expect(result.status == 3)
            #expect(try JSON(parsing: result.output)["reason"]?.string?.hasPrefix("policy") == true)
        }

        @Test func `it speaks HTTPS with TLS 1.3 and nothing older`() async throws {
            let url = "https://\(try ProductionBoot.node.endpoint())/v1/evidence?nonce=\(Self.nonce)"
            guard let curl = Tool.find("curl") else { return }
            let answer = try Tool.run([curl, "-sk", "--max-time", "30", url])
            #expect(answer.status == 0)
            #expect(try JSON(parsing: answer.output)["nonce"]?.string == Self.nonce)
            let old = try Tool.run([curl, "-sk", "--max-time", "30", "--tls-max", "1.2", url])
            #expect(old.status == 35, "curl: the TLS handshake failed")
            let plain = try Tool.run([curl, "-s", "--max-time", "30", "http" + url.dropFirst(5)])
            #expect(plain.status != 0)
        }

        @Test(arguments: [
            "", "?nonce=", "?nonce=zz", "?nonce=00ff", "?nonce=\(nonce)\(nonce)00", "?nonce=\(nonce)&a=b",
        ])
        func `a question without a usable nonce is answered with 400`(query: String) throws {
            guard let curl = Tool.find("curl") else { return }
            let url = "https://\(try ProductionBoot.node.endpoint())/v1/evidence\(query)"
            let answer = try Tool.run([curl, "-sk", "--max-time", "30", "-w", "\n%{http_code}", url])
            let lines = answer.text.split(separator: "\n")
            #expect(lines.last == "400")
            #expect(try JSON(parsing: String(lines.first ?? ""))["schema"]?.string == "nacre.error.v1")
        }

        @Test func `logs show the stage timings`() async throws {
            let node = try ProductionBoot.node
            let logs = try await node.nacre("logs", "--dir", node.directory)
            #expect(logs.status == 0)
            let line = logs.text.split(separator: "\n").first { $0.contains("nacre: stages ") }
            for stage in ["kernel=", "initrd=", "root=", "attestable="] {
                #expect(line?.contains(stage) == true, "\(stage) in \(line ?? "no line")")
            }
        }
    }
}
