import Bytes
import Crypto

@testable import TDX

/// A machine with Intel's structures under a throw-away root, every part of which a test can change before it asks for
/// quote and collateral. As it stands everything is UpToDate at `time`.
struct TestPlatform {
    static let time = Instant("2026-02-20T00:00:00Z") ?? Instant(seconds: 0)

    let root: TestAuthority
    let pckCA: TestAuthority
    let pckKey: PrivateKey
    let tcbKey: PrivateKey
    let attestationKey: PrivateKey

    var pck: TestAuthority.Subject
    var intermediate: TestAuthority.Subject
    var tcbSigner: TestAuthority.Subject
    /// Who issues the PCK; the root in one test.
    var pckIssuer: TestAuthority
    var rootRevoked: [[UInt8]] = []
    var pckRevoked: [[UInt8]] = []
    var rootCRLEnd = "2026-03-03T00:00:00Z"
    var pckCRLEnd = "2026-03-03T00:00:00Z"

    var version: UInt16 = 4
    var body = TDBody()
    var qeSVN: UInt16 = 4
    var qeProduct: UInt16 = 2
    var qeSigner = [UInt8](repeating: 0xDC, count: 32)
    var qeAttributes: [UInt8] = [0x11] + [UInt8](repeating: 0, count: 15)
    var components: [UInt8] = [3, 3, 2, 2, 4, 1, 0, 5] + [UInt8](repeating: 0, count: 8)
    var pceSVN: UInt8 = 13
    var tcbInfo: JSON
    var qeIdentity: JSON
    /// Changes the served bytes after they were signed.
    var reserve: ([UInt8]) -> [UInt8] = { $0 }

    init() throws {
        root = try TestAuthority("Intel SGX Root CA")
        pckCA = try TestAuthority("Intel SGX PCK Platform CA")
        pckIssuer = pckCA
        pckKey = try PrivateKey(generating: .p256)
        tcbKey = try PrivateKey(generating: .p256)
        attestationKey = try PrivateKey(generating: .p256)
        pck = .init(name: "Intel SGX PCK Certificate", key: pckKey, serial: [0x10])
        intermediate = .init(name: "Intel SGX PCK Platform CA", key: pckCA.key, serial: [0x20], isCA: true)
        tcbSigner = .init(name: "Intel SGX TCB Signing", key: tcbKey, serial: [0x30])
        tcbInfo = Self.tcbInfo(levels: [Self.level("UpToDate")])
        qeIdentity = Self.qeIdentity(levels: [(4, "UpToDate", [])])
        body.teeTCBSVN = [6, 1, 3] + [UInt8](repeating: 0, count: 13)
        body.attributes = [.septVEDisable]
    }

    static func level(
        _ status: String, sgx: [UInt8] = [3, 3, 2, 2, 4, 1, 0, 5], tdx: [UInt8] = [5, 0, 3], pceSVN: Int = 13,
        advisories: [String] = []
    ) -> JSON {
        func components(_ values: [UInt8]) -> JSON {
            .array((0..<16).map { ["svn": .integer(Int128($0 < values.count ? values[$0] : 0))] })
        }
        return [
            "tcb": [
                "sgxtcbcomponents": components(sgx), "tdxtcbcomponents": components(tdx),
                "pcesvn": .integer(Int128(pceSVN)),
            ],
            "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": .string(status),
            "advisoryIDs": .array(advisories.map { .string($0) }),
        ]
    }

    static func svnLevels(_ levels: [(Int, String, [String])]) -> JSON {
        .array(
            levels.map { svn, status, advisories in
                [
                    "tcb": ["isvsvn": .integer(Int128(svn))], "tcbDate": "2025-05-14T00:00:00Z",
                    "tcbStatus": .string(status), "advisoryIDs": .array(advisories.map { .string($0) }),
                ]
            })
    }

    static func module(_ id: String, _ levels: [(Int, String, [String])], signer: String = "00") -> JSON {
        [
            "id": .string(id), "mrsigner": .string(String(repeating: signer, count: 48)),
            "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF", "tcbLevels": svnLevels(levels),
        ]
    }

    static func tcbInfo(
        id: String = "TDX", version: Int = 3, fmspc: String = "70C06F000000", pceID: String = "0000",
        end: String = "2026-03-03T00:00:00Z", levels: [JSON],
        modules: [JSON] = [module("TDX_01", [(6, "UpToDate", []), (4, "OutOfDate", ["INTEL-SA-00001"])])]
    ) -> JSON {
        [
            "id": .string(id), "version": .integer(Int128(version)), "issueDate": "2026-02-01T00:00:00Z",
            "nextUpdate": .string(end), "fmspc": .string(fmspc), "pceId": .string(pceID), "tcbType": 0,
            "tcbEvaluationDataNumber": 20,
            "tdxModule": [
                "mrsigner": .string(String(repeating: "00", count: 48)), "attributes": "0000000000000000",
                "attributesMask": "FFFFFFFFFFFFFFFF",
            ],
            "tdxModuleIdentities": .array(modules), "tcbLevels": .array(levels),
        ]
    }

