import Bytes
import COpenSSL

/// What a certificate is to say (RFC 5280), but who signs it.
public struct CertificateTemplate: Sendable, Equatable {
    /// What its key may be used for.
    public enum Purpose: Sendable, Equatable {
        /// Issuing certificates that issue none themselves.
        case authority
        case client, server
        /// Either end of a connection.
        case peer
        /// Whatever one signs for: not limited.
        case signing
    }

    public enum Name: Sendable, Equatable, Hashable {
        case dns(String)
        case ip(IPAddress)

        /// An address, or a host name of lower-case letters, digits, inner hyphens and dots.
        public init?(_ text: String) {
            if let address = IPAddress(text) {
                self = .ip(address)
            } else {
                guard CertificateTemplate.isHost(text) else { return nil }
                self = .dns(text)
            }
        }
    }

    public var commonName: String
    public var organizations: [String]
    public var names: [Name]
    public var purpose: Purpose
    public var notBefore: Instant
    public var notAfter: Instant

    public init(
        commonName: String, organizations: [String] = [], names: [Name] = [], purpose: Purpose, notBefore: Instant,
        notAfter: Instant
    ) {
        self.commonName = commonName
        self.organizations = organizations
        self.names = names
        self.purpose = purpose
        self.notBefore = notBefore
        self.notAfter = notAfter
    }
}

/// A key that signs certificates, with the name that it signs by. P-256, ECDSA with SHA-256.
public struct CertificateIssuer: Sendable {
    public let key: PrivateKey
    public let commonName: String
    private let keyIdentifier: [UInt8]

    public init(key: PrivateKey, commonName: String) throws(CryptoError) {
        guard key.publicKey.kind == .p256 else { throw CryptoError(.form, "an issuer's key is P-256") }
        self.key = key
        self.commonName = commonName
        keyIdentifier = DER.keyIdentifier(key.publicKey)
    }

    /// The issuer's own certificate: subject and key are always the same, so that what it issued verifies against any.
    public func certificate(notBefore: Instant, notAfter: Instant) throws(CryptoError) -> Certificate {
        try issue(
            CertificateTemplate(
                commonName: commonName, purpose: .authority, notBefore: notBefore, notAfter: notAfter),
            for: key.publicKey)
    }

    /// A certificate for `key` with a random serial number of 16 bytes.
    ///
    /// - Throws: `.form` for names, times or a key that a certificate of this kind cannot have.
    public func issue(_ template: CertificateTemplate, for key: PublicKey) throws(CryptoError) -> Certificate {
        try template.check()
        guard key.kind == .p256 else { throw CryptoError(.form, "certificates are made for P-256 keys only") }
        var serial = randomBytes(16)
        // Positive, and 16 bytes long always.
        serial[0] = serial[0] & 0x7F | 0x40
        let algorithm = DER.sequence([DER.oid("1.2.840.10045.4.3.2")])
        let tbs = DER.sequence([
            DER.element(0xA0, [2, 1, 2]), DER.unsigned(serial), algorithm,
            DER.name(commonName: commonName, organizations: []),
            DER.sequence([DER.time(template.notBefore), DER.time(template.notAfter)]),
            DER.name(commonName: template.commonName, organizations: template.organizations), key.spki,
            DER.element(0xA3, DER.sequence(extensions(template, key))),
        ])
        let signature = try self.key.sign(tbs, scheme: .ecdsa(.sha256))
        return try Certificate(der: DER.sequence([tbs, algorithm, DER.element(0x03, [0] + signature)]))
    }

    private func extensions(_ template: CertificateTemplate, _ key: PublicKey) -> [[UInt8]] {
        func item(_ type: String, critical: Bool = false, _ value: [UInt8]) -> [UInt8] {
            DER.sequence([DER.oid(type), critical ? [1, 1, 0xFF] : [], DER.element(0x04, value)])
        }
        let isAuthority = template.purpose == .authority
        // CA with a path length of 0; keyCertSign and cRLSign, or digitalSignature.
        var list = [
            item("2.5.29.19", critical: true, DER.sequence(isAuthority ? [[1, 1, 0xFF], [2, 1, 0]] : [])),
            item("2.5.29.15", critical: true, isAuthority ? [3, 2, 1, 6] : [3, 2, 7, 0x80]),
        ]
        let usages: [Int] =
            switch template.purpose {
            case .authority, .signing: []
            case .client: [2]
            case .server: [1]
            case .peer: [1, 2]
            }
        if !usages.isEmpty {
            list.append(
                item("2.5.29.37", DER.sequence(usages.map { DER.oid("1.3.6.1.5.5.7.3.\($0)") })))
        }
        list.append(item("2.5.29.14", DER.element(0x04, DER.keyIdentifier(key))))
        list.append(item("2.5.29.35", DER.sequence([DER.element(0x80, keyIdentifier)])))
        if !template.names.isEmpty {
            let names = template.names.map { name in
                switch name {
                case .dns(let text): DER.element(0x82, Array(text.utf8))
                case .ip(let address): DER.element(0x87, address.bytes)
                }
            }
            list.append(item("2.5.29.17", DER.sequence(names)))
        }
        return list
    }
}

