import Bytes
import Crypto
import TDX

/// A machine with Intel's structures under a throw-away root, every part of which can be changed before quote and
/// collateral are made. As it stands everything is UpToDate at any time from 2026-02 until `end`.
public struct TDXPlatform: Sendable {
    /// When CRLs and collateral are from, and when they lapse.
    public static let start = "2026-02-01T00:00:00Z"
    public static let end = "2044-01-01T00:00:00Z"

    public let root: TDXAuthority
    public let pckCA: TDXAuthority
    public let pckKey: PrivateKey
    public let tcbKey: PrivateKey
    public let attestationKey: PrivateKey

    public var pck: TDXAuthority.Subject
    public var intermediate: TDXAuthority.Subject
    public var tcbSigner: TDXAuthority.Subject
    /// Who issues the PCK; the root in one test.
    public var pckIssuer: TDXAuthority
    public var rootRevoked: [[UInt8]] = []
    public var pckRevoked: [[UInt8]] = []
    public var rootCRLEnd = Self.end
    public var pckCRLEnd = Self.end

    public var version: UInt16 = 4
    public var body = Self.currentBody
    public var qeSVN: UInt16 = 4
    public var qeProduct: UInt16 = 2
    public var qeSigner = [UInt8](repeating: 0xDC, count: 32)
    public var qeAttributes: [UInt8] = [0x11] + [UInt8](repeating: 0, count: 15)
    public var components: [UInt8] = [3, 3, 2, 2, 4, 1, 0, 5] + [UInt8](repeating: 0, count: 8)
    public var pceSVN: UInt8 = 13
    public var tcbInfo: JSON
    public var qeIdentity: JSON
    /// Changes the served bytes after they were signed.
    public var reserve: @Sendable ([UInt8]) -> [UInt8] = { $0 }

    public init() throws(CryptoError) {
        root = try TDXAuthority("Intel SGX Root CA")
        pckCA = try TDXAuthority("Intel SGX PCK Platform CA")
        pckIssuer = pckCA
        pckKey = try PrivateKey(generating: .p256)
        tcbKey = try PrivateKey(generating: .p256)
        attestationKey = try PrivateKey(generating: .p256)
        pck = .init(name: "Intel SGX PCK Certificate", key: pckKey, serial: [0x10])
        intermediate = .init(name: "Intel SGX PCK Platform CA", key: pckCA.key, serial: [0x20], isCA: true)
        tcbSigner = .init(name: "Intel SGX TCB Signing", key: tcbKey, serial: [0x30])
        tcbInfo = Self.tcbInfo(levels: [Self.level("UpToDate")])
        qeIdentity = Self.qeIdentity(levels: [(4, "UpToDate", [])])
    }

    /// The claims of a TD on a platform of today.
    public static let currentBody: TDBody = {
        var body = TDBody()
        body.teeTCBSVN = [6, 1, 3] + [UInt8](repeating: 0, count: 13)
        body.attributes = [.septVEDisable]
        return body
    }()

