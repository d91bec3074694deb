import Attestation
import Bytes
import Crypto
import Glibc
import HTTP
import SyntheticNode
import TestKit
import Testing

/// `nacre evidence` and `nacre verify`, by exit codes and by what they print.
@Suite struct EvidenceCommandTests {
    static let time = ["--at", "2027-01-15T00:00:00Z"]

    static func judge(_ release: Release, _ more: String...) throws -> Tool.Output {
        try Tool.run(
            [
                Nacre.path, "evidence", "verify", "--evidence", release.file("evidence.json"), "--manifest",
                release.file("manifest.json"), "-o", "json",
            ] + time + more)
    }

    @Test func `a TPM by itself is refused unless development is allowed, and then marked`() throws {
        let release = try Release()
        let production = try Self.judge(release)
        #expect(production.status == 3)
        #expect(try Nacre.json(production)["reason"]?.string == "policy-platform")
        let development = try Self.judge(release, "--allow-development")
        #expect(development.status == 0, "\(development.errors)\(development.text)")
        let verdict = try Nacre.json(development)
        #expect(verdict["schema"]?.string == "nacre.verdict.v1")
        #expect(verdict["marks"] == ["development"])
    }

    @Test func `a policy file decides, and an empty one rejects`() throws {
        let release = try Release()
        let shown = try Nacre.run("policy", "show", "--allow-development", "-o", "json")
        let policy = try release.folder.file("policy.json", shown.output)
        #expect(try Self.judge(release, "--policy", policy).status == 0)
        let empty = try release.folder.file("empty.json", #"{"schema":"nacre.policy.v1"}"#)
        #expect(try Self.judge(release, "--policy", empty).status == 3)
        let unknown = try release.folder.file("unknown.json", #"{"schema":"nacre.policy.v1","allow":true}"#)
        #expect(try Self.judge(release, "--policy", unknown).status == 2)
        let outline = try Nacre.run("policy", "show", "--manifest", release.file("manifest.json"))
        #expect(outline.text.contains("tpm/sha384/11"))
        #expect(outline.text.contains("the manifest says nothing about these"))
    }

    @Test func `a changed command line is named in the verdict`() throws {
        let release = try Release { $0.events[15].data += Array(" init=/bin/sh".utf8) }
        let result = try Self.judge(release, "--allow-development")
        #expect(result.status == 3)
        let verdict = try Nacre.json(result)
        #expect(verdict["reason"]?.string == "register-mismatch")
        #expect(verdict["claim"]?.string == "tpm/sha256/11")
        #expect(verdict["next"]?.string?.contains("contents of section .cmdline") == true)
        let text = try Nacre.run(
            "verify", "--evidence", release.file("evidence.json"), "--manifest", release.file("manifest.json"),
            "--allow-development", Self.time[0], Self.time[1])
        #expect(text.status == 3)
        #expect(text.text.contains("✗ tpm/sha256/11"))
        #expect(!text.text.contains("\u{1B}"), "no colours into a file")
    }

    @Test func `the nonce that the verifier chose must be the one answered`() throws {
        let release = try Release()
        let right = Hex.encode(release.node.nonce)
        #expect(try Self.judge(release, "--allow-development", "--nonce", right).status == 0)
        let wrong = try Self.judge(release, "--allow-development", "--nonce", String(repeating: "ab", count: 32))
        #expect(wrong.status == 3)
        #expect(try Nacre.json(wrong)["reason"]?.string == "nonce")
    }

    @Test func `a bundle verifies with nothing but a trust root`() throws {
        let release = try Release()
        let out = release.file("bundle.json")
        let bundle = try Nacre.run(
            "evidence", "bundle", "--evidence", release.file("evidence.json"), "--manifest",
            release.file("manifest.json"), "--out", out)
        #expect(bundle.status == 0, "\(bundle.errors)")
        let alone = try TemporaryFolder()
        let copy = try alone.file("bundle.json", readFile(out))
        let root = try alone.file("root.pub", readFile(release.file("key.pub")))
        func verify(_ arguments: String...) throws -> Tool.Output {
            try Tool.run([Nacre.path, "evidence", "verify", "--evidence", copy] + arguments + Self.time)
        }
        #expect(try verify("--allow-development", "--trust-root", root).status == 0)
        #expect(try verify("--allow-development").status == 2, "a bundle cannot vouch for its own manifest")
        let stranger = try Release()
        let other = try alone.file("other.pub", readFile(stranger.file("key.pub")))
        let forged = try verify("--allow-development", "--trust-root", other)
        #expect(forged.status == 3)
        #expect(forged.text.contains("signature-manifest"))
    }

    // MARK: Raw inputs

    @Test func `a signature that is named is checked, or its absence said`() throws {
        let release = try Release()
        let evidence = ["--evidence", release.file("evidence.json"), "--manifest", release.file("manifest.json")]
        for command in [["verify"], ["evidence", "verify"]] {
            for lone in [["--bundle", "/etc/passwd"], ["--trust-root", release.file("key.pub")]] {
                let result = try Tool.run([Nacre.path] + command + evidence + lone + ["--allow-development"])
                #expect(result.status == 2)
                #expect(result.errors.contains("go together"))
            }
        }
        let out = release.file("bundle.json")
        let other = try Release()
        _ = try other.folder.file("manifest.json", SyntheticNode.manifest(releaseCounter: 9).bytes)
        let bundled = try Nacre.run(
            "evidence", "bundle", "--evidence", release.file("evidence.json"), "--manifest",
            other.file("manifest.json"),
            "--bundle", release.file("manifest.json.sigstore.json"), "--out", out)
        #expect(bundled.status == 2 || bundled.status == 3 || bundled.status == 1)
        #expect(bundled.errors.contains("manifest-digest"))
        #expect(unsafe access(out, F_OK) != 0)
    }

    @Test func `a cluster without nodes, and one whose manifest has changed, are not verified`() throws {
        let release = try Release()
        func verify(_ nodes: JSON, digest: [UInt8]) throws -> Tool.Output {
            let document: JSON = .fields([
                "schema": "nacre.cluster.v1", "provider": "qemu", "clusterID": .hex([UInt8](repeating: 1, count: 32)),
                "created": "2027-01-15T00:00:00Z", "rules": "development",
                "manifest": .string(release.file("manifest.json")), "manifestDigest": .hex(digest),
                "firmware": ["code": "/f/code", "variables": "/f/vars"], "memoryMiB": 2048, "processors": 2,
                "nodes": nodes,
            ])
            _ = try release.folder.file("cluster.json", document.compact)
            return try Nacre.run("verify", "--dir", release.path)
        }
        let digest = HashAlgorithm.sha256.hash(try SyntheticNode.manifest().bytes)
        let empty = try verify([], digest: digest)
        #expect(empty.status == 2)
        #expect(empty.errors.contains("nothing to verify"))
        let node: JSON = ["name": "control-plane-0", "role": "control-plane", "endpoint": "https://127.0.0.1:1"]
        let changed = try verify([node], digest: [UInt8](repeating: 0, count: 32))
        #expect(changed.status == 3)
        #expect((changed.text + changed.errors).contains("manifest-digest"))
        #expect(try verify([node], digest: digest).status == 1)
    }

    @Test func `raw inputs are options of their kind`() throws {
        let release = try Release()
        let tpm = try #require(try release.node.evidence().tpm)
        let folder = release.folder
        var pcrs: [String: JSON] = [:]
        for (bank, values) in tpm.registers {
            pcrs[bank.rawValue] = .object(
                Dictionary(uniqueKeysWithValues: values.map { (String($0.key), JSON.hex($0.value)) }))
        }
        let arguments = [
            Nacre.path, "evidence", "verify", "-o", "json", "--attest", try folder.file("attest", tpm.attest),
            "--signature", try folder.file("signature", tpm.signature), "--ak",
            try folder.file("ak", tpm.attestationKey), "--pcrs",
            try folder.file("pcrs.json", JSON.object(pcrs).compact),
        ]
        let nonce = ["--nonce", Hex.encode(release.node.nonce)]
        for kind in ["tpmquote", "tpm"] {
            let accepted = try Tool.run(arguments + ["--kind", kind] + nonce)
            #expect(accepted.status == 0, "\(accepted.errors)\(accepted.text)")
        }
        let wrong = try Tool.run(arguments + ["--kind", "tpmquote", "--nonce", "00ff"])
        #expect(wrong.status == 3)
        #expect(try Nacre.json(wrong)["reason"]?.string == "nonce")
        #expect(try Tool.run(arguments + nonce).status == 2, "no kind")
        let unknown = try Tool.run(arguments + ["--kind", "sgx"])
        #expect(unknown.status == 3)
        #expect(try Nacre.json(unknown)["reason"]?.string == "unsupported")
        #expect(try Nacre.run("evidence", "verify", "--kind", "snp").status == 2, "an input is missing")
        #expect(try Nacre.run("evidence", "verify", "--kind", "snp", "--report", "/absent").status == 2)
        #expect(try Nacre.run("evidence", "verify", "--kind", "snp", "--report", release.path).status == 2)
        let empty = try folder.file("empty", [])
        let short = try Nacre.run(
            "evidence", "verify", "--kind", "snp", "--report", empty, "--vek", empty, "-o", "json")
        #expect(short.status == 3)
        #expect(try Nacre.json(short)["reason"]?.string?.hasPrefix("parse") == true)
    }

    @Test func `no case ends a batch: links out, FIFOs, missing files, wrong types`() throws {
        let folder = try TemporaryFolder()
        #expect(unsafe mkfifo(folder.path + "/fifo", 0o600) == 0)
        #expect(unsafe symlink("/etc/passwd", folder.path + "/link") == 0)
        _ = try folder.file("empty", [])
        func input(_ path: JSON) -> JSON { ["report": path, "vek": "empty", "chain": "empty", "roots": "empty"] }
        let time: JSON = "2026-01-01T00:00:00Z"
        let cases: [JSON] = [
            ["id": "missing", "kind": "snp", "inputs": input("absent"), "time": time],
            ["id": "fifo", "kind": "snp", "inputs": input("fifo"), "time": time],
            ["id": "device", "kind": "snp", "inputs": input("/dev/zero"), "time": time],
            ["id": "outside", "kind": "snp", "inputs": input("../../etc/passwd"), "time": time],
            ["id": "link", "kind": "snp", "inputs": input("link"), "time": time],
            ["id": "folder", "kind": "snp", "inputs": input("."), "time": time],
            ["id": "type", "kind": "snp", "inputs": input(7), "time": time],
            ["id": "empty", "kind": "snp", "inputs": input("empty"), "time": time],
            ["id": "no-time", "kind": "snp", "inputs": input("empty")],
            ["id": "no-kind", "inputs": input("empty"), "time": time],
            ["id": "no-inputs", "kind": "snp", "time": time], "not an object", .null,
            ["id": "unknown", "kind": "sgx", "inputs": .object([:]), "time": time],
            ["id": "policy", "kind": "snp", "inputs": input("empty"), "time": time, "policy": ["nonsense": 1]],
        ]
        let index = try folder.file("index.json", JSON.object(["format": 1, "cases": .array(cases)]).compact)
        let result = try Nacre.run("evidence", "verify", "--batch", index, "-o", "json")
        #expect(result.status == 0, "\(result.errors)")
        let lines = try result.text.split(separator: "\n").map { try JSON(parsing: String($0)) }
        #expect(lines.count == cases.count)
        for (line, json) in zip(lines, cases) {
            #expect(line["verdict"]?.string == "reject")
            if let id = json["id"]?.string { #expect(line["id"]?.string == id) }
            let reason = line["reason"]?.string ?? ""
            let expected = json["id"]?.string == "unknown" ? ["unsupported"] : ["parse", "policy"]
            #expect(expected.contains { reason.hasPrefix($0) }, "\(line.compact)")
        }
        #expect(try Nacre.run("evidence", "verify", "--batch", folder.path + "/absent").status == 2)
        let broken = try folder.file("broken.json", "[]")
        #expect(try Nacre.run("evidence", "verify", "--batch", broken).status == 2)
    }

    @Test func `inputs that a kind would ignore are refused by name`() throws {
        let folder = try TemporaryFolder()
        let empty = try folder.file("empty", [])
        func refused(_ kind: String, _ arguments: String...) throws {
            let result = try Tool.run([Nacre.path, "evidence", "verify", "--kind", kind] + arguments)
            #expect(result.status == 2, "\(arguments)")
            #expect(result.errors.contains(arguments.first ?? "") && result.errors.contains(kind), "\(result.errors)")
        }
        try refused("tpmquote", "--ak-roots", empty, "--attest", empty)
        for option in ["--roots", "--quote", "--collateral", "--rtmrs", "--mode", "--dir", "--document"] {
            try refused("tpmquote", option, empty)
        }
        try refused("snp", "--nonce", "00ff")
        let kind = try Nacre.run("evidence", "verify", "--kind", "snp", "--allow-development")
        #expect(kind.status == 2)
        // The options that messages name exist.
        for (kind, option) in [("nitrotpm", "--document"), ("snp-measure", "--svsm"), ("snp-measure", "--vars")] {
            let result = try Nacre.run("evidence", "verify", "--kind", kind, option, empty, "-o", "json")
            #expect(!result.errors.contains("is not used") && !result.errors.contains("Unknown"), "\(result.errors)")
        }
        let cases: [JSON] = [
            [
                "id": "stray", "kind": "tpmquote", "inputs": ["attest": "empty", "quote": "empty"],
                "time": "2026-01-01T00:00:00Z",
            ]
        ]
        let index = try folder.file("index.json", JSON.object(["format": 1, "cases": .array(cases)]).compact)
        let batch = try Nacre.run("evidence", "verify", "--batch", index, "-o", "json")
        #expect(batch.status == 0)
        #expect(try Nacre.json(batch)["reason"]?.string == "parse-form")
        #expect(try Nacre.json(batch)["claim"]?.string == "case.inputs.quote")
        for stray in [["--at", "2026-01-01T00:00:00Z"], ["--nonce", "00ff"], ["--policy", empty]] {
            let result = try Tool.run([Nacre.path, "evidence", "verify", "--batch", index] + stray)
            #expect(result.status == 2)
            #expect(result.errors.contains(stray.first ?? ""), "\(result.errors)")
        }
    }

    @Test func `the inputs of a case are bounded together`() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/dir"
        #expect(unsafe mkdir(path, 0o700) == 0)
        for name in ["one", "two"] {
            #expect(unsafe truncate(try folder.file("dir/\(name)", []), 33 << 20) == 0)
        }
        let result = try Nacre.run("evidence", "verify", "--kind", "pcr11", "--dir", path)
        #expect(result.status == 2)
        #expect(result.errors.contains("parse-unreadable: \(path)/two"), "\(result.errors)")
        let big = try folder.file("big", [])
        #expect(unsafe truncate(big, 2 << 20) == 0)
        let report = try Nacre.run("evidence", "verify", "--kind", "snp", "--report", big, "--vek", big)
        #expect(report.status == 2)
        #expect(report.errors.contains("parse-unreadable: \(big)"), "\(report.errors)")
    }

    @Test(arguments: [
        "exec \"$0\" policy show > /dev/full", "exec \"$0\" manifest keygen --out \"$1\" -o json > /dev/full",
        "exec \"$0\" logs --dir \"$2\" > /dev/full", "exec \"$0\" policy show >&-", "exec \"$0\" --help >&-",
        // A pipe that nobody reads any more.
        "mkfifo \"$1\" && exec 3<>\"$1\" 4>\"$1\" 3>&- && exec \"$0\" policy show >&4",
    ])
    func `a result that gets lost is a failure`(script: String) throws {
        let folder = try TemporaryFolder()
        let machine = folder.path + "/vm/control-plane-0"
        for path in [folder.path + "/vm", machine] { #expect(unsafe mkdir(path, 0o700) == 0) }
        _ = try folder.file("vm/control-plane-0/console.log", "booted\n")
        let document = Self.cluster("127.0.0.1:1", rules: "development", manifest: "/m")
        _ = try folder.file("cluster.json", document.compact)
        let result = try Tool.run(["sh", "-c", script, Nacre.path, folder.path + "/fifo", folder.path])
        #expect(result.status == 1)
        #expect(result.errors.contains("writing the result"), "\(result.errors)")
    }

    @Test func `a nonce of the wrong length is refused with the usage of its own command`() throws {
        let result = try Nacre.run("evidence", "collect", "--endpoint", "127.0.0.1:1", "--out", "/x", "--nonce", "00")
        #expect(result.status == 2)
        #expect(result.errors.contains("nacre evidence collect"), "\(result.errors)")
    }

    @Test func `every recorded case of a kind known here is judged right`() throws {
        guard let root = Vectors.root else {
            print("skipped: shared/vectors is not here, the batch was not judged")
            return
        }
        let result = try Nacre.run("evidence", "verify", "--batch", "\(root)/index.json", "-o", "json")
        #expect(result.status == 0)
        var verdicts: [String: JSON] = [:]
        for line in result.text.split(separator: "\n") {
            let json = try JSON(parsing: String(line))
            verdicts[json["id"]?.string ?? ""] = json
        }
        for vector in Vectors.cases("snp", "certtable", "tdx", "tpmquote", "akcert", "azure", "evlog", "ccel") {
            let verdict = try #require(verdicts[vector.id])
            let reason = verdict["reason"]?.string ?? ""
            #expect(verdict["verdict"]?.string == vector.verdict, "\(vector.id): \(reason)")
            #expect(vector.families.contains(String(reason.prefix { $0 != "-" })), "\(vector.id): \(reason)")
        }
    }

    @Test func `explain reads any input and refuses what it does not know`() throws {
        let release = try Release()
        let evidence = try Nacre.run("evidence", "explain", release.file("evidence.json"))
        #expect(evidence.status == 0, "\(evidence.errors)")
        #expect(evidence.text.contains("✓ tpm.quote"))
        #expect(evidence.text.contains("✓ tpm.sha384/11"))
        let json = try Nacre.json(Nacre.run("evidence", "explain", release.file("manifest.json"), "-o", "json"))
        #expect(json["kind"]?.string == "manifest")
        #expect(try Nacre.run("evidence", "explain", release.file("key")).status == 2)
        let junk = try release.folder.file("junk", [UInt8](repeating: 0xAA, count: 5000))
        #expect(try Nacre.run("evidence", "explain", junk).status == 2)
        #expect(try Nacre.run("evidence", "explain", try release.folder.file("nothing", [])).status == 2)
        // Links are followed; what is not a regular file, or too large, is not read at all.
        #expect(unsafe symlink(release.file("evidence.json"), release.file("link")) == 0)
        #expect(try Nacre.run("evidence", "explain", release.file("link")).status == 0)
        #expect(unsafe mkfifo(release.file("fifo"), 0o600) == 0)
        #expect(unsafe truncate(try release.folder.file("big", []), 65 << 20) == 0)
        for path in ["/dev/zero", "/", "/nonexistent", release.file("fifo"), release.file("big")] {
            let refused = try Nacre.run("evidence", "explain", path)
            #expect(refused.status == 2)
            #expect(refused.errors.contains("parse-unreadable: \(path)"), "\(refused.errors)")
        }
        let deep = try release.folder.file("deep", String(repeating: "[", count: 1 << 20))
        let nested = try Nacre.run("evidence", "explain", deep)
        #expect(nested.status == 2)
        #expect(nested.errors.contains("at byte 32"), "\(nested.errors)")
    }

    // MARK: A node on the network

    @Test func `a node is asked for a fresh nonce and its answer judged`() async throws {
        let release = try Release()
        let node = release.node
        let (endpoint, done) = try serve(3) { nonce in
            var answering = node
            answering.nonce = nonce
            return HTTPResponse.json(try answering.evidence().json)
        }
        let arguments = [Nacre.path, "verify", endpoint, "--manifest", release.file("manifest.json")] + Self.time
        let bare = try await onThread { Result { try Tool.run(arguments + ["-o", "json"]) } }.get()
        #expect(bare.status == 3, "an address, a loopback one too, chooses no rules")
        #expect(try Nacre.json(bare)["reason"]?.string == "policy-platform")
        let text = try await onThread { Result { try Tool.run(arguments + ["--allow-development"]) } }.get()
        #expect(text.status == 0, "\(text.errors)\(text.text)")
        #expect(text.text.contains("proves nothing against that host"))
        #expect(text.text.contains("✓ tpm registers"))
        let saved = release.file("saved.json")
        let collect = [Nacre.path, "evidence", "collect", "--endpoint", endpoint, "--out", saved]
        #expect(try await onThread { Result { try Tool.run(collect).status } }.get() == 0)
        #expect(try Evidence(parsing: readFile(saved)).nonce.count == 32)
        await done.value
    }

    /// `cluster.json` of a directory whose one node answers at `endpoint`.
    private static func cluster(_ endpoint: String, rules: String, manifest: String) -> JSON {
        [
            "schema": "nacre.cluster.v1", "provider": "qemu", "clusterID": .hex([UInt8](repeating: 1, count: 32)),
            "created": "2027-01-01T00:00:00Z", "madeDirectory": false, "rules": .string(rules),
            "manifest": .string(manifest), "firmware": ["code": "/c", "variables": "/v"], "memoryMiB": 2048,
            "processors": 2,
            "nodes": [
                ["name": "control-plane-0", "role": "control-plane", "endpoint": .string("https://\(endpoint)")]
            ],
        ]
    }

    @Test(
        arguments: [
            ("production", nil, Int32(3)), ("development", nil, 0), ("debug", nil, 0),
            ("production", AppraisalPolicy.development, 0), ("development", .production, 3),
        ])
    func `the nodes of a directory are judged by the policy or the rules in its document`(
        rules: String, policy: AppraisalPolicy?, status: Int32
    ) async throws {
        let release = try Release()
        let node = release.node
        let (endpoint, done) = try serve(1) { nonce in
            var answering = node
            answering.nonce = nonce
            return HTTPResponse.json(try answering.evidence().json)
        }
        var document = try #require(
            Self.cluster(endpoint, rules: rules, manifest: release.file("manifest.json")).object)
        document["attestation"] = policy?.json
        _ = try release.folder.file("cluster.json", JSON.object(document).compact)
        let arguments = [Nacre.path, "verify", "--dir", release.path, "-o", "json"] + Self.time
        let result = try await onThread { Result { try Tool.run(arguments) } }.get()
        #expect(result.status == status, "\(result.errors)\(result.text)")
        await done.value
    }

    @Test func `a debug image is refused unless both it and its TPM are allowed`() throws {
        let release = try Release()
        let manifest = try SyntheticNode.manifest(profile: .debug)
        let file = try release.folder.file("debug.json", manifest.bytes)
        func judge(_ options: String...) throws -> Tool.Output {
            try Tool.run(
                [
                    Nacre.path, "verify", "--evidence", release.file("evidence.json"), "--manifest", file, "-o", "json",
                ] + Self.time + options)
        }
        #expect(try judge().status == 3)
        let refused = try judge("--allow-development")
        #expect(refused.status == 3)
        #expect(try Nacre.json(refused)["reason"]?.string == "policy-debug-profile")
        let half = try judge("--allow-debug")
        #expect(try Nacre.json(half)["reason"]?.string == "policy-platform")
        let accepted = try judge("--allow-development", "--allow-debug")
        #expect(accepted.status == 0, "\(accepted.errors)\(accepted.text)")
        #expect(try Nacre.json(accepted)["marks"]?.array?.contains("debug") == true)
        // `up` says so before anything boots, and leaves nothing.
        let directory = release.path + "/cluster"
        let image = try release.folder.file("image.raw", [UInt8](repeating: 0, count: 512))
        let up = try Nacre.run("up", "--dir", directory, "--image", image, "--manifest", file, "-o", "json")
        #expect(up.status == 3, "\(up.errors)")
        #expect(try Nacre.json(up)["reason"]?.string == "policy-debug-profile")
        #expect(try Nacre.json(up)["next"]?.string?.contains("--allow-debug") == true)
        #expect(unsafe access(directory, F_OK) != 0)
    }

    @Test func `a replayed answer, a refusal and silence are told apart`() async throws {
        let release = try Release()
        let old = try release.node.evidence().json
        let arguments =
            ["--manifest", release.file("manifest.json"), "--timeout", "60", "-o", "json", "--allow-development"]
            + Self.time
        func verify(_ endpoint: String) async throws -> Tool.Output {
            try await onThread { Result { try Tool.run([Nacre.path, "verify", endpoint] + arguments) } }.get()
        }
        let (replaying, first) = try serve(1) { _ in HTTPResponse.json(old) }
        let replayed = try await verify(replaying)
        #expect(replayed.status == 3)
        #expect(try Nacre.json(replayed)["reason"]?.string == "nonce")
        await first.value
        let (refusing, second) = try serve(1) { _ in HTTPResponse.text("try later", status: 503) }
        #expect(try await verify(refusing).status == 1)
        await second.value
        #expect(try await verify("127.0.0.1:1").status == 1)
        let (garbled, third) = try serve(1) { _ in HTTPResponse(status: 200, body: Array("{}".utf8)) }
        // The node answered, and what it says is no evidence: judged, not a mistake of the caller's.
        let nonsense = try await verify(garbled)
        #expect(nonsense.status == 3)
        #expect(try Nacre.json(nonsense)["reason"]?.string?.hasPrefix("parse-") == true)
        await third.value
        #expect(try await verify("no port:x").status == 2)
    }
}