extension CertificateTemplate {
    fileprivate func check() throws(CryptoError) {
        for text in [commonName] + organizations {
            guard (1...64).contains(text.utf8.count), text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
                throw CryptoError(.form, "a name in a certificate is 1 to 64 printable characters")
            }
        }
        guard organizations.count <= 4, names.count <= 32 else {
            throw CryptoError(.form, "more names than a certificate of this kind has")
        }
        for case .dns(let name) in names where !Self.isHost(name) {
            throw CryptoError(.form, "\(PlainText.line(name, limit: 64)) is not a host name")
        }
        guard notBefore < notAfter else { throw CryptoError(.form, "a certificate that is never valid") }
        // GeneralizedTime has four digits for the year.
        guard notBefore >= Instant(seconds: 0), notAfter < Instant(seconds: 253_402_300_800) else {
            throw CryptoError(.form, "a time that a certificate cannot say")
        }
    }

    /// Labels of lower-case letters, digits and inner hyphens.
    private static func isHost(_ name: String) -> Bool {
        guard (1...253).contains(name.utf8.count) else { return false }
        return name.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).allSatisfy { label in
            (1...63).contains(label.count) && label.first != UInt8(ascii: "-") && label.last != UInt8(ascii: "-")
                && label.allSatisfy { byte in
                    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
                }
        }
    }
}

extension DER {
    /// OBJECT IDENTIFIER from dotted text of two arcs or more; an empty one for any other text.
    public static func oid(_ text: String) -> [UInt8] {
        let arcs = text.split(separator: ".").compactMap { UInt64($0) }
        // X.690 §8.19.4: the first two share a number.
        guard arcs.count >= 2, arcs[0] <= 2, arcs[1] <= UInt64.max - 80 else { return element(0x06, []) }
        var content: [UInt8] = []
        for arc in [arcs[0] * 40 + arcs[1]] + arcs.dropFirst(2) {
            var digits = [UInt8(arc & 0x7F)]
            var rest = arc >> 7
            while rest > 0 {
                digits.insert(UInt8(rest & 0x7F) | 0x80, at: 0)
                rest >>= 7
            }
            content += digits
        }
        return element(0x06, content)
    }

    /// Organizations, then the common name, as UTF8String.
    public static func name(commonName: String, organizations: [String]) -> [UInt8] {
        func attribute(_ arc: Int, _ value: String) -> [UInt8] {
            element(0x31, sequence([oid("2.5.4.\(arc)"), element(0x0C, Array(value.utf8))]))
        }
        return sequence(organizations.map { attribute(10, $0) } + [attribute(3, commonName)])
    }

    /// UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280 §4.1.2.5).
    static func time(_ time: Instant) -> [UInt8] {
        let digits = time.description.utf8.filter { (48...57).contains($0) } + [UInt8(ascii: "Z")]
        return time < Instant(seconds: 2_524_608_000)
            ? element(0x17, Array(digits.dropFirst(2))) : element(0x18, digits)
    }

    /// The leftmost 160 bits of the SHA-256 of the key's bits (RFC 7093 §2, method 1).
    static func keyIdentifier(_ key: PublicKey) -> [UInt8] {
        Array(HashAlgorithm.sha256.hash([4] + (key.point ?? [])).prefix(20))
    }
}

extension PrivateKey {
    /// The P-256 key that belongs to 48 uniformly random bytes (FIPS 186-5 A.2.1: reduced modulo n - 1, plus 1): 128 more
    /// bits than the order has, so that no key is likelier than another.
    public convenience init(p256From uniform: borrowing Secret) throws(CryptoError) {
        guard uniform.count == 48 else { throw CryptoError(.form, "48 bytes make a P-256 key, not \(uniform.count)") }
        let handle = unsafe uniform.withBytes { bytes in
            unsafe bytes.withUnsafeBytes { bytes -> OpaquePointer? in
                unsafe nacre_ec_private_key(
                    NID_X9_62_prime256v1, Curve.p256.openSSLName, bytes.baseAddress, bytes.count)
            }
        }
        guard let handle = unsafe handle else { throw CryptoError.library("cannot make a P-256 key") }
        unsafe self.init(adopting: handle)
    }
}
