import Attestation
import Bytes
import Crypto
import Manifest
import SEVSNP
import SyntheticNode
import TDX
import TPM
import TestKit

@testable import GPT

/// Where the search starts: samples made by this project's own writers, its committed fixtures, and, where the vectors
/// are at hand, genuine ones.
enum Seeds {
    /// Larger inputs only slow the search down.
    static let maximumSize = 64 << 10

    private static let tests = "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/")

    private static func fixture(_ path: String) -> [[UInt8]] { [try? readFile("\(tests)/\(path)")].compactMap { $0 } }

    /// The different inputs called `name` of the vectors of `kind`.
    private static func vectors(_ kind: String, _ name: String) -> [[UInt8]] {
        let found = Set(Vectors.cases(kind).compactMap { try? $0.read(name) })
        return Array(found.filter { !$0.isEmpty && $0.count <= maximumSize }.prefix(40))
    }

    private static let node = try? SyntheticNode()
    private static let tpmEvidence = (try? node?.evidence())?.tpm

    private static func text(_ json: JSON) -> [UInt8] { Array(json.compact.utf8) }

    // MARK: SEV-SNP

    static var reports: [[UInt8]] {
        fixture("SEVSNPTests/Fixtures/milan-debug-report.bin") + vectors("snp", "report")
    }
    static var endorsements: [[UInt8]] {
        fixture("SEVSNPTests/Fixtures/milan-debug-vcek.der") + vectors("snp", "vek")
    }
    static var certificateTables: [[UInt8]] {
        let vek = endorsements.first ?? [1, 2, 3]
        // VCEK 63da758d-e664-4564-adc5-f4b93be8accd.
        let guid: [UInt8] = [
            0x63, 0xDA, 0x75, 0x8D, 0xE6, 0x64, 0x45, 0x64, 0xAD, 0xC5, 0xF4, 0xB9, 0x3B, 0xE8, 0xAC, 0xCD,
        ]
        var table = ByteWriter()
        table.append(guid)
        table.le(UInt32(48))
        table.le(UInt32(vek.count))
        table.zeros(24)
        table.append(vek)
        return [table.bytes, [UInt8](repeating: 0, count: 24)] + vectors("certtable", "auxblob")
    }

    // MARK: TDX

    static var quotes: [[UInt8]] {
        fixture("TDXTests/Fixtures/quote-spr-e4.bin").map { Array($0.dropLast(39)) } + vectors("tdx", "quote")
    }
    static var tdReports: [[UInt8]] {
        [false, true].map { extended in
            var body = TDBody()
            if extended {
                body.extended = .init(
                    teeTCBSVN2: [UInt8](repeating: 1, count: 16), mrServiceTD: [UInt8](repeating: 2, count: 48))
            }
            return TDReport(
                version: extended ? 1 : 0, cpuSVN: [UInt8](repeating: 3, count: 16),
                mac: [UInt8](repeating: 4, count: 32), body: body
            ).serialize()
        }
    }
    static var collaterals: [[UInt8]] { vectors("tdx", "collateral") + [text(["tcb_info": "{}"])] }

    /// The signed object inside an answer of Intel's service, and the documents' fields without it.
    private static func object(_ path: String, _ key: String, _ field: String) -> [[UInt8]] {
        let answers = fixture(path).compactMap { try? ProvisioningService.signedObject($0, key: key).object }
        let stored = collaterals.compactMap { try? JSON(parsing: $0)[field]?.string }.map { Array($0.utf8) }
        return answers + stored
    }
    static var tcbInfos: [[UInt8]] { object("TDXTests/Fixtures/tcb-info.json", "tcbInfo", "tcb_info") }
    static var qeIdentities: [[UInt8]] {
        object("TDXTests/Fixtures/qe-identity.json", "enclaveIdentity", "qe_identity")
    }
    static var pckExtensions: [[UInt8]] {
        quotes.compactMap { try? Quote(parsing: $0) }.compactMap { quote in
            let chain = try? Certificate.chain(pem: quote.signature.certificateChain)
            return chain?.first?.extensionValue("1.2.840.113741.1.13.1")
        }
    }

    // MARK: TPM, logs, clouds

    static var attests: [[UInt8]] { [tpmEvidence?.attest].compactMap { $0 } + vectors("tpmquote", "attest") }
    static var signatures: [[UInt8]] { [tpmEvidence?.signature].compactMap { $0 } + vectors("tpmquote", "signature") }
    static var publics: [[UInt8]] { [tpmEvidence?.attestationKey].compactMap { $0 } + vectors("tpmquote", "ak") }
    static var registers: [[UInt8]] { [Array(#"{"sha256":{"0":"00"}}"#.utf8)] + vectors("tpmquote", "pcrs") }
    static var certificates: [[UInt8]] {
        let chains = vectors("akcert", "chain").flatMap { (try? Certificate.chain(pem: $0)) ?? [] }
        return endorsements + chains.map(\.der)
    }
    static var eventLogs: [[UInt8]] { [node?.eventLog].compactMap { $0 } + vectors("evlog", "log") }
    static var ccEventLogs: [[UInt8]] {
        [node?.eventLog].compactMap { $0.map { $0 + [UInt8](repeating: 0xFF, count: 64) } } + vectors("ccel", "log")
    }
    static var userspaceLogs: [[UInt8]] { [node?.userspaceLog].compactMap { $0 } }
    static var hclReports: [[UInt8]] {
        let json = Array(#"{"keys":[{"kid":"HCLAkPub","kty":"RSA","e":"AQAB","n":"AQAB"}],"user-data":"00"}"#.utf8)
        var report = ByteWriter()
        report.append("HCLA".utf8)
        for value in [2, UInt32(32 + 1184 + 20 + json.count), 2, 0, 0, 0, 0] { report.le(value) }
        report.append(reports.first ?? [UInt8](repeating: 0, count: 1184))
        for value in [UInt32(20 + json.count), 1, 2, 1, UInt32(json.count)] { report.le(value) }
        report.append(json)
        return [report.bytes] + vectors("azure", "hcl")
    }
    static var nitroDocuments: [[UInt8]] {
        let payload = CBOR.map([
            .text("module_id"): .text("i-0"), .text("digest"): .text("SHA384"), .text("timestamp"): .integer(1),
            .text("nitrotpm_pcrs"): .map([.integer(0): .bytes([UInt8](repeating: 0, count: 48))]),
            .text("certificate"): .bytes(endorsements.first ?? []),
            .text("cabundle"): .array([.bytes(endorsements.first ?? [])]),
        ])
        let protected = CBOR.map([.integer(1): .integer(-35)])
        let message: CBOR = .array([
            .bytes(protected.encoded), .map([:]), .bytes(payload.encoded), .bytes([UInt8](repeating: 7, count: 96)),
        ])
        return [message.encoded, CBOR.tagged(18, message).encoded]
    }

    // MARK: Documents

    static var evidence: [[UInt8]] {
        guard let evidence = try? node?.evidence() else { return [] }
        let bundle = EvidenceBundle(evidence: evidence, manifest: manifests.first ?? [], signature: [1])
        return [text(evidence.json), text(bundle.json)]
    }
    static var manifests: [[UInt8]] { [try? SyntheticNode.manifest()].compactMap { $0.map { text($0.json) } } }
    static var policies: [[UInt8]] { [AppraisalPolicy.production, .development].map { text($0.json) } }
    static var signatureBundles: [[UInt8]] {
        let envelope = Envelope(payloadType: "application/vnd.in-toto+json", payload: [1, 2], signature: [3, 4])
        return [text(Bundle(envelope: envelope, publicKeyHint: "00").json)] + vectors("sigstore", "bundle")
    }
    static var collateralBundles: [[UInt8]] {
        var bundle = CollateralBundle()
        for der in endorsements.prefix(2) { try? bundle.add(.endorsement(der)) }
        try? bundle.add(.revocationList(.milan, .vcek, [1, 2, 3]))
        for bytes in collaterals.prefix(1) {
            guard let collateral = try? Collateral(parsing: bytes) else { continue }
            let source = CollateralSource(fmspc: [0, 1, 2, 3, 4, 5], authority: .platform)
            try? bundle.add(.intel(source, collateral))
        }
        return [text(bundle.json)]
    }
    static var documents: [[UInt8]] {
        [Array(#"{"a":[1,-2,true,null,"\u00e9\n"],"b":{"c":"d"}}"#.utf8)] + policies + manifests
            + trustRoots
    }
    static var trustRoots: [[UInt8]] {
        guard let key = node?.key.publicKey, let root = try? TrustRoot(keys: [.init(key: key, role: .owner)]) else {
            return []
        }
        return [text(root.json), Array(key.pem.utf8)]
    }
    static var anything: [[UInt8]] {
        let binary = [reports, certificateTables, quotes, attests, publics, eventLogs, userspaceLogs, hclReports]
        return binary.compactMap(\.first) + evidence + manifests + documents
    }

    // MARK: HTTP

    static var requests: [[UInt8]] {
        [
            "GET /v1/evidence?nonce=00ff&a=%20b HTTP/1.1\r\nHost: node\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\nHost: b\r\n\r\n",
        ].map { Array($0.utf8) }
    }
    static var responses: [[UInt8]] {
        ["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: y\r\n\r\n{}", "HTTP/1.1 204 No Content\r\n\r\n"]
            .map { Array($0.utf8) }
    }
}
