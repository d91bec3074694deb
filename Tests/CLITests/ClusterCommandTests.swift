import Bytes
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
}
