import Bytes
import Crypto

/// A TPM2B_PUBLIC (TPM 2.0 Part 2 §12.2.5) of an RSA or elliptic-curve key.
public struct TPMPublic: Equatable, Sendable {
    /// TPMA_OBJECT (Part 2 §8.3).
    public struct Attributes: OptionSet, Sendable, Hashable {
        public let rawValue: UInt32
        public init(rawValue: UInt32) { self.rawValue = rawValue }

        public static let fixedTPM = Attributes(rawValue: 1 << 1)
        public static let stClear = Attributes(rawValue: 1 << 2)
        public static let fixedParent = Attributes(rawValue: 1 << 4)
        public static let sensitiveDataOrigin = Attributes(rawValue: 1 << 5)
        public static let userWithAuth = Attributes(rawValue: 1 << 6)
        public static let adminWithPolicy = Attributes(rawValue: 1 << 7)
        public static let firmwareLimited = Attributes(rawValue: 1 << 8)
        public static let svnLimited = Attributes(rawValue: 1 << 9)
        public static let noDA = Attributes(rawValue: 1 << 10)
        public static let encryptedDuplication = Attributes(rawValue: 1 << 11)
        public static let restricted = Attributes(rawValue: 1 << 16)
        public static let decrypt = Attributes(rawValue: 1 << 17)
        public static let sign = Attributes(rawValue: 1 << 18)
        public static let x509Sign = Attributes(rawValue: 1 << 19)

        /// Bits that the specification keeps zero.
        static let reserved: UInt32 = 1 << 0 | 1 << 3 | 0xF << 12 | 0xFFF << 20
        /// What makes a key an attestation key: it signs only what the TPM itself wrote, and cannot leave the TPM.
        static let attestation: Attributes = [.restricted, .sign, .fixedTPM, .fixedParent, .sensitiveDataOrigin]

        private static let names: [(Attributes, String)] = [
            (.fixedTPM, "fixedTPM"), (.stClear, "stClear"), (.fixedParent, "fixedParent"),
            (.sensitiveDataOrigin, "sensitiveDataOrigin"), (.userWithAuth, "userWithAuth"),
            (.adminWithPolicy, "adminWithPolicy"), (.firmwareLimited, "firmwareLimited"), (.svnLimited, "svnLimited"),
            (.noDA, "noDA"), (.encryptedDuplication, "encryptedDuplication"), (.restricted, "restricted"),
            (.decrypt, "decrypt"), (.sign, "sign"), (.x509Sign, "x509sign"),
        ]
        /// The set bits' names, in order of the bits.
        public var names: [String] { Self.names.filter { contains($0.0) }.map(\.1) }
    }

    /// A signing or encryption scheme that the key is fixed to.
    public struct Scheme: Equatable, Sendable {
        /// TPM_ALG_ID.
        public let algorithm: UInt16
        public let hash: HashAlgorithm?
    }

    /// TPMT_SYM_DEF_OBJECT of a storage key.
    public struct Symmetric: Equatable, Sendable {
        /// TPM_ALG_ID.
        public let algorithm: UInt16
        public let keyBits: UInt16
        /// TPM_ALG_ID.
        public let mode: UInt16
    }

    /// The key itself.
    public enum Unique: Equatable, Sendable {
        case rsa(modulus: [UInt8], exponent: UInt32)
        case ecc(Curve, x: [UInt8], y: [UInt8])
    }

    public let nameAlgorithm: HashAlgorithm
    public let attributes: Attributes
    /// Digest of the key's authorisation policy, or empty.
    public let authPolicy: [UInt8]
    /// `nil`: TPM_ALG_NULL, any scheme.
    public let scheme: Scheme?
    /// What a storage key encrypts its children with; `nil` for keys that store nothing.
    public let symmetric: Symmetric?
    public let unique: Unique
    /// The TPMT_PUBLIC inside.
    public let area: [UInt8]