    public static func level(
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

    public static func svnLevels(_ levels: [(Int, String, [String])]) -> JSON {
        .array(
            levels.map { svn, status, advisories in
                [
                    "tcb": ["isvsvn": .integer(Int128(svn))], "tcbDate": "2025-05-14T00:00:00Z",
                    "tcbStatus": .string(status), "advisoryIDs": .array(advisories.map { .string($0) }),
                ]
            })
    }

    public static func module(_ id: String, _ levels: [(Int, String, [String])], signer: String = "00") -> JSON {
        [
            "id": .string(id), "mrsigner": .string(String(repeating: signer, count: 48)),
            "attributes": "0000000000000000", "attributesMask": "FFFFFFFFFFFFFFFF", "tcbLevels": svnLevels(levels),
        ]
    }

    public static func tcbInfo(
        id: String = "TDX", version: Int = 3, fmspc: String = "70C06F000000", pceID: String = "0000",
        end: String = Self.end, levels: [JSON],
        modules: [JSON] = [module("TDX_01", [(6, "UpToDate", []), (4, "OutOfDate", ["INTEL-SA-00001"])])]
    ) -> JSON {
        [
            "id": .string(id), "version": .integer(Int128(version)), "issueDate": .string(start),
            "nextUpdate": .string(end), "fmspc": .string(fmspc), "pceId": .string(pceID), "tcbType": 0,
            "tcbEvaluationDataNumber": 20,
            "tdxModule": [
                "mrsigner": .string(String(repeating: "00", count: 48)), "attributes": "0000000000000000",
                "attributesMask": "FFFFFFFFFFFFFFFF",
            ],
            "tdxModuleIdentities": .array(modules), "tcbLevels": .array(levels),
        ]
    }

    public static func qeIdentity(
        id: String = "TD_QE", end: String = Self.end, levels: [(Int, String, [String])]
    ) -> JSON {
        [
            "id": .string(id), "version": 2, "issueDate": .string(start), "nextUpdate": .string(end),
            "tcbEvaluationDataNumber": 20, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000",
            "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": .string(String(repeating: "DC", count: 32)), "isvprodid": 2, "tcbLevels": svnLevels(levels),
        ]
    }

    /// The SGX extension, PCK profile §1.3.5.
    var sgxExtension: CertificateBuilder.Extension {
        let arc = "1.2.840.113741.1.13.1"
        func pair(_ tail: String, _ value: [UInt8]) -> [UInt8] {
            DER.sequence([DER.oid("\(arc).\(tail)"), value])
        }
        var tcb = components.enumerated().map { pair("2.\($0 + 1)", DER.unsigned([$1])) }
        tcb.append(pair("2.17", DER.unsigned([pceSVN])))
        tcb.append(pair("2.18", DER.element(0x04, components)))
        let members = [
            pair("1", DER.element(0x04, [UInt8](repeating: 0xAA, count: 16))), pair("2", DER.sequence(tcb)),
            pair("3", DER.element(0x04, [0, 0])), pair("4", DER.element(0x04, [0x70, 0xC0, 0x6F, 0, 0, 0])),
            pair("5", DER.element(0x0A, [1])),
            pair("6", DER.element(0x04, [UInt8](repeating: 0xBB, count: 16))),
        ]
        return CertificateBuilder.Extension(arc, DER.sequence(members))
    }

    static func pem(_ certificates: [[UInt8]]) -> [UInt8] {
        certificates.flatMap { Array(PEM.encode("CERTIFICATE", $0).utf8) }
    }

    public func rootCertificate() throws(CryptoError) -> [UInt8] { try root.root() }

    /// PCK, its CA, root.
    public func pckChain() throws(CryptoError) -> [UInt8] {
        var pck = pck
        pck.extensions.append(sgxExtension)
        return Self.pem([try pckIssuer.certificate(pck), try root.certificate(intermediate), try rootCertificate()])
    }

    /// What quotes are made with: the platform without its authorities.
    public func quoter() throws(CryptoError) -> TDXQuoter {
        TDXQuoter(
            pckKey: pckKey, attestationKey: attestationKey, certificateChain: try pckChain(), svn: qeSVN,
            product: qeProduct, signer: qeSigner, attributes: qeAttributes)
    }

    public func quote() throws(CryptoError) -> [UInt8] { try quoter().quote(body, version: version) }

    public func collateral() throws(CryptoError) -> [UInt8] {
        let info = Array(tcbInfo.compact.utf8)
        let identity = Array(qeIdentity.compact.utf8)
        let signer = Self.pem([try root.certificate(tcbSigner), try rootCertificate()])
        let collateral = Collateral(
            pckCRLIssuerChain: Self.pem([try root.certificate(intermediate), try rootCertificate()]),
            rootCRL: try root.revocationList(rootRevoked, from: Self.start, to: rootCRLEnd),
            pckCRL: try pckCA.revocationList(pckRevoked, from: Self.start, to: pckCRLEnd), tcbInfoIssuerChain: signer,
            tcbInfo: reserve(info), tcbInfoSignature: try tcbKey.signRaw(info, .sha256, size: 32),
            qeIdentityIssuerChain: signer, qeIdentity: identity,
            qeIdentitySignature: try tcbKey.signRaw(identity, .sha256, size: 32))
        return Array(collateral.json.compact.utf8)
    }
}

/// A quoting enclave: its keys and what its reports say of it.
public struct TDXQuoter: Sendable {
    public var pckKey: PrivateKey
    public var attestationKey: PrivateKey
    /// PEM: PCK, CA, root.
    public var certificateChain: [UInt8]
    public var svn: UInt16 = 4
    public var product: UInt16 = 2
    public var signer = [UInt8](repeating: 0xDC, count: 32)
    public var attributes: [UInt8] = [0x11] + [UInt8](repeating: 0, count: 15)

    /// A quote over `body` (Intel "TDX DCAP Quoting Library API" §A.3).
    public func quote(_ body: TDBody, version: UInt16) throws(CryptoError) -> [UInt8] {
        var enclave = ByteWriter()
        enclave.zeros(48)
        enclave.append(attributes)
        enclave.zeros(64)
        enclave.append(signer)
        enclave.zeros(96)
        enclave.le(product)
        enclave.le(svn)
        enclave.zeros(60)
        let point = attestationKey.publicKey.point ?? []
        let authentication: [UInt8] = Array(0..<32)
        enclave.append(QEReport.binding(attestationKey: point, authenticationData: authentication))
        let report: QEReport
        do { report = try QEReport(parsing: enclave.bytes) } catch { throw CryptoError(.form, error.message) }
        var quote = Quote(
            header: .init(version: version), body: body,
            signature: QuoteSignature(
                signature: [], attestationKey: point, qeReport: report,
                qeReportSignature: try pckKey.signRaw(report.bytes, .sha256, size: 32),
                qeAuthenticationData: authentication, certificateChain: certificateChain + [0]))
        quote.signature.signature = try attestationKey.signRaw(quote.signedBytes, .sha256, size: 32)
        return quote.serialize()
    }
}