    static func qeIdentity(
        id: String = "TD_QE", end: String = "2026-03-03T00:00:00Z", levels: [(Int, String, [String])]
    ) -> JSON {
        [
            "id": .string(id), "version": 2, "issueDate": "2026-02-01T00:00:00Z", "nextUpdate": .string(end),
            "tcbEvaluationDataNumber": 20, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": .string(String(repeating: "DC", count: 32)), "isvprodid": 2, "tcbLevels": svnLevels(levels),
        ]
    }

    /// The SGX extension's value, PCK profile §1.3.5.
    var sgxExtension: [UInt8] {
        let arc: [UInt8] = [0x2A, 0x86, 0x48, 0x86, 0xF8, 0x4D, 0x01, 0x0D, 0x01]
        func pair(_ tail: [UInt8], _ value: [UInt8]) -> [UInt8] {
            DER.sequence([TestAuthority.oid(arc + tail), value])
        }
        var tcb = components.enumerated().map { pair([2, UInt8($0 + 1)], DER.unsigned([$1])) }
        tcb.append(pair([2, 17], DER.unsigned([pceSVN])))
        tcb.append(pair([2, 18], DER.element(0x04, components)))
        let members = [
            pair([1], DER.element(0x04, [UInt8](repeating: 0xAA, count: 16))), pair([2], DER.sequence(tcb)),
            pair([3], DER.element(0x04, [0, 0])), pair([4], DER.element(0x04, [0x70, 0xC0, 0x6F, 0, 0, 0])),
            pair([5], DER.element(0x0A, [1])),
            pair([6], DER.element(0x04, [UInt8](repeating: 0xBB, count: 16))),
        ]
        return TestAuthority.ext(arc, critical: false, DER.sequence(members))
    }

    static func pem(_ certificates: [[UInt8]]) -> [UInt8] {
        certificates.flatMap { Array(PEM.encode("CERTIFICATE", $0).utf8) }
    }

    /// r ‖ s of an ECDSA signature.
    static func raw(_ key: PrivateKey, _ message: [UInt8]) throws -> [UInt8] {
        let parts = try DER.single(key.sign(message, scheme: .ecdsa(.sha256)), "signature").children("signature")
        return parts.flatMap { part in
            let magnitude = DER.unsignedInteger(part.content) ?? []
            return [UInt8](repeating: 0, count: 32 - magnitude.count) + magnitude
        }
    }

    func rootCertificate() throws -> [UInt8] { try root.root() }

    func quote() throws -> [UInt8] {
        var pck = pck
        pck.extensions.append(sgxExtension)
        var qe = ByteWriter()
        qe.zeros(48)
        qe.append(qeAttributes)
        qe.zeros(64)
        qe.append(qeSigner)
        qe.zeros(96)
        qe.le(qeProduct)
        qe.le(qeSVN)
        qe.zeros(60)
        let point = attestationKey.publicKey.point ?? []
        let authentication: [UInt8] = Array(0..<32)
        qe.append(QEReport.binding(attestationKey: point, authenticationData: authentication))
        let chain = Self.pem([
            try pckIssuer.certificate(pck), try root.certificate(intermediate), try rootCertificate(),
        ])
        var quote = Quote(
            header: .init(version: version), body: body,
            signature: QuoteSignature(
                signature: [], attestationKey: point, qeReport: try QEReport(parsing: qe.bytes),
                qeReportSignature: try Self.raw(pckKey, qe.bytes), qeAuthenticationData: authentication,
                certificateChain: chain + [0]))
        quote.signature.signature = try Self.raw(attestationKey, quote.signedBytes)
        return quote.serialize()
    }

    func collateral() throws -> [UInt8] {
        let info = Array(tcbInfo.compact.utf8)
        let identity = Array(qeIdentity.compact.utf8)
        let signer = Self.pem([try root.certificate(tcbSigner), try rootCertificate()])
        let collateral = Collateral(
            pckCRLIssuerChain: Self.pem([try root.certificate(intermediate), try rootCertificate()]),
            rootCRL: try root.revocationList(rootRevoked, to: rootCRLEnd),
            pckCRL: try pckCA.revocationList(pckRevoked, to: pckCRLEnd), tcbInfoIssuerChain: signer,
            tcbInfo: reserve(info), tcbInfoSignature: try Self.raw(tcbKey, info), qeIdentityIssuerChain: signer,
            qeIdentity: identity, qeIdentitySignature: try Self.raw(tcbKey, identity))
        return Array(collateral.json.compact.utf8)
    }
}
