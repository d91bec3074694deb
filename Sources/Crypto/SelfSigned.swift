import Bytes

extension Certificate {
    /// An X.509 v3 certificate (RFC 5280) for `key` signed by `key` itself: P-256, not an authority, its name also
    /// the only subjectAltName (DNS).
    ///
    /// - Parameters:
    ///   - commonName: a host name.
    ///   - notBefore, notAfter: allow for the peer's clock, a freshly booted node's included.
    public static func selfSigned(
        key: PrivateKey, commonName: String, notBefore: Instant, notAfter: Instant
    ) throws(CryptoError) -> Certificate {
        try CertificateIssuer(key: key, commonName: commonName).issue(
            CertificateTemplate(
                commonName: commonName, names: [.dns(commonName)], purpose: .signing, notBefore: notBefore,
                notAfter: notAfter),
            for: key.publicKey)
    }
}
