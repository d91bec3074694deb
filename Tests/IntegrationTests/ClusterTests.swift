import Bytes
import Crypto
import TestKit
import Testing

extension IntegrationTests {
    /// The production image, booted once and made somebody's.
    @Suite(.serialized, Built.whole, .productionBoot) struct OwnedClusterTests {
        static func passphrase(_ text: String, in folder: TemporaryFolder) throws -> String {
            try folder.file("passphrase", text + "\n")
        }

        @Test func `init, init again, status, logs, a second owner, and register 15 as predicted`() async throws {
            let folder = try TemporaryFolder()
            let node = try ProductionBoot.node
            let words = try Self.passphrase("correct horse battery", in: folder)
            let before = try JSON(parsing: readFile(node.directory + "/cluster.json"))
            #expect(before["clusterID"] == nil)

            let first = try await node.nacre(
                "init", "--dir", node.directory, "--passphrase-file", words, "--no-wait", "-o", "json")
            try #require(first.status == 0, "\(first.errors)\(first.text)")
            let result = try JSON(parsing: first.output)
            let id = try #require(result["clusterID"]?.string)
            #expect(result["nodes"]?.array?.first?["phase"]?.string == "run")
            let document = try JSON(parsing: readFile(node.directory + "/cluster.json"))
            #expect(document["clusterID"]?.string == id)
            let owner = try #require(document["owner"]?.string)
            for file in ["owner.key", "cluster.secret"] {
                let text = String(decoding: try readFile("\(node.directory)/\(file)"), as: UTF8.self)
                #expect(text.contains("nacre.sealed.v1") && !text.contains("PRIVATE"))
                #expect(try Tool.run(["stat", "-c", "%a", "\(node.directory)/\(file)"]).text == "600\n")
            }

            let again = try await node.nacre(
                "init", "--dir", node.directory, "--passphrase-file", words, "--no-wait", "-o", "json")
            #expect(again.status == 0, "\(again.errors)")
            #expect(try JSON(parsing: again.output)["clusterID"]?.string == id)

            try await expectRegister15(of: node, id: id, owner: owner, in: folder)
            try await expectStatus(of: node, words: words)
            try await expectOthersRefused(node, id: id, folder)
            try expectNoSecrets(node, words: words)
            try expectNoSecretsOfCommand(node, words: words)
        }

        /// Register 15 is what the cluster's id and owner lead to, and `verify` says so.
        private func expectRegister15(
            of node: LocalNode, id: String, owner: String, in folder: TemporaryFolder
        ) async throws {
            let evidence = try JSON(
                parsing: readFile(await IntegrationTests.ProductionTests.collect(into: folder)))
            let event = Array("nacre-cluster:\(id):\(owner)".utf8)
            for bank in [HashAlgorithm.sha256, .sha384] {
                let expected = bank.hash([UInt8](repeating: 0, count: bank.size) + bank.hash(event))
                #expect(evidence["tpm"]?["pcrs"]?[bank.rawValue]?["15"]?.string == Hex.encode(expected))
            }
            let told = try await node.nacre("verify", "--dir", node.directory, "-o", "json")
            #expect(told.status == 0, "\(told.errors)\(told.text)")
            let verdict = try JSON(parsing: told.output)
            #expect(verdict["claims"]?["cluster"]?["id"]?.string == id)
            #expect(verdict["unchecked"]?.array?.contains { $0.string?.hasPrefix("cluster") == true } == false)
            let untold = try await node.verify()
            #expect(untold.status == 0, "\(untold.errors)")
            #expect(
                try JSON(parsing: untold.output)["unchecked"]?.array?.contains {
                    $0.string?.hasPrefix("cluster: the node is in \(id.prefix(16))") == true
                } == true)
            let other = try await node.verify(
                "--allow-development", "--cluster-id", String(repeating: "ab", count: 32))
            #expect(other.status == 3)
            #expect(try JSON(parsing: other.output)["reason"]?.string == "cluster-other")
        }

        private func expectStatus(of node: LocalNode, words: String) async throws {
            let status = try await node.nacre(
                "status", "--dir", node.directory, "--passphrase-file", words, "-o", "json")
            #expect(status.status == 0, "\(status.errors)")
            let live = try #require(try JSON(parsing: status.output)["nodes"]?.array?.first)
            #expect(live["phase"]?.string == "run")
            #expect(live["verified"]?["verdict"]?.string == "accept")
            #expect(
                live["phases"]?.array?.compactMap { $0["name"]?.string }
                    == ["attest", "wait", "keys", "disk", "measure", "run"])
            let logs = try await node.nacre("logs", "--dir", node.directory, "--passphrase-file", words)
            #expect(logs.status == 0, "\(logs.errors)")
            #expect(logs.text.contains("in cluster"))
            #expect(
                String(decoding: try readFile(node.directory + "/logs/control-plane-0.log"), as: UTF8.self)
                    .contains("in cluster"))
        }

        /// A directory of the same machine with other keys, and one with the same cluster and another passphrase.
        private func expectOthersRefused(_ node: LocalNode, id: String, _ folder: TemporaryFolder) async throws {
            let wrong = try folder.file("wrong", "wrong\n")
            let denied = try await node.nacre("init", "--dir", node.directory, "--passphrase-file", wrong)
            #expect(denied.status == 1)
            #expect(denied.errors.contains("sealed-passphrase"))
            let thief = folder.path + "/thief"
            _ = try Tool.run(["mkdir", thief])
            var fields = try #require(JSON(parsing: readFile(node.directory + "/cluster.json")).object)
            fields["clusterID"] = nil
            fields["owner"] = nil
            _ = try folder.file("thief/cluster.json", JSON.object(fields).pretty)
            let refused = try await node.nacre("init", "--dir", thief, "--passphrase-file", wrong, "-o", "json")
            #expect(refused.status == 3, "\(refused.errors)")
            let result = try JSON(parsing: refused.output)["nodes"]?.array?.first
            #expect(result?["reason"]?.string == "cluster-other")
            #expect(try node.console().contains("in cluster \(id)"))
        }
    }
}
