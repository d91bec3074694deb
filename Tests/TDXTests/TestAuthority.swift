import Bytes
import Crypto

@testable import TDX

/// Certificates and CRLs of a throw-away authority, written in DER by hand; libcrypto is what reads them.
struct TestAuthority {
    let name: String
    let key: PrivateKey

    init(_ name: String) throws {
        self.name = name
        key = try PrivateKey(generating: .p256)
    }

    /// What varies between the certificates of a test.
    struct Subject {
        var name: String
        var key: PrivateKey
        var serial: [UInt8]
        var notBefore = "2025-01-01T00:00:00Z"
        var notAfter = "2035-01-01T00:00:00Z"
        var isCA = false
        /// Complete Extension elements beside basicConstraints.
        var extensions: [[UInt8]] = []
    }

    static let ecdsaSHA256 = DER.sequence([oid([0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, 0x02])])

    static func oid(_ content: [UInt8]) -> [UInt8] { DER.element(0x06, content) }

    static func name(_ commonName: String) -> [UInt8] {
        let attribute = DER.sequence([oid([0x55, 0x04, 0x03]), DER.element(0x0C, Array(commonName.utf8))])
        return DER.sequence([DER.element(0x31, attribute)])
    }

    /// UTCTime until 2049, GeneralizedTime from 2050 (RFC 5280 §4.1.2.5).
    static func time(_ text: String) -> [UInt8] {
        let digits = text.utf8.filter { (48...57).contains($0) } + [UInt8(ascii: "Z")]
        return text < "2050" ? DER.element(0x17, Array(digits.dropFirst(2))) : DER.element(0x18, digits)
    }

    static func ext(_ id: [UInt8], critical: Bool, _ value: [UInt8]) -> [UInt8] {
        DER.sequence([oid(id), critical ? [1, 1, 0xFF] : [], DER.element(0x04, value)])
    }

    private func signed(_ body: [UInt8]) throws -> [UInt8] {
        let signature = try key.sign(body, scheme: .ecdsa(.sha256))
        return DER.sequence([body, Self.ecdsaSHA256, DER.element(0x03, [0] + signature)])
    }

    func certificate(_ subject: Subject) throws -> [UInt8] {
        let constraints = Self.ext(
            [0x55, 0x1D, 0x13], critical: true, DER.sequence(subject.isCA ? [[1, 1, 0xFF]] : []))
        return try signed(
            DER.sequence([
                DER.element(0xA0, [2, 1, 2]), DER.unsigned(subject.serial), Self.ecdsaSHA256, Self.name(name),
                DER.sequence([Self.time(subject.notBefore), Self.time(subject.notAfter)]), Self.name(subject.name),
                subject.key.publicKey.spki,
                DER.element(0xA3, DER.sequence([constraints] + subject.extensions)),
            ]))
    }

    /// This authority's own certificate.
    func root(serial: [UInt8] = [1], notAfter: String = "2045-01-01T00:00:00Z") throws -> [UInt8] {
        try certificate(Subject(name: name, key: key, serial: serial, notAfter: notAfter, isCA: true))
    }

    func revocationList(
        _ serials: [[UInt8]] = [], from: String = "2026-02-01T00:00:00Z", to: String = "2026-03-03T00:00:00Z"
    ) throws -> [UInt8] {
        let entries = serials.map { DER.sequence([DER.unsigned($0), Self.time(from)]) }
        // RFC 5280 §5.2 wants both in every list.
        let keyID = Array(HashAlgorithm.sha256.hash(key.publicKey.spki).prefix(20))
        let authority = Self.ext([0x55, 0x1D, 0x23], critical: false, DER.sequence([DER.element(0x80, keyID)]))
        let number = Self.ext([0x55, 0x1D, 0x14], critical: false, [2, 1, 1])
        return try signed(
            DER.sequence([
                [2, 1, 1], Self.ecdsaSHA256, Self.name(name), Self.time(from), Self.time(to),
                entries.isEmpty ? [] : DER.sequence(entries),
                DER.element(0xA0, DER.sequence([number, authority])),
            ]))
    }
}
