import Bytes
import TestKit
import Testing

/// The live node's evidence, saved and judged elsewhere: as it is, and forged.
extension IntegrationTests.ProductionTests {
    /// Judges the evidence at `file`; production's signed manifest unless `manifest` says otherwise.
    static func judge(
        _ file: String, by manifest: [String] = LocalNode.production, nonce: String = nonce
    ) throws -> (status: Int32, verdict: JSON) {
        let result = try Tool.run(
            [
                Built.nacre, "evidence", "verify", "--evidence", file, "--nonce", nonce, "--allow-development", "-o",
                "json",
            ]
                + manifest)
        try #require([0, 3].contains(result.status), "\(result.errors)")
        return (result.status, try JSON(parsing: result.output))
    }

    /// The evidence with one field of `tpm`, bytes in base64, changed.
    static func forge(
        _ field: String, in folder: TemporaryFolder, _ change: (inout [UInt8]) throws -> Void
    ) async throws -> String {
        let evidence = try JSON(parsing: readFile(await collect(into: folder)))
        var fields = try #require(evidence.object)
        var tpm = try #require(fields["tpm"]?.object)
        var bytes = try #require(Base64.decode(tpm[field]?.string ?? ""))
        try change(&bytes)
        tpm[field] = .base64(bytes)
        fields["tpm"] = .object(tpm)
        return try folder.file("forged.json", JSON.object(fields).compact)
    }

    static func family(_ verdict: JSON) -> String {
        String((verdict["reason"]?.string ?? "").prefix { $0 != "-" })
    }

    /// The explanation of one register's difference: which event differs first and what it covers.
    static func explanation(_ verdict: JSON, of register: String) -> String? {
        verdict["claims"]?["explanations"]?.array?.first { $0["register"]?.string == register }?["text"]?.string
    }

    @Test func `saved evidence is judged by both commands`() async throws {
        let folder = try TemporaryFolder()
        let file = try await Self.collect(into: folder)
        let (status, verdict) = try Self.judge(file)
        #expect(status == 0, "\(verdict.compact)")
        #expect(verdict["marks"] == ["development"])
        let other = try Tool.run(
            [Built.nacre, "verify", "--evidence", file, "--nonce", Self.nonce, "--allow-development"]
                + LocalNode.production)
        #expect(other.status == 0, "\(other.errors)\(other.text)")
        let production = try Tool.run(
            [Built.nacre, "verify", "--evidence", file, "--nonce", Self.nonce] + LocalNode.production)
        #expect(production.status == 3, "a saved TPM quote alone convinces nobody")
    }

    @Test func `the manifest of another image names the first event that differs`() async throws {
        let folder = try TemporaryFolder()
        let file = try await Self.collect(into: folder)
        let other = try DiskCopy()
        try other.replace("panic=10", with: "panic=11", in: .cmdline)
        let release = try other.release(in: folder)
        let (status, verdict) = try Self.judge(file, by: release)
        #expect(status == 3)
        #expect(Self.family(verdict) == "register")
        #expect(verdict["claim"]?.string == "tpm/sha256/4")
        #expect(verdict["next"]?.string?.contains("expected UKI") == true, "\(verdict["next"]?.string ?? "")")
        for bank in ["sha256", "sha384"] {
            let text = Self.explanation(verdict, of: "tpm/\(bank)/11")
            #expect(text?.contains(".cmdline") == true, "\(text ?? "no explanation")")
        }
    }

    @Test func `a manifest that its signature does not cover is refused`() async throws {
        let folder = try TemporaryFolder()
        let file = try await Self.collect(into: folder)
        var bytes = try readFile(Built.manifest)
        let place = try #require(bytes.firstIndex(of: UInt8(ascii: "0")))
        bytes[place] = UInt8(ascii: "1")
        let changed = try folder.file("manifest.json", bytes)
        let (status, verdict) = try Self.judge(
            file, by: ["--manifest", changed, "--bundle", Built.bundle, "--trust-root", Built.trustRoot])
        #expect(status == 3)
        #expect(verdict["reason"]?.string == "manifest-digest", "\(verdict.compact)")
        #expect(verdict["source"]?.string == "the signed statement")
    }

    @Test func `evidence replayed for another nonce is refused`() async throws {
        let folder = try TemporaryFolder()
        let file = try await Self.collect(into: folder)
        let (status, verdict) = try Self.judge(file, nonce: String(repeating: "a5", count: 32))
        #expect(status == 3)
        #expect(Self.family(verdict) == "nonce", "\(verdict.compact)")
        // Relabelled, the quote itself still answers the old one.
        let relabelled = String(decoding: try readFile(file), as: UTF8.self)
            .split(separator: Self.nonce, omittingEmptySubsequences: false)
            .joined(separator: String(repeating: "a5", count: 32))
        let again = try Self.judge(
            folder.file("relabelled.json", relabelled), nonce: String(repeating: "a5", count: 32))
        #expect(again.status == 3)
        #expect(Self.family(again.verdict) == "nonce", "\(again.verdict.compact)")
    }

    @Test(arguments: ["sha256", "sha384"])
    func `an event log that does not replay is refused`(bank: String) async throws {
        let folder = try TemporaryFolder()
        let document = try JSON(parsing: readFile(Built.image + "/measurements.json"))
        let event = document["events"]?.array?.first {
            $0["register"]?.string == "tpm/4" && $0["what"]?.string == "UKI"
        }
        let digest = try #require(Hex.decode(event?["digests"]?[bank]?.string ?? ""))
        let forged = try await Self.forge("eventLog", in: folder) { log in
            let place = try #require(log.indices.first { log[$0...].starts(with: digest) })
            log[place + 7] ^= 1
        }
        let (status, verdict) = try Self.judge(forged)
        #expect(status == 3)
        #expect(Self.family(verdict) == "eventlog", "\(verdict.compact)")
    }

    @Test func `a forged quote or signature is refused`() async throws {
        let folder = try TemporaryFolder()
        for (field, place) in [("signature", -1), ("attest", -20)] {
            let forged = try await Self.forge(field, in: folder) { $0[$0.count + place] ^= 1 }
            let (status, verdict) = try Self.judge(forged)
            #expect(status == 3)
            #expect(Self.family(verdict) == "signature", "\(field): \(verdict.compact)")
        }
    }
}
