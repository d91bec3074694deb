import Bytes
import Crypto
import Manifest
import SyntheticNode
import TestKit
import Testing

/// The manifest's schema and its consistency with itself.
@Suite struct ManifestSchemaTests {
    /// The manifest with one change to its JSON, at a path of keys.
    static func changed(_ path: [String], _ value: JSON?) throws -> [UInt8] {
        func change(_ json: JSON, _ path: ArraySlice<String>) -> JSON {
            guard let key = path.first, var object = json.object else { return json }
            object[key] = path.count == 1 ? value : change(object[key] ?? .object([:]), path.dropFirst())
            return .object(object)
        }
        return Array(change(try SyntheticNode.manifest().json, path[...]).compact.utf8)
    }

    @Test func `what is written is what is read`() throws {
        for profile in Manifest.Profile.allCases {
            let manifest = try SyntheticNode.manifest(profile: profile)
            #expect(try Manifest(parsing: manifest.bytes) == manifest)
        }
    }

    /// Path, and the JSON put there; empty removes the field.
    static let malformed: [(path: String, value: String)] = [
        ("schema", #""nacre.manifest.v2""#),
        ("extra", #"1"#),
        ("product", #""#),
        ("product", #""""#),
        ("product", #""a\u001b[31m""#),
        ("version", #"null"#),
        ("releaseCounter", #"-1"#),
        ("releaseCounter", #""3""#),
        ("releaseCounter", #"9007199254740993"#),
        ("profile", #""test""#),
        ("notAfter", #""tomorrow""#),
        ("notAfter", #""2030-01-01T00:00:00+01:00""#),
        ("kubernetes", #""#),
        ("kubernetes", #"1"#),
        ("sbom", #""00""#),
        ("phase", #""shutdown""#),
        ("phase", #"null"#),
        ("files.raw.sha256", #""00""#),
        ("files.raw.name", #""../raw""#),
        ("files.raw.size", #"-1"#),
        ("files.extra", #"1"#),
        ("files.root", #""#),
        ("files.rootHash", #""zz""#),
        ("inputs.lock", #""#),
        ("inputs.toolchain", #"[]"#),
        ("minimumCounters.release", #"4"#),
        ("minimumCounters.other", #"0"#),
        ("measurements.schema", #""nacre.measurements.v0""#),
        ("measurements.extra", #"1"#),
        ("measurements.tpm.sha1", #"{}"#),
        ("measurements.tpm.sha256.24", #""00""#),
        ("measurements.tpm.sha256.4", #""00""#),
        ("measurements.snp", #"[{"vmm":"qemu"}]"#),
    ]

    @Test(arguments: malformed)
    func `an unknown, missing or malformed field is refused with its path`(path: String, value: String) throws {
        let keys = path.split(separator: ".").map(String.init)
        let bytes = try Self.changed(keys, value.isEmpty ? nil : JSON(parsing: value))
        do throws(Finding) {
            _ = try Manifest(parsing: bytes)
            Issue.record("accepted")
        } catch {
            #expect(error.family == "parse", "\(error)")
            #expect(error.claim.contains(keys.last == "extra" ? "extra" : keys[0]), "\(error)")
        }
    }

    @Test func `the image digest is recomputed and every copy must agree`() throws {
        let zero = JSON.hex([UInt8](repeating: 0, count: 32))
        for (path, value) in [
            (["imageDigest"], zero), (["measurements", "imageDigest"], zero),
            (["measurements", "tpm", "sha256", "12"], JSON.hex([UInt8](repeating: 9, count: 32))),
            (["measurements", "unpredicted"], .object([:])),
        ] {
            let bytes = try Self.changed(path, value)
            do throws(Finding) {
                _ = try Manifest(parsing: bytes)
                Issue.record("accepted \(path)")
            } catch { #expect(error.reason == "manifest-image-digest") }
        }
    }

    @Test func `the image digest is that of an independent implementation of RFC 8785`() throws {
        guard let python = Tool.find("python3") else { return }
        let script = """
            import json,sys,hashlib
            d=json.load(sys.stdin); d.pop("imageDigest")
            c=json.dumps(d,sort_keys=True,separators=(",",":"),ensure_ascii=False).encode()
            sys.stdout.write(hashlib.sha256(c).hexdigest())
            """
        let document = try SyntheticNode.measurements()
        let theirs = try Tool.run([python, "-c", script], input: Array(document.pretty.utf8))
        #expect(theirs.text == document["imageDigest"]?.string)
    }

    @Test func `phases are ordered by the events that lead to them, and one that no events yield is refused`() throws {
        let measurements = try SyntheticNode.manifest().measurements
        #expect(measurements.phases == ["enter-initrd", "leave-initrd", "sysinit", "ready"])
        #expect(measurements.answeringPhase == "ready")
        #expect(
            measurements.expected(.sha256, 11, phase: "sysinit") != measurements.expected(.sha256, 11, phase: "ready"))
        #expect(measurements.expected(.sha256, 11, phase: nil) == nil)
        var document = try SyntheticNode.measurements().object ?? [:]
        document["events"] = []
        #expect(throws: Finding.self) { try Measurements(.object(document)) }
    }

    @Test func `no damage makes the reader trap or changes what is read unnoticed`() throws {
        let whole = try SyntheticNode.manifest().bytes
        var generator = SeededGenerator(seed: 41)
        for _ in 0..<400 { _ = try? Manifest(parsing: mutate(whole, with: &generator)) }
        for count in stride(from: 0, to: whole.count - 2, by: 97) {
            #expect(throws: Finding.self) { try Manifest(parsing: Array(whole.prefix(count))) }
        }
    }
}

/// DSSE, in-toto and Sigstore bundles, under pinned keys.
@Suite struct ManifestSignatureTests {
    static let time = Instant(seconds: 1_800_000_000)

    struct Signed {
        let key: PrivateKey
        let manifest: [UInt8]
        let bundle: [UInt8]
        let root: TrustRoot

        init(curve: Curve = .p256, role: TrustRoot.Role = .owner) throws {
            key = try PrivateKey(generating: curve)
            manifest = try SyntheticNode.manifest().bytes
            bundle = try ManifestVerifier.sign(manifest, name: "manifest.json", key: key).bytes
            root = try TrustRoot(keys: [.init(key: key.publicKey, role: role)])
        }

        func reason(
            manifest: [UInt8]? = nil, bundle: [UInt8]? = nil, root: TrustRoot? = nil, at time: Instant = time
        ) -> String {
            do throws(Finding) {
                _ = try ManifestVerifier.verify(
                    manifest: manifest ?? self.manifest, bundle: bundle ?? self.bundle, trustRoot: root ?? self.root,
                    at: time)
                return "ok"
            } catch { return error.reason }
        }
    }

    @Test(arguments: Curve.allCases)
    func `a manifest signed by a pinned key is accepted with the key's role`(curve: Curve) throws {
        let signed = try Signed(curve: curve, role: .development)
        let verified = try ManifestVerifier.verify(
            manifest: signed.manifest, bundle: signed.bundle, trustRoot: signed.root, at: Self.time)
        #expect(verified.role == .development)
        #expect(verified.signer == signed.key.publicKey.fingerprint)
        #expect(verified.manifest.releaseCounter == 3)
    }

    @Test func `another key, another file and another time are refused`() throws {
        let signed = try Signed()
        let other = try Signed()
        #expect(signed.reason() == "ok")
        #expect(signed.reason(root: other.root) == "signature-manifest")
        #expect(signed.reason(bundle: other.bundle) == "signature-manifest")
        #expect(signed.reason(manifest: signed.manifest + [0x0A]) == "manifest-digest")
        let late = try SyntheticNode.manifest().notAfter
        #expect(signed.reason(at: late) == "ok")
        #expect(signed.reason(at: Instant(seconds: late.seconds + 1)) == "expired-manifest")
    }

    @Test func `one flipped bit anywhere in manifest or bundle is refused`() throws {
        let signed = try Signed()
        for index in stride(from: 0, to: signed.manifest.count, by: 53) {
            var changed = signed.manifest
            changed[index] ^= 1 << (index % 8)
            #expect(signed.reason(manifest: changed) == "manifest-digest")
        }
        for index in 0..<signed.bundle.count {
            var changed = signed.bundle
            changed[index] ^= 1 << (index % 8)
            // The hint and unsigned layout (spaces, the key id) decide nothing.
            if signed.reason(bundle: changed) == "ok" {
                let envelope = try Bundle(parsing: changed).envelope
                #expect(envelope == (try Bundle(parsing: signed.bundle).envelope))
            }
        }
    }

    @Test func `a correctly signed manifest of another schema or with unknown fields is refused`() throws {
        let key = try PrivateKey(generating: .p256)
        let root = try TrustRoot(keys: [.init(key: key.publicKey, role: .owner)])
        for (path, value, reason) in [
            (["extra"], 1 as JSON, "parse-form"), (["schema"], "nacre.manifest.v2", "parse-version"),
        ] {
            let bytes = try ManifestSchemaTests.changed(path, value)
            // The library refuses to sign it, so the envelope is made by hand.
            #expect(throws: Finding.self) { try ManifestVerifier.sign(bytes, name: "m", key: key) }
            let genuine = Statement(
                manifest: try SyntheticNode.manifest(), bytes: bytes, name: "manifest.json")
            let encoded = Envelope.preAuthenticationEncoding(
                payloadType: Envelope.inTotoPayloadType, payload: genuine.bytes)
            let envelope = Envelope(
                payloadType: Envelope.inTotoPayloadType, payload: genuine.bytes,
                signature: try key.sign(encoded, scheme: .ecdsa(.sha256)))
            let bundle = Bundle(envelope: envelope, publicKeyHint: key.publicKey.hint)
            do throws(Finding) {
                _ = try ManifestVerifier.verify(manifest: bytes, bundle: bundle.bytes, trustRoot: root, at: Self.time)
                Issue.record("accepted")
            } catch { #expect(error.reason == reason) }
        }
    }

    @Test func `a signature over another statement or payload type does not count`() throws {
        let signed = try Signed()
        let payload = try Bundle(parsing: signed.bundle).envelope.payload
        func sign(_ payload: [UInt8], type: String) throws -> [UInt8] {
            let encoded = Envelope.preAuthenticationEncoding(payloadType: type, payload: payload)
            let signature = try signed.key.sign(encoded, scheme: .ecdsa(.sha256))
            return Bundle(
                envelope: Envelope(payloadType: type, payload: payload, signature: signature), publicKeyHint: ""
            ).bytes
        }
        #expect(signed.reason(bundle: try sign(payload, type: "text/plain")) == "manifest-payload-type")
        func replace(_ old: String, _ new: String) throws -> [UInt8] {
            let text = String(decoding: payload, as: UTF8.self).replacing(old, with: new)
            return try sign(Array(text.utf8), type: Envelope.inTotoPayloadType)
        }
        #expect(signed.reason(bundle: try replace("manifest/v1", "manifest/v9")) == "manifest-predicate-type")
        #expect(signed.reason(bundle: try replace("Statement/v1", "Statement/v0.1")) == "parse-version")
        #expect(
            signed.reason(bundle: try replace("\"releaseCounter\":3", "\"releaseCounter\":4")) == "manifest-predicate")
    }

    @Test func `log entries in a bundle are named as unchecked`() throws {
        let signed = try Signed()
        var json = try JSON(parsing: signed.bundle).object ?? [:]
        var material = json["verificationMaterial"]?.object ?? [:]
        material["tlogEntries"] = [["logIndex": "1"]]
        json["verificationMaterial"] = .object(material)
        let verified = try ManifestVerifier.verify(
            manifest: signed.manifest, bundle: Array(JSON.object(json).compact.utf8), trustRoot: signed.root,
            at: Self.time)
        #expect(verified.unchecked == ["transparency log entries in the bundle"])
        json["extra"] = 1
        #expect(signed.reason(bundle: Array(JSON.object(json).compact.utf8)) == "parse-form")
    }

    @Test func `what a bundle says of logs and timestamps has its type, and is named whatever it is`() throws {
        let signed = try Signed()
        func bundle(_ key: String, _ value: JSON) throws -> [UInt8] {
            var json = try JSON(parsing: signed.bundle).object ?? [:]
            var material = json["verificationMaterial"]?.object ?? [:]
            material[key] = value
            json["verificationMaterial"] = .object(material)
            return Array(JSON.object(json).compact.utf8)
        }
        let (log, timestamps) = ("tlogEntries", "timestampVerificationData")
        let malformed: [(String, JSON)] = [
            (log, "x"), (log, 5), (log, [:]), (log, ["x"]), (log, [.null]), (timestamps, 5), (timestamps, []),
            (timestamps, ["rfc3161Timestamps": "x"]), (timestamps, ["rfc3161Timestamps": [1]]),
        ]
        for (key, value) in malformed {
            #expect(signed.reason(bundle: try bundle(key, value)) == "parse-form", "\(key): \(value.compact)")
        }
        let empty: [(String, JSON)] = [
            (log, []), (log, .null), (timestamps, [:]), (timestamps, .null), (timestamps, ["rfc3161Timestamps": []]),
        ]
        for (key, value) in empty {
            let read = try Bundle(parsing: bundle(key, value))
            #expect(read.logEntries.isEmpty && !read.hasTimestamps, "\(key): \(value.compact)")
        }
        #expect(try Bundle(parsing: bundle(timestamps, ["rfc3161Timestamps": [["signedTimestamp": ""]]])).hasTimestamps)
        #expect(try Bundle(parsing: bundle(timestamps, ["other": 1])).hasTimestamps)
    }

    @Test func `trust roots are strict`() throws {
        let key = try PrivateKey(generating: .p256).publicKey
        let root = try TrustRoot(keys: [.init(key: key, role: .development)])
        #expect(try TrustRoot(parsing: Array(root.json.compact.utf8)) == root)
        #expect(try TrustRoot(parsing: Array(key.pem.utf8)).keys == [.init(key: key, role: .owner)])
        let pem = JSON.string(key.pem)
        for json: JSON in [
            ["schema": "nacre.trustroot.v2", "keys": [["role": "owner", "publicKey": pem]]],
            ["schema": "nacre.trustroot.v1", "keys": []],
            ["schema": "nacre.trustroot.v1", "keys": [["role": "root", "publicKey": pem]]],
            ["schema": "nacre.trustroot.v1", "keys": [["role": "owner", "publicKey": "x"]]],
            ["schema": "nacre.trustroot.v1", "keys": [["role": "owner", "publicKey": pem, "x": 1]]],
            [
                "schema": "nacre.trustroot.v1",
                "keys": [["role": "owner", "publicKey": pem], ["role": "development", "publicKey": pem]],
            ],
        ] {
            #expect(throws: ParseError.self) { try TrustRoot(parsing: Array(json.compact.utf8)) }
        }
    }

    // MARK: Independent tools

    /// DSSE v1.0.2's own example of the pre-authentication encoding.
    @Test func `pre-authentication encoding as the protocol has it`() {
        let encoded = Envelope.preAuthenticationEncoding(
            payloadType: "http://example.com/HelloWorld", payload: Array("hello world".utf8))
        #expect(String(decoding: encoded, as: UTF8.self) == "DSSEv1 29 http://example.com/HelloWorld 11 hello world")
    }

    @Test func `openssl verifies the signature over the encoded bytes`() throws {
        guard let openssl = Tool.find("openssl") else { return }
        let signed = try Signed()
        let folder = try TemporaryFolder()
        let envelope = try Bundle(parsing: signed.bundle).envelope
        let result = try Tool.run([
            openssl, "dgst", "-sha256", "-verify", try folder.file("key.pub", signed.key.publicKey.pem), "-signature",
            try folder.file("signature", envelope.signature), try folder.file("pae", envelope.signedBytes),
        ])
        #expect(result.text == "Verified OK\n", "\(result.errors)")
    }

    /// cosign 3 (Debian sid; 2.x insists on its online trust root even for plain keys).
    @Test func `cosign verifies the bundle, and refuses another manifest`() throws {
        guard let cosign = Tool.find("cosign") else { return }
        let signed = try Signed()
        let folder = try TemporaryFolder()
        let manifest = try folder.file("manifest.json", signed.manifest)
        let command = [
            cosign, "verify-blob-attestation", "--key", try folder.file("key.pub", signed.key.publicKey.pem),
            "--bundle",
            try folder.file("bundle.json", signed.bundle), "--type", Statement.predicateType,
            "--insecure-ignore-tlog=true",
        ]
        let accepted = try Tool.run(command + [manifest])
        #expect(accepted.status == 0, "\(accepted.errors)")
        let other = try folder.file("other.json", signed.manifest + [0x0A])
        #expect(try Tool.run(command + [other]).status != 0)
    }
}
