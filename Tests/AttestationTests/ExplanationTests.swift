import Bytes
import Crypto
import Manifest
import SEVSNP
import SyntheticNode
import TDX
import TestKit
import Testing

@testable import Attestation

/// A person's view of every input, and no view of what is none.
@Suite struct ExplanationTests {
    static let tests = "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/")

    static func fixture(_ path: String) throws -> [UInt8] { try readFile("\(tests)/\(path)") }

    static func bytes(_ json: JSON) -> [UInt8] { Array(json.compact.utf8) }

    /// Name, bytes, expected kind, a claim that must be told.
    static func samples() throws -> [(kind: String, bytes: [UInt8], claim: String)] {
        let node = try SyntheticNode()
        let evidence = try node.evidence()
        let tpm = try #require(evidence.tpm)
        let vcek = try fixture("SEVSNPTests/Fixtures/milan-debug-vcek.der")
        let quote = Array(try fixture("TDXTests/Fixtures/quote-spr-e4.bin").dropLast(39))
        let crl = try fixture("TDXTests/Fixtures/pck-crl.der")
        let report = TDReport(
            version: 0, cpuSVN: [UInt8](repeating: 0, count: 16), mac: [UInt8](repeating: 1, count: 32), body: TDBody())
        let manifest = try SyntheticNode.manifest()
        let signature = try ManifestVerifier.sign(manifest.bytes, name: "manifest.json", key: node.key)
        var collateral = CollateralBundle()
        try collateral.add(.endorsement(vcek))
        try collateral.add(.revocationList(.milan, .vcek, crl))
        try collateral.add(.chain(.milan, .vcek, Array(AMDAnchors.chainPEM(.milan, .vcek).utf8)))
        let bundle = EvidenceBundle(evidence: evidence, manifest: manifest.bytes, signature: signature.bytes)
        return [
            ("SEV-SNP report", try fixture("SEVSNPTests/Fixtures/milan-debug-report.bin"), "measurement"),
            ("certificate, DER", vcek, "certificate 0"),
            ("certificates, PEM", Array(AMDAnchors.chainPEM(.milan, .vcek).utf8), "certificate 1"),
            ("revocation list", crl, "next update"), ("TDX quote", quote, "mr_td"),
            ("TDREPORT", report.serialize(), "mac"), ("TPM quote (TPMS_ATTEST)", tpm.attest, "nonce"),
            ("TPM key (TPM2B_PUBLIC)", tpm.attestationKey, "name"),
            ("TPM signature (TPMT_SIGNATURE)", tpm.signature, "scheme"),
            ("event log (sha256, sha384)", tpm.eventLog, "pcr/4"),
            ("userspace measurement log", tpm.userspaceLog, "pcr/11"),
            ("node evidence", bytes(evidence.json), "tpm.quote"),
            ("evidence bundle", bytes(bundle.json), "manifest.imageDigest"),
            ("manifest", manifest.bytes, "imageDigest"),
            ("measurements", bytes(try SyntheticNode.measurements()), "imageDigest"),
            ("Sigstore bundle", signature.bytes, "subject sha256"),
            ("collateral", bytes(collateral.json), "amd-crl-vcek-milan.next update"),
            ("trust root", Array(node.key.publicKey.pem.utf8), "owner key"),
            ("policy", bytes(AppraisalPolicy.production.json), "platform"),
            ("register values", bytes(["sha256": ["0": .hex([UInt8](repeating: 0, count: 32))]]), "sha256/0"),
            ("runtime register values", bytes(["rtmr3": .hex([UInt8](repeating: 0, count: 48))]), "rtmr3"),
        ]
    }

    @Test func everyInputIsToldWithItsClaims() throws {
        for sample in try Self.samples() {
            let found = try EvidenceExplanation(sample.bytes)
            #expect(found.kind == sample.kind)
            let claims = found.rows.map(\.claim)
            #expect(
                claims.contains { $0 == sample.claim || $0.hasPrefix(sample.claim) || $0.hasSuffix(sample.claim) },
                "\(sample.kind): \(claims.prefix(20))")
        }
    }

    @Test func whatAReportNamesIsComparedWithTheEvidenceAroundIt() throws {
        let nonce = [UInt8](repeating: 7, count: 32)
        var report = try AttestationReport(Self.fixture("SEVSNPTests/Fixtures/milan-debug-report.bin"))
        func mark() throws -> Appraisal.Step.Mark? {
            let evidence = Evidence(
                platform: .snp, nonce: nonce, tee: .init(report: report.serialize(), auxiliary: [], eventLog: []))
            return try EvidenceExplanation(Self.bytes(evidence.json)).rows.first { $0.claim == "binding" }?.mark
        }
        #expect(try mark() == .failed)
        report.reportData = Evidence.reportData(nonce: nonce, attestationKey: [])
        #expect(try mark() == .held)
    }

    @Test func partsThatDoNotParseAreFailedLines() throws {
        let evidence = Evidence(
            platform: .tdx, nonce: [UInt8](repeating: 7, count: 32),
            tee: .init(report: [1, 2, 3], auxiliary: [], eventLog: [4]), collateral: ["schema": "other"])
        let rows = try EvidenceExplanation(Self.bytes(evidence.json)).rows
        #expect(rows.filter { $0.mark == .failed }.map(\.claim) == ["tdx", "ccel", "collateral"])
    }

    @Test func whatIsCutOffNamesItsField() throws {
        for sample in try Self.samples() {
            for count in [0, 1, sample.bytes.count / 2, sample.bytes.count - 1] {
                do {
                    // Text may lose its last line end, and lists of certificates their last one.
                    _ = try EvidenceExplanation(Array(sample.bytes.prefix(count)))
                } catch {
                    #expect(error.family == "parse", "\(sample.kind) at \(count): \(error)")
                    #expect(!error.claim.isEmpty)
                }
            }
        }
    }

    @Test(arguments: [
        #"{"schema":"nacre.other.v1"}"#, #"{"schema":7}"#, "{}", "[]", "[1,2", "\u{FEFF}{}", #"{"a":1,"a":2}"#,
        String(repeating: "[", count: 100_000), String(repeating: #"{"a":"#, count: 50_000),
        #"{"schema":"nacre.evidence.v1","platform":"tdx","nonce":7}"#,
    ])
    func documentsThatAreNoneAreRefused(_ text: String) throws {
        let finding = try #require(throws: Finding.self) { try EvidenceExplanation(Array(text.utf8)) }
        #expect(finding.family == "parse")
    }
}