    /// - Throws: `ParseError`, also for reserved attribute bits, other key types, other curves, and trailing bytes.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var outer = ByteReader(bytes)
        area = try outer.sized("TPM2B_PUBLIC", limit: 2048)
        try outer.end("TPM2B_PUBLIC")
        var reader = ByteReader(area, base: 2)
        let type = try reader.be(UInt16.self, "TPMT_PUBLIC.type")
        nameAlgorithm = try reader.hash("TPMT_PUBLIC.nameAlg")
        let bits = try reader.be(UInt32.self, "TPMT_PUBLIC.objectAttributes")
        guard bits & Attributes.reserved == 0 else {
            throw ParseError(
                "reserved", field: "TPMT_PUBLIC.objectAttributes", offset: reader.offset - 4,
                "reserved bits set in 0x\(Hex.encode(bits))")
        }
        attributes = Attributes(rawValue: bits)
        authPolicy = try reader.sized("TPMT_PUBLIC.authPolicy", limit: 64)
        switch type {
        case AlgorithmID.rsa: (symmetric, scheme, unique) = try Self.rsa(&reader)
        case AlgorithmID.ecc: (symmetric, scheme, unique) = try Self.ecc(&reader)
        default:
            throw ParseError(
                "range", field: "TPMT_PUBLIC.type", offset: 2, "0x\(Hex.encode(type)) is neither RSA nor ECC")
        }
        try reader.end("TPMT_PUBLIC")
    }

    private static func rsa(_ reader: inout ByteReader) throws(ParseError) -> (Symmetric?, Scheme?, Unique) {
        let symmetric = try symmetric(&reader)
        let scheme = try scheme(&reader, "TPMT_RSA_SCHEME")
        let keyBits = try reader.be(UInt16.self, "TPMS_RSA_PARMS.keyBits")
        let exponent = try reader.be(UInt32.self, "TPMS_RSA_PARMS.exponent")
        let offset = reader.offset
        let modulus = try reader.sized("TPM2B_PUBLIC_KEY_RSA", limit: 1024)
        guard [2048, 3072, 4096].contains(keyBits), modulus.count * 8 == Int(keyBits) else {
            throw ParseError(
                "range", field: "TPM2B_PUBLIC_KEY_RSA", offset: offset, "\(modulus.count) bytes for \(keyBits) bits")
        }
        return (symmetric, scheme, .rsa(modulus: modulus, exponent: exponent == 0 ? 65537 : exponent))
    }

    private static func ecc(_ reader: inout ByteReader) throws(ParseError) -> (Symmetric?, Scheme?, Unique) {
        let symmetric = try symmetric(&reader)
        let scheme = try scheme(&reader, "TPMT_ECC_SCHEME")
        let offset = reader.offset
        let identifier = try reader.be(UInt16.self, "TPMS_ECC_PARMS.curveID")
        guard let curve: Curve = identifier == 3 ? .p256 : identifier == 4 ? .p384 : nil else {
            throw ParseError(
                "range", field: "TPMS_ECC_PARMS.curveID", offset: offset,
                "0x\(Hex.encode(identifier)) is neither P-256 nor P-384")
        }
        if try reader.be(UInt16.self, "TPMT_KDF_SCHEME.scheme") != AlgorithmID.null {
            _ = try reader.hash("TPMT_KDF_SCHEME.hashAlg")
        }
        let x = try reader.sized("TPMS_ECC_POINT.x", limit: curve.coordinateSize)
        let y = try reader.sized("TPMS_ECC_POINT.y", limit: curve.coordinateSize)
        return (
            symmetric, scheme,
            .ecc(curve, x: x.padded(to: curve.coordinateSize), y: y.padded(to: curve.coordinateSize))
        )
    }

    private static func symmetric(_ reader: inout ByteReader) throws(ParseError) -> Symmetric? {
        let algorithm = try reader.be(UInt16.self, "TPMT_SYM_DEF_OBJECT.algorithm")
        guard algorithm != AlgorithmID.null else { return nil }
        return Symmetric(
            algorithm: algorithm, keyBits: try reader.be(UInt16.self, "TPMT_SYM_DEF_OBJECT.keyBits"),
            mode: try reader.be(UInt16.self, "TPMT_SYM_DEF_OBJECT.mode"))
    }

    private static func scheme(_ reader: inout ByteReader, _ field: String) throws(ParseError) -> Scheme? {
        let offset = reader.offset
        let algorithm = try reader.be(UInt16.self, "\(field).scheme")
        switch algorithm {
        case AlgorithmID.null: return nil
        case AlgorithmID.rsaES: return Scheme(algorithm: algorithm, hash: nil)
        case AlgorithmID.rsaSSA, AlgorithmID.rsaPSS, AlgorithmID.oaep, AlgorithmID.ecdsa, AlgorithmID.ecdh:
            return Scheme(algorithm: algorithm, hash: try reader.hash("\(field).hashAlg"))
        default:
            throw ParseError(
                "range", field: "\(field).scheme", offset: offset, "0x\(Hex.encode(algorithm)) is not known here")
        }
    }

    /// The key's Name (Part 1 §16): nameAlg ‖ H(TPMT_PUBLIC).
    public var name: [UInt8] {
        var writer = ByteWriter()
        writer.be(nameAlgorithm.tpmIdentifier)
        return writer.bytes + nameAlgorithm.hash(area)
    }

    /// The key for verifying; throws for a point off its curve.
    public func publicKey() throws(CryptoError) -> PublicKey {
        switch unique {
        case .rsa(let modulus, let exponent): try PublicKey(rsaModulus: modulus, exponent: exponent)
        case .ecc(let curve, let x, let y): try PublicKey.known(curve, x: x, y: y)
        }
    }
}
