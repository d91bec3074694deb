import Bytes
import Crypto

/// A throw-away certificate authority: P-384 certificates (RFC 5280) made by hand, for chains that no genuine sample
/// shows.
public struct TestAuthority {
    public let key: PrivateKey
    public let name: String
    public let certificate: Certificate

    /// A self-signed root.
    public init(root name: String) throws {
        key = try PrivateKey(generating: .p384)
        self.name = name
        certificate = try Self.issue(
            name, key.publicKey, by: key, issuer: name, extensions: [Self.authority])
    }

    /// A certificate by this authority, valid 2020 to 2040 unless said otherwise.
    public func issue(
        _ subject: String, _ publicKey: PublicKey, extensions: [[UInt8]] = [], from: String = "200101000000Z",
        until: String = "400101000000Z"
    ) throws -> Certificate {
        try Self.issue(subject, publicKey, by: key, issuer: name, extensions: extensions, from: from, until: until)
    }

    public static let authority = extensionDER([0x55, 0x1D, 0x13], critical: true, DER.sequence([[0x01, 0x01, 0xFF]]))
    public static let digitalSignature = extensionDER([0x55, 0x1D, 0x0F], critical: true, [0x03, 0x02, 0x07, 0x80])
    public static let certificateSigning = extensionDER([0x55, 0x1D, 0x0F], critical: true, [0x03, 0x02, 0x02, 0x04])

    /// extKeyUsage with one of TCG's purposes, 2.23.133.8.n.
    public static func purpose(_ number: UInt8) -> [UInt8] {
        extensionDER(
            [0x55, 0x1D, 0x25], critical: false, DER.sequence([DER.element(6, [0x67, 0x81, 0x05, 0x08, number])]))
    }

    public static let keyAgreement = extensionDER([0x55, 0x1D, 0x0F], critical: true, [0x03, 0x02, 0x03, 0x08])
    /// What an endorsement certificate for an elliptic-curve key carries (TCG EK Credential Profile 2.6 §3.2).
    public static let endorsement = [purpose(1), keyAgreement, tpmNames()]

    /// subjectAltName with the first `count` of: manufacturer IBM, a model, a version, then the first again.
    public static func tpmNames(_ count: UInt8 = 3) -> [UInt8] {
        let texts = ["id:49424D00", "model", "id:00010002"]
        let attributes = (0..<Int(count)).map { index in
            DER.element(
                0x31,
                DER.sequence([
                    DER.element(6, [0x67, 0x81, 0x05, 0x02, UInt8(index % 3) + 1]),
                    DER.element(0x0C, Array(texts[index % 3].utf8)),
                ]))
        }
        let directory = DER.element(0xA4, DER.sequence(attributes))
        return extensionDER([0x55, 0x1D, 0x11], critical: false, DER.sequence([directory]))
    }

    public static func extensionDER(_ oid: [UInt8], critical: Bool, _ value: [UInt8]) -> [UInt8] {
        DER.sequence([DER.element(6, oid), critical ? [0x01, 0x01, 0xFF] : [], DER.element(4, value)])
    }

    private static func issue(
        _ subject: String, _ publicKey: PublicKey, by key: PrivateKey, issuer: String, extensions: [[UInt8]],
        from: String = "200101000000Z", until: String = "400101000000Z"
    ) throws -> Certificate {
        func name(_ text: String) -> [UInt8] {
            let attribute = DER.sequence([DER.element(6, [0x55, 0x04, 0x03]), DER.element(0x0C, Array(text.utf8))])
            return DER.sequence([DER.element(0x31, attribute)])
        }
        func time(_ text: String) -> [UInt8] { DER.element(0x17, Array(text.utf8)) }
        let algorithm = DER.sequence([DER.element(6, [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x03])])
        let body = DER.sequence([
            DER.element(0xA0, [2, 1, 2]), DER.unsigned([UInt8.random(in: 1...127)]), algorithm, name(issuer),
            DER.sequence([time(from), time(until)]), name(subject), publicKey.spki,
            extensions.isEmpty ? [] : DER.element(0xA3, DER.sequence(extensions)),
        ])
        let signature = try key.sign(body, scheme: .ecdsa(.sha384))
        return try Certificate(der: DER.sequence([body, algorithm, DER.element(3, [0] + signature)]))
    }
}
