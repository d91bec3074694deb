import Attestation
import Bytes
import Cluster
import Crypto
import Manifest
import SyntheticNode
import TestKit
import Testing

@Suite("config, init, status: arguments and files")
struct ClusterCommandTests {
    @Test("config generate writes once, validate accepts it and names what is wrong in a changed one")
    func config() throws {
        let folder = try TemporaryFolder()
        let made = try Nacre.run("config", "generate", "qemu", "--dir", folder.path, "-o", "json")
        #expect(made.status == 0, "\(made.errors)")
        #expect(try Nacre.json(made)["file"]?.string == folder.path + "/nacre.yaml")
        #expect(try Nacre.run("config", "generate", "qemu", "--dir", folder.path).status == 1)
        let valid = try Nacre.run("config", "validate", "--dir", folder.path, "-o", "json")
        #expect(valid.status == 0, "\(valid.errors)")
        #expect(try Nacre.json(valid)["controlPlanes"]?.integer == 1)
        let file = folder.path + "/nacre.yaml"
        let text = String(decoding: try readFile(file), as: UTF8.self)
        _ = try folder.file("nacre.yaml", text.replacing("cpus: 2", with: "cpus: none"))
        let invalid = try Nacre.run("config", "validate", file)
        #expect(invalid.status == 2)
        #expect(invalid.errors.contains("cpus") && invalid.errors.contains("1 to 256"))
        #expect(invalid.errors.contains("line "))
        #expect(try Nacre.run("config", "generate", "aws", "--dir", folder.path).status == 2)
        let schema = try Nacre.json(try Nacre.run("config", "schema"))
        #expect(schema["properties"]?["controlPlanes"]?["maximum"]?.integer == 16)
    }

    @Test("without a cluster or a passphrase nothing is asked and nothing is made")
    func absent() throws {
        let folder = try TemporaryFolder()
        let words = try folder.file("words", "w\n")
        let without = try Nacre.run("init", "--dir", folder.path, "--passphrase-file", words)
        #expect(without.status == 1 && without.errors.contains("local-absent"))
        #expect(try Nacre.run("recover", "--dir", folder.path, "--passphrase-file", words).status == 1)
        #expect(try Nacre.run("create", "--dir", folder.path).status == 2, "no nacre.yaml")
        #expect(try Tool.run(["ls", "-A", folder.path]).text == "words\n")
        let cluster = """
            {"schema":"nacre.cluster.v1","provider":"qemu","instance":"00112233445566778899aabbccddeeff",
             "created":"2026-01-01T00:00:00Z","rules":"development","firmware":{"code":"/c","variables":"/v"},
             "memoryMiB":2048,"processors":2,"nodes":[]}
            """
        _ = try folder.file("cluster.json", cluster)
        for (name, text) in [("empty", "\n"), ("long", String(repeating: "a", count: 1025))] {
            let file = try folder.file(name, text)
            let refused = try Nacre.run("init", "--dir", folder.path, "--passphrase-file", file)
            #expect(refused.status == 2 && refused.errors.contains("passphrase"), "\(refused.errors)")
        }
        #expect(try Nacre.run("init", "--dir", folder.path, "--passphrase-file", folder.path + "/no").status == 2)
        // No terminal here, and no file.
        #expect(try Nacre.run("init", "--dir", folder.path).status == 2)
    }

