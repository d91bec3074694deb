import Bytes
import Crypto

/// The signature section of a quote (Intel "TDX DCAP Quoting Library API" §A.3.8–A.3.11).
///
/// signature 64 (r ‖ s, big-endian) · attestation key 64 (x ‖ y) · certification data type 6 {QE report 384 · QE report
/// signature 64 · authentication data u16 + bytes · certification data type 5 {PEM chain}}. The PPID forms 1–4 need a
/// look-up of the PCK certificate elsewhere, and a bare type 5 has no QE report: both are refused.
public struct QuoteSignature: Sendable, Equatable {
    /// r ‖ s by the attestation key over header and body.
    public var signature: [UInt8]
    /// Point x ‖ y, P-256.
    public var attestationKey: [UInt8]
    public var qeReport: QEReport
    /// r ‖ s by the PCK over the QE report.
    public var qeReportSignature: [UInt8]
    /// What the quoting enclave hashed beside the attestation key; at most 64 KiB.
    public var qeAuthenticationData: [UInt8]
    /// PEM text PCK ‖ CA ‖ root, as it stands, with the NUL that most stacks leave at its end.
    public var certificateChain: [UInt8]

    static let qeReportCertification: UInt16 = 6
    static let pckChainCertification: UInt16 = 5

    public init(
        signature: [UInt8], attestationKey: [UInt8], qeReport: QEReport, qeReportSignature: [UInt8],
        qeAuthenticationData: [UInt8], certificateChain: [UInt8]
    ) {
        self.signature = signature
        self.attestationKey = attestationKey
        self.qeReport = qeReport
        self.qeReportSignature = qeReportSignature
        self.qeAuthenticationData = qeAuthenticationData
        self.certificateChain = certificateChain
    }

    /// Reads the section, which `reader` holds and nothing else.
    init(parsing reader: inout ByteReader) throws(ParseError) {
        signature = try reader.take(64, "signature.ecdsa")
        attestationKey = try reader.take(64, "signature.attestation_key")
        var outer = try Self.certification(
            &reader, type: Self.qeReportCertification, "signature.certification_data")
        qeReport = try QEReport(parsing: &outer)
        qeReportSignature = try outer.take(64, "signature.qe_report_signature")
        let count = try outer.le(UInt16.self, "signature.qe_auth_data.size")
        qeAuthenticationData = try outer.take(Int(count), "signature.qe_auth_data")
        let inner = try Self.certification(&outer, type: Self.pckChainCertification, "signature.pck_certification_data")
        certificateChain = inner.rest
        try outer.end("signature.certification_data")
    }

    /// type u16 · size u32 · that many bytes; another type is refused.
    private static func certification(
        _ reader: inout ByteReader, type expected: UInt16, _ field: String
    ) throws(ParseError) -> ByteReader {
        let offset = reader.offset
        let type = try reader.le(UInt16.self, "\(field).type")
        guard type == expected else {
            throw ParseError(
                "certification-type", field: "\(field).type", offset: offset, "must be \(expected), is \(type)")
        }
        let size = try reader.le(UInt32.self, "\(field).size")
        return try reader.sub(Int(size), field)
    }

    /// Everything by which the PCK vouches for the attestation key, unambiguous: fixed lengths, then the rest.
    var endorsement: [UInt8] { attestationKey + qeReport.bytes + qeReportSignature + qeAuthenticationData }

    public func serialize() -> [UInt8] {
        var inner = ByteWriter()
        inner.append(qeReport.bytes)
        inner.append(qeReportSignature)
        inner.le(UInt16(truncatingIfNeeded: qeAuthenticationData.count))
        inner.append(qeAuthenticationData)
        inner.le(Self.pckChainCertification)
        inner.le(UInt32(truncatingIfNeeded: certificateChain.count))
        inner.append(certificateChain)
        var writer = ByteWriter()
        writer.append(signature)
        writer.append(attestationKey)
        writer.le(Self.qeReportCertification)
        writer.le(UInt32(truncatingIfNeeded: inner.bytes.count))
        writer.append(inner.bytes)
        return writer.bytes
    }
}

/// The SGX report of the quoting enclave (Intel SDM vol. 3D, REPORT without key id and MAC), 384 bytes.
///
/// miscselect 4 @16 · attributes 16 @48 · mrenclave 32 @64 · mrsigner 32 @128 · isvprodid u16 @256 · isvsvn u16 @258 ·
/// report_data 64 @320. The rest is not used; all of it is covered by the PCK's signature.
public struct QEReport: Sendable, Equatable {
    /// All 384 bytes.
    public let bytes: [UInt8]
    public let miscSelect: [UInt8]
    public let attributes: [UInt8]
    public let mrEnclave: [UInt8]
    public let mrSigner: [UInt8]
    public let isvProdID: UInt16
    public let isvSVN: UInt16
    public let reportData: [UInt8]

    public static let size = 384

    /// Reads exactly 384 bytes.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = ByteReader(bytes)
        self = try QEReport(parsing: &reader)
        try reader.end("qe_report")
    }

    init(parsing outer: inout ByteReader) throws(ParseError) {
        var reader = try outer.sub(Self.size, "qe_report")
        bytes = reader.rest
        try reader.skip(16, "qe_report.cpusvn")
        miscSelect = try reader.take(4, "qe_report.miscselect")
        try reader.skip(28, "qe_report.reserved1")
        attributes = try reader.take(16, "qe_report.attributes")
        mrEnclave = try reader.take(32, "qe_report.mrenclave")
        try reader.skip(32, "qe_report.reserved2")
        mrSigner = try reader.take(32, "qe_report.mrsigner")
        try reader.skip(96, "qe_report.reserved3")
        isvProdID = try reader.le(UInt16.self, "qe_report.isvprodid")
        isvSVN = try reader.le(UInt16.self, "qe_report.isvsvn")
        try reader.skip(60, "qe_report.reserved4")
        reportData = try reader.take(64, "qe_report.report_data")
    }

    /// What `report_data` must be: SHA-256(attestation key ‖ authentication data), then 32 zero bytes.
    public static func binding(attestationKey: [UInt8], authenticationData: [UInt8]) -> [UInt8] {
        HashAlgorithm.sha256.hash(attestationKey + authenticationData) + [UInt8](repeating: 0, count: 32)
    }
}
