import Bytes
import Crypto

/// A throw-away P-256 authority shaped like Intel's.
public struct TDXAuthority: Sendable {
    public let name: String
    public let key: PrivateKey

    public init(_ name: String) throws(CryptoError) {
        self.name = name
        key = try PrivateKey(generating: .p256)
    }

    /// What varies between certificates.
    public struct Subject: Sendable {
        public var name: String
        public var key: PrivateKey
        public var serial: [UInt8]
        public var notBefore = "2025-01-01T00:00:00Z"
        public var notAfter = "2045-01-01T00:00:00Z"
        public var isCA = false
        /// Beside basicConstraints.
        public var extensions: [CertificateBuilder.Extension] = []

        public init(name: String, key: PrivateKey, serial: [UInt8], isCA: Bool = false) {
            self.name = name
            self.key = key
            self.serial = serial
            self.isCA = isCA
        }
    }

    private func builder(_ subject: String, _ spki: [UInt8]) -> CertificateBuilder {
        var builder = CertificateBuilder(subject: subject, issuer: name, spki: spki)
        builder.algorithm = CertificateBuilder.ecdsaSHA256
        builder.scheme = .ecdsa(.sha256)
        return builder
    }

    public func certificate(_ subject: Subject) throws(CryptoError) -> [UInt8] {
        var made = builder(subject.name, subject.key.publicKey.spki)
        made.serial = subject.serial
        made.notBefore = subject.notBefore
        made.notAfter = subject.notAfter
        made.extensions = [CertificateBuilder.basicConstraints(ca: subject.isCA)] + subject.extensions
        return try made.certificate(signedBy: key).der
    }

    /// This authority's own certificate, issued as number `serial`.
    public func root(serial: [UInt8] = [1], notAfter: String = "2045-01-01T00:00:00Z") throws(CryptoError) -> [UInt8] {
        var subject = Subject(name: name, key: key, serial: serial, isCA: true)
        subject.notAfter = notAfter
        return try certificate(subject)
    }

    public func revocationList(
        _ serials: [[UInt8]] = [], from: String, to: String
    ) throws(CryptoError) -> [UInt8] {
        var made = builder(name, [])
        made.notBefore = from
        made.notAfter = to
        made.extensions = CertificateBuilder.listExtensions(key.publicKey)
        return try made.revocationList(revoked: serials, signedBy: key).der
    }
}
