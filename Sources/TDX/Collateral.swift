import Bytes
import Crypto

/// Everything that Intel publishes and a verifier of one quote needs, as one JSON document.
///
/// The form is that of dcap-qvl's `QuoteCollateralV3`: PEM chains and signed JSON as strings, CRLs and signatures as hex.
/// `tcb_info` and `qe_identity` are the exact bytes that were signed, never re-encoded. Unknown fields are refused.
/// Nothing is verified here.
public struct Collateral: Sendable, Equatable {
    /// PEM: PCK CA, root.
    public var pckCRLIssuerChain: [UInt8]
    /// DER, by the root.
    public var rootCRL: [UInt8]
    /// DER, by the PCK CA.
    public var pckCRL: [UInt8]
    /// PEM: TCB signing certificate, root.
    public var tcbInfoIssuerChain: [UInt8]
    public var tcbInfo: [UInt8]
    /// r ‖ s.
    public var tcbInfoSignature: [UInt8]
    public var qeIdentityIssuerChain: [UInt8]
    public var qeIdentity: [UInt8]
    public var qeIdentitySignature: [UInt8]

    /// Longest document that is looked at; genuine ones are about 20 KiB.
    public static let maximumSize = 4 << 20

    public init(
        pckCRLIssuerChain: [UInt8], rootCRL: [UInt8], pckCRL: [UInt8], tcbInfoIssuerChain: [UInt8], tcbInfo: [UInt8],
        tcbInfoSignature: [UInt8], qeIdentityIssuerChain: [UInt8], qeIdentity: [UInt8], qeIdentitySignature: [UInt8]
    ) {
        self.pckCRLIssuerChain = pckCRLIssuerChain
        self.rootCRL = rootCRL
        self.pckCRL = pckCRL
        self.tcbInfoIssuerChain = tcbInfoIssuerChain
        self.tcbInfo = tcbInfo
        self.tcbInfoSignature = tcbInfoSignature
        self.qeIdentityIssuerChain = qeIdentityIssuerChain
        self.qeIdentity = qeIdentity
        self.qeIdentitySignature = qeIdentitySignature
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        try self.init(JSON(parsing: bytes, limit: Self.maximumSize))
    }

    public init(_ json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "collateral")
        pckCRLIssuerChain = Array(try fields.string("pck_crl_issuer_chain").utf8)
        rootCRL = try fields.hex("root_ca_crl")
        pckCRL = try fields.hex("pck_crl")
        tcbInfoIssuerChain = Array(try fields.string("tcb_info_issuer_chain").utf8)
        tcbInfo = Array(try fields.string("tcb_info").utf8)
        tcbInfoSignature = try fields.hex("tcb_info_signature", count: 64)
        qeIdentityIssuerChain = Array(try fields.string("qe_identity_issuer_chain").utf8)
        qeIdentity = Array(try fields.string("qe_identity").utf8)
        qeIdentitySignature = try fields.hex("qe_identity_signature", count: 64)
        // dcap-qvl adds the PCK chain for quotes that do not carry it; such quotes are refused, so it is never used.
        _ = fields.optional("pck_certificate_chain")
        try fields.end()
    }

    /// The document; parsing it gives the same value.
    public var json: JSON {
        func text(_ bytes: [UInt8]) -> JSON { .string(String(decoding: bytes, as: UTF8.self)) }
        return .object([
            "pck_crl_issuer_chain": text(pckCRLIssuerChain),
            "root_ca_crl": .hex(rootCRL),
            "pck_crl": .hex(pckCRL),
            "tcb_info_issuer_chain": text(tcbInfoIssuerChain),
            "tcb_info": text(tcbInfo),
            "tcb_info_signature": .hex(tcbInfoSignature),
            "qe_identity_issuer_chain": text(qeIdentityIssuerChain),
            "qe_identity": text(qeIdentity),
            "qe_identity_signature": .hex(qeIdentitySignature),
        ])
    }
}
