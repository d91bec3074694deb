import Bytes
import Crypto

/// An attestation document of AWS's NitroTPM: COSE_Sign1 (RFC 9052) over a CBOR map of register values, signed by the
/// Nitro hypervisor ("Validate a NitroTPM Attestation Document", EC2 User Guide). Form only; nothing is verified here.
public struct NitroTPMDocument: Sendable {
    /// The hypervisor module that signed, `i-<instance>-tpm<number>`.
    public let moduleID: String
    /// Milliseconds since 1970.
    public let timestamp: UInt64
    /// SHA-384 registers.
    public let pcrs: PCRBank
    /// The signer's certificate, DER.
    public let certificate: [UInt8]
    /// Its issuers, DER, root first.
    public let bundle: [[UInt8]]
    public let publicKey: [UInt8]?
    public let userData: [UInt8]?
    public let nonce: [UInt8]?
    /// r ‖ s of P-384.
    public let signature: [UInt8]
    /// The Sig_structure that was signed.
    public let signed: [UInt8]

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var outer = try CBOR(parsing: bytes)
        if case .tagged(18, let inner) = outer { outer = inner }
        guard let parts = outer.array, parts.count == 4, let header = parts[0].byteString, parts[1].map == [:],
            let payload = parts[2].byteString, let signature = parts[3].byteString, signature.count == 96
        else { throw Self.error("COSE_Sign1", "not four parts with a payload and a signature of 96 bytes") }
        // The only protected header is alg: ES384.
        guard try CBOR(parsing: header) == .map([.integer(1): .integer(-35)]) else {
            throw Self.error("COSE_Sign1.protected", "not {1: -35}")
        }
        self.signature = signature
        signed = CBOR.array([.text("Signature1"), .bytes(header), .bytes([]), .bytes(payload)]).encoded
        guard var fields = try CBOR(parsing: payload).map else { throw Self.error("payload", "not a map") }
        func take(_ name: String) -> CBOR? { fields.removeValue(forKey: .text(name)) }
        func optionalBytes(_ name: String) throws(ParseError) -> [UInt8]? {
            guard let value = take(name), value != .null else { return nil }
            guard let bytes = value.byteString, bytes.count <= 2048 else { throw Self.error(name, "not a byte string") }
            return bytes
        }
        guard let module = take("module_id")?.text, !module.isEmpty else { throw Self.error("module_id", "missing") }
        moduleID = module
        guard let time = take("timestamp")?.integer, time > 0 else { throw Self.error("timestamp", "missing") }
        timestamp = UInt64(time)
        guard take("digest") == .text("SHA384") else { throw Self.error("digest", "not SHA384") }
        pcrs = try Self.registers(take("nitrotpm_pcrs"))
        guard let certificate = take("certificate")?.byteString else { throw Self.error("certificate", "missing") }
        self.certificate = certificate
        let bundle = take("cabundle")?.array ?? []
        self.bundle = bundle.compactMap(\.byteString)
        guard !bundle.isEmpty, bundle.count <= 8, self.bundle.count == bundle.count else {
            throw Self.error("cabundle", "\(bundle.count) certificates")
        }
        publicKey = try optionalBytes("public_key")
        userData = try optionalBytes("user_data")
        nonce = try optionalBytes("nonce")
        guard fields.isEmpty else { throw Self.error("payload", "\(fields.count) unknown fields") }
    }

    private static func registers(_ value: CBOR?) throws(ParseError) -> PCRBank {
        guard let map = value?.map, !map.isEmpty else { throw error("nitrotpm_pcrs", "missing") }
        var registers: [Int: [UInt8]] = [:]
        for (key, value) in map {
            guard let index = key.integer, let digest = value.byteString else {
                throw error("nitrotpm_pcrs", "not a map of numbers to digests")
            }
            registers[Int(index)] = digest
        }
        return try PCRBank(values: [.sha384: registers], path: "nitrotpm_pcrs")
    }

    private static func error(_ field: String, _ message: String) -> ParseError {
        ParseError("form", field: "NitroTPM \(field)", offset: 0, message)
    }
}