    @Test("certificates and pods' network in nacre.yaml: what is allowed, and nothing else")
    func wishes() throws {
        let folder = try TemporaryFolder()
        func validate(_ lines: String) throws -> Int32 {
            let file = try folder.file("nacre.yaml", "version: v1\nprovider: qemu\n\(lines)\n")
            return try Nacre.run("config", "validate", file).status
        }
        for lines in ["certificateLifetime: 24h\ncni: cilium", "certificateLifetime: 30s", "certificateLifetime: 720h"]
        {
            #expect(try validate(lines) == 0, "\(lines)")
        }
        for lines in [
            "certificateLifetime: 29s", "certificateLifetime: 721h", "certificateLifetime: 024h",
            "certificateLifetime: 1d", "certificateLifetime: h", "cni: none",
        ] { #expect(try validate(lines) == 2, "\(lines)") }
    }

    @Test("the policy of a directory is signed, shown, listed; an older or another owner's is refused")
    func policy() throws {
        let folder = try TemporaryFolder()
        let words = try folder.file("words", "w\n")
        let owner = try OwnerKey()
        var passphrase = Array("w".utf8)
        let sealed = try owner.sealed(passphrase: Secret(wiping: &passphrase), logN: 4)
        _ = try folder.file("owner.key", sealed.json.pretty)
        let id = [UInt8](repeating: 7, count: 32)
        let cluster: JSON = [
            "schema": "nacre.cluster.v1", "provider": "qemu", "instance": "00112233445566778899aabbccddeeff",
            "clusterID": .hex(id), "owner": .hex(owner.digest), "created": "2026-01-01T00:00:00Z",
            "rules": "development", "firmware": ["code": "/c", "variables": "/v"], "memoryMiB": 2048, "processors": 2,
            "nodes": [],
        ]
        _ = try folder.file("cluster.json", cluster.pretty)
        func policy(_ version: Int, revoked: Bool = false, cluster: [UInt8]? = nil) throws -> String {
            let json: JSON = [
                "schema": "nacre.clusterpolicy.v1", "clusterID": .hex(cluster ?? id),
                "version": .integer(Int128(version)),
                "nodes": [
                    ["name": "control-plane-0", "role": "control-plane", "index": 1],
                    ["name": "worker-0", "role": "worker", "index": 2, "revoked": .bool(revoked)],
                ],
                "images": [.base64(try SyntheticNode.manifest().bytes)],
                "attestation": AppraisalPolicy.development.json,
                "certificateLifetime": 60, "cni": "bridge", "apiNames": [],
            ]
            return try folder.file("wanted.json", json.pretty)
        }
        func sign(_ path: String) throws -> Tool.Output {
            try Nacre.run("policy", "sign", path, "--dir", folder.path, "--passphrase-file", words)
        }
        #expect(try Nacre.run("node", "list", "--dir", folder.path).errors.contains("policy-missing"))
        let first = try sign(try policy(1))
        #expect(first.status == 0, "\(first.errors)")
        let listed = try Nacre.json(try Nacre.run("node", "list", "--dir", folder.path, "-o", "json"))
        #expect(listed["policy"]?.integer == 1)
        #expect(listed["nodes"]?.array?.last?["address"]?.string == "10.200.0.2")
        let second = try sign(try policy(2, revoked: true))
        #expect(second.status == 0 && second.text.contains("REVOKED"), "\(second.errors)")
        #expect(try sign(try policy(1)).errors.contains("policy-rollback"))
        #expect(try sign(try policy(2)).errors.contains("policy-conflict"))
        #expect(try sign(try policy(3, cluster: [UInt8](repeating: 8, count: 32))).errors.contains("cluster-other"))
        // What is shown can be signed again.
        let shown = try Nacre.run("policy", "show", "--cluster", "--dir", folder.path, "-o", "json")
        #expect(shown.status == 0, "\(shown.errors)")
        #expect(try sign(try folder.file("shown.json", shown.text)).status == 0)
        #expect(try Nacre.run("policy", "show", "--cluster", "--dir", folder.path).text.contains("version 2"))
        // A file that somebody else changed is noticed.
        let path = "\(folder.path)/policy.json"
        let text = String(decoding: try readFile(path), as: UTF8.self)
        _ = try folder.file("policy.json", text.replacing(#""revoked":true"#, with: #""revoked":false"#))
        #expect(try Nacre.run("node", "list", "--dir", folder.path).errors.contains("signature-policy"))
    }
}
