import Bytes
import Crypto

/// Makes certificates and revocation lists of any shape, right or wrong, byte by byte (RFC 5280).
///
/// Every name carries the organization `organization`, so that nobody takes one of these for a vendor's.
public struct CertificateBuilder: Sendable {
    public struct Extension: Sendable {
        public var oid: String
        public var critical: Bool
        public var value: [UInt8]
        public init(_ oid: String, critical: Bool = false, _ value: [UInt8]) {
            self.oid = oid
            self.critical = critical
            self.value = value
        }
    }

    /// AlgorithmIdentifier of RSASSA-PSS with SHA-384, MGF1 SHA-384 and the given salt length.
    public static func pss(salt: UInt8 = 48) -> [UInt8] {
        let sha384 = DER.sequence([DER.oid("2.16.840.1.101.3.4.2.2"), [5, 0]])
        let mgf = DER.sequence([DER.oid("1.2.840.113549.1.1.8"), sha384])
        return DER.sequence([
            DER.oid("1.2.840.113549.1.1.10"),
            DER.sequence([
                DER.element(0xA0, sha384), DER.element(0xA1, mgf), DER.element(0xA2, DER.unsigned([salt])),
            ]),
        ])
    }
    /// What every subject and issuer says beside its common name.
    public static let organization = "Nacre Simulated TEE – proves nothing"

    /// AlgorithmIdentifier of ecdsa-with-SHA256.
    public static let ecdsaSHA256 = DER.sequence([DER.oid("1.2.840.10045.4.3.2")])
    /// AlgorithmIdentifier of sha384WithRSAEncryption.
    public static let pkcs1SHA384 = DER.sequence([DER.oid("1.2.840.113549.1.1.12"), [5, 0]])

    public var subject: String
    public var issuer: String
    public var serial: [UInt8] = []
    public var notBefore = "20200101000000Z"
    public var notAfter = "20450101000000Z"
    public var spki: [UInt8]
    public var extensions: [Extension] = []
    public var algorithm = pss()
    public var scheme = SignatureScheme.rsaPSS(.sha384)

    public init(subject: String, issuer: String, spki: [UInt8]) {
        self.subject = subject
        self.issuer = issuer
        self.spki = spki
    }

    public static func basicConstraints(ca: Bool) -> Extension {
        Extension("2.5.29.19", critical: true, DER.sequence(ca ? [[1, 1, 0xFF]] : []))
    }
    /// keyCertSign and cRLSign.
    public static let authorityUsage = Extension("2.5.29.15", critical: true, [3, 2, 1, 6])

    /// Number and authority key identifier, which §5.2 wants in every revocation list.
    public static func listExtensions(_ key: PublicKey) -> [Extension] {
        let identifier = DER.element(0x80, Array(HashAlgorithm.sha256.hash(key.spki).prefix(20)))
        return [Extension("2.5.29.20", [2, 1, 1]), Extension("2.5.29.35", DER.sequence([identifier]))]
    }

    private var encodedExtensions: [[UInt8]] {
        extensions.map { item in
            DER.sequence([DER.oid(item.oid), item.critical ? [1, 1, 0xFF] : [], DER.element(0x04, item.value)])
        }
    }

    public func certificate(signedBy key: PrivateKey) throws(CryptoError) -> Certificate {
        let list = encodedExtensions
        let tbs = DER.sequence([
            DER.element(0xA0, [2, 1, 2]), DER.unsigned(serial), algorithm, Self.name(issuer),
            DER.sequence([Self.time(notBefore), Self.time(notAfter)]), Self.name(subject), spki,
            list.isEmpty ? [] : DER.element(0xA3, DER.sequence(list)),
        ])
        return try Certificate(der: try signed(tbs, key))
    }

    /// A list of `revoked` serial numbers by `issuer`, from `notBefore` to `notAfter`.
    public func revocationList(revoked: [[UInt8]], signedBy key: PrivateKey) throws(CryptoError) -> RevocationList {
        let entries = revoked.map { DER.sequence([DER.unsigned($0), Self.time(notBefore)]) }
        let tbs = DER.sequence([
            [2, 1, 1], algorithm, Self.name(issuer), Self.time(notBefore), Self.time(notAfter),
            entries.isEmpty ? [] : DER.sequence(entries),
            extensions.isEmpty ? [] : DER.element(0xA0, DER.sequence(encodedExtensions)),
        ])
        return try RevocationList(der: try signed(tbs, key))
    }

    private func signed(_ tbs: [UInt8], _ key: PrivateKey) throws(CryptoError) -> [UInt8] {
        DER.sequence([tbs, algorithm, DER.element(0x03, [0] + (try key.sign(tbs, scheme: scheme)))])
    }

    private static func name(_ commonName: String) -> [UInt8] {
        DER.name(commonName: commonName, organizations: [organization])
    }

    /// UTCTime until 2049, GeneralizedTime from 2050 (§4.1.2.5); `text` may be written as RFC 3339 too.
    private static func time(_ text: String) -> [UInt8] {
        let digits = text.utf8.filter { (48...57).contains($0) } + [UInt8(ascii: "Z")]
        return text < "2050" ? DER.element(0x17, Array(digits.dropFirst(2))) : DER.element(0x18, digits)
    }
}
