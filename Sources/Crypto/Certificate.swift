import Bytes
import COpenSSL

/// An X.509 certificate (RFC 5280), immutable.
@safe public final class Certificate: @unchecked Sendable {
    // Sendable by hand: libcrypto fills an X509's caches at construction (X509_check_purpose below), later use reads.
    let handle: OpaquePointer
    /// The certificate as read.
    public let der: [UInt8]

    public struct Extension: Sendable, Equatable {
        /// Dotted object identifier.
        public let oid: String
        public let critical: Bool
        /// Contents of extnValue.
        public let value: [UInt8]
    }

    /// Longest certificate that is looked at.
    public static let maximumSize = 1 << 16

    public init(der: [UInt8]) throws(CryptoError) {
        guard der.count <= Self.maximumSize else { throw CryptoError(.form, "certificate longer than 64 KiB") }
        let parsed: OpaquePointer? = unsafe der.withUnsafeBufferPointer { buffer in
            var cursor = buffer.baseAddress
            guard let certificate = unsafe d2i_X509(nil, &cursor, buffer.count) else { return nil }
            guard let base = buffer.baseAddress, let cursor = unsafe cursor, unsafe cursor - base == buffer.count else {
                unsafe X509_free(certificate)
                return nil
            }
            return unsafe certificate
        }
        guard let handle = unsafe parsed else { throw CryptoError.library("not an X.509 certificate", kind: .form) }
        unsafe X509_check_purpose(handle, -1, 0)
        unsafe self.handle = handle
        self.der = der
    }

    deinit { unsafe X509_free(handle) }

    /// The certificates of a PEM text, in order; other blocks are refused.
    public static func chain(pem: [UInt8], limit: Int = 16) throws(CryptoError) -> [Certificate] {
        var chain: [Certificate] = []
        for block in PEM.blocks(pem) {
            guard block.label == "CERTIFICATE" else {
                throw CryptoError(.form, "expected CERTIFICATE, found \(block.label)")
            }
            guard chain.count < limit else { throw CryptoError(.form, "more than \(limit) certificates") }
            chain.append(try Certificate(der: block.der))
        }
        guard !chain.isEmpty else { throw CryptoError(.form, "no PEM certificate found") }
        return chain
    }

    /// A certificate from DER or one PEM block.
    public static func read(_ bytes: [UInt8]) throws(CryptoError) -> Certificate {
        if bytes.first == 0x30 { return try Certificate(der: bytes) }
        let chain = try chain(pem: bytes)
        guard chain.count == 1, let only = chain.first else {
            throw CryptoError(.form, "expected one certificate, found \(chain.count)")
        }
        return only
    }

    public var pem: String { PEM.encode("CERTIFICATE", der) }
    public var sha256: [UInt8] { HashAlgorithm.sha256.hash(der) }

    /// Names as DER, for exact comparison.
    public var subjectDER: [UInt8] { unsafe nameDER(X509_get_subject_name(handle)) }
    public var issuerDER: [UInt8] { unsafe nameDER(X509_get_issuer_name(handle)) }
    /// Names for people, RFC 2253 order of attributes as they stand.
    public var subject: String { unsafe nameText(X509_get_subject_name(handle)) }
    public var issuer: String { unsafe nameText(X509_get_issuer_name(handle)) }
    /// The subject's only commonName; `nil` when there is none or more than one.
    public var commonName: String? { unsafe nameCommonName(X509_get_subject_name(handle)) }
    public var issuerCommonName: String? { unsafe nameCommonName(X509_get_issuer_name(handle)) }

    /// Serial number, big-endian magnitude without leading zeros (empty for 0).
    public var serial: [UInt8] { unsafe integerBytes(X509_get0_serialNumber(handle)) }

    public var notBefore: Instant? { unsafe instant(X509_get0_notBefore(handle)) }
    public var notAfter: Instant? { unsafe instant(X509_get0_notAfter(handle)) }

    /// Whether `time` lies within the validity period, both ends included.
    public func isValid(at time: Instant) -> Bool {
        guard let notBefore, let notAfter else { return false }
        return notBefore <= time && time <= notAfter
    }

    /// basicConstraints says CA (and keyUsage, where present, allows signing certificates).
    public var isCA: Bool { unsafe X509_check_ca(handle) == 1 }

    public func publicKey() throws(CryptoError) -> PublicKey {
        guard let key = unsafe X509_get_pubkey(handle) else {
            throw CryptoError.library("certificate with an unusable public key", kind: .form)
        }
        return unsafe PublicKey(adopting: key)
    }

    /// Every extension in order. OpenSSL keeps duplicates, so callers that pick one see the first.
    public var extensions: [Extension] {
        let count = unsafe X509_get_ext_count(handle)
        var list: [Extension] = []
        for index in 0..<max(0, count) {
            guard let item = unsafe X509_get_ext(handle, index), let data = unsafe X509_EXTENSION_get_data(item) else {
                continue
            }
            var name = [CChar](repeating: 0, count: 128)
            let length = unsafe OBJ_obj2txt(&name, Int32(name.count), X509_EXTENSION_get_object(item), 1)
            guard length > 0, Int(length) < name.count else { continue }
            let oid = String(decoding: name.prefix(Int(length)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
            list.append(
                Extension(
                    oid: oid, critical: unsafe X509_EXTENSION_get_critical(item) == 1,
                    value: unsafe stringBytes(data)))
        }
        return list
    }

    /// The value of extension `oid`, if it stands exactly once.
    public func extensionValue(_ oid: String) -> [UInt8]? {
        let found = extensions.filter { $0.oid == oid }
        return found.count == 1 ? found.first?.value : nil
    }

    /// Checks the signature only: algorithm identifiers agree inside and outside, and `key` made it. PSS parameters are
    /// taken from the certificate as RFC 4055 says.
    public func verifySignature(by key: PublicKey) throws(CryptoError) {
        guard unsafe X509_verify(handle, key.handle) == 1 else {
            throw CryptoError.library("\(subject) is not signed by that key", kind: .signature)
        }
    }

    /// Issuer name, CA flag and signature: `issuer` issued this certificate. Validity is the caller's.
    public func verify(issuedBy issuer: Certificate) throws(CryptoError) {
        guard issuerDER == issuer.subjectDER else {
            throw CryptoError(.signature, "\(subject) names issuer \(self.issuer), not \(issuer.subject)")
        }
        guard issuer.isCA else { throw CryptoError(.signature, "\(issuer.subject) is not a certificate authority") }
        try verifySignature(by: issuer.publicKey())
    }

    /// The signature's hash and scheme: (`sha384`, PSS?) names as libcrypto knows them, for strict callers.
    public var signatureAlgorithm: String {
        let nid = unsafe X509_get_signature_nid(handle)
        guard let name = unsafe OBJ_nid2ln(nid) else { return "unknown" }
        return unsafe String(cString: name)
    }

    /// Full path validation (RFC 5280) by libcrypto: `self` through `intermediates` to one of `roots` at `time`.
    ///
    /// Throws with libcrypto's reason; `.expired` paths are told apart by `PathError.expired`.
    /// - Parameter endsAtAny: the path may end at one of `roots` that another authority issued.
    public func verifyPath(
        intermediates: [Certificate], roots: [Certificate], at time: Instant, endsAtAny: Bool = false
    ) throws(PathError) {
        guard let store = unsafe X509_STORE_new(), let context = unsafe X509_STORE_CTX_new(),
            let stack = unsafe OPENSSL_sk_new_null()
        else { throw PathError(isExpired: false, message: "libcrypto cannot allocate") }
        defer {
            unsafe X509_STORE_CTX_free(context)
            unsafe X509_STORE_free(store)
            unsafe OPENSSL_sk_free(stack)
        }
        for root in roots { unsafe X509_STORE_add_cert(store, root.handle) }
        for certificate in intermediates { unsafe OPENSSL_sk_push(stack, UnsafeRawPointer(certificate.handle)) }
        guard unsafe X509_STORE_CTX_init(context, store, handle, stack) == 1 else {
            throw PathError(isExpired: false, message: CryptoError.library("X509_STORE_CTX_init").message)
        }
        unsafe X509_STORE_CTX_set_time(context, 0, Int(time.seconds))
        if endsAtAny { unsafe X509_STORE_CTX_set_flags(context, UInt(X509_V_FLAG_PARTIAL_CHAIN)) }
        let result = unsafe X509_verify_cert(context)
        withExtendedLifetime((intermediates, roots)) {}
        guard result == 1 else {
            let code = unsafe X509_STORE_CTX_get_error(context)
            ERR_clear_error()
            let text = unsafe String(cString: X509_verify_cert_error_string(Int(code)))
            let expired = code == X509_V_ERR_CERT_HAS_EXPIRED || code == X509_V_ERR_CERT_NOT_YET_VALID
            throw PathError(isExpired: expired, message: text)
        }
    }
}

/// Why a certificate path does not lead to a root.
public struct PathError: Error, Sendable, Equatable {
    /// A certificate on the path is expired or not yet valid.
    public let isExpired: Bool
    public let message: String
}

/// A certificate revocation list (RFC 5280 §5).
@safe public final class RevocationList: @unchecked Sendable {
    // Sendable by hand: never changed after construction.
    let handle: OpaquePointer
    /// The list as read.
    public let der: [UInt8]
    /// Serial numbers listed, big-endian magnitudes without leading zeros.
    public let revokedSerials: Set<[UInt8]>

    public static let maximumSize = 1 << 22

    public init(der: [UInt8]) throws(CryptoError) {
        guard der.count <= Self.maximumSize else { throw CryptoError(.form, "CRL longer than 4 MiB") }
        let parsed: OpaquePointer? = unsafe der.withUnsafeBufferPointer { buffer in
            var cursor = buffer.baseAddress
            guard let list = unsafe d2i_X509_CRL(nil, &cursor, buffer.count) else { return nil }
            guard let base = buffer.baseAddress, let cursor = unsafe cursor, unsafe cursor - base == buffer.count else {
                unsafe X509_CRL_free(list)
                return nil
            }
            return unsafe list
        }
        guard let handle = unsafe parsed else { throw CryptoError.library("not a CRL", kind: .form) }
        unsafe self.handle = handle
        self.der = der
        var serials: Set<[UInt8]> = []
        if let revoked = unsafe X509_CRL_get_REVOKED(handle) {
            for index in 0..<(unsafe OPENSSL_sk_num(revoked)) {
                guard let entry = unsafe OPENSSL_sk_value(revoked, index) else { continue }
                serials.insert(unsafe integerBytes(X509_REVOKED_get0_serialNumber(OpaquePointer(entry))))
            }
        }
        revokedSerials = serials
    }

    deinit { unsafe X509_CRL_free(handle) }

    public var issuerDER: [UInt8] { unsafe nameDER(X509_CRL_get_issuer(handle)) }
    public var issuer: String { unsafe nameText(X509_CRL_get_issuer(handle)) }
    public var thisUpdate: Instant? { unsafe instant(X509_CRL_get0_lastUpdate(handle)) }
    public var nextUpdate: Instant? { unsafe instant(X509_CRL_get0_nextUpdate(handle)) }

    /// Extensions marked critical that this room does not implement (delta lists, partial scopes): non-empty means the
    /// list must not be used.
    public var unknownCriticalExtensions: [String] {
        var names: [String] = []
        for index in 0..<max(0, unsafe X509_CRL_get_ext_count(handle)) {
            guard let item = unsafe X509_CRL_get_ext(handle, index), unsafe X509_EXTENSION_get_critical(item) == 1
            else {
                continue
            }
            var name = [CChar](repeating: 0, count: 128)
            let length = unsafe OBJ_obj2txt(&name, Int32(name.count), X509_EXTENSION_get_object(item), 1)
            let bytes = name.prefix(max(0, min(Int(length), name.count))).map { UInt8(bitPattern: $0) }
            names.append(String(decoding: bytes, as: UTF8.self))
        }
        return names
    }

    /// thisUpdate ≤ time ≤ nextUpdate; a list without nextUpdate is never current.
    public func isCurrent(at time: Instant) -> Bool {
        guard let thisUpdate, let nextUpdate else { return false }
        return thisUpdate <= time && time <= nextUpdate
    }

    public func lists(_ certificate: Certificate) -> Bool { revokedSerials.contains(certificate.serial) }

    /// Issuer name and signature; currency is the caller's.
    public func verify(issuedBy issuer: Certificate) throws(CryptoError) {
        guard issuerDER == issuer.subjectDER else {
            throw CryptoError(.signature, "CRL names issuer \(self.issuer), not \(issuer.subject)")
        }
        let key = try issuer.publicKey()
        guard unsafe X509_CRL_verify(handle, key.handle) == 1 else {
            throw CryptoError.library("CRL is not signed by \(issuer.subject)", kind: .signature)
        }
    }
}

private func nameDER(_ name: OpaquePointer?) -> [UInt8] {
    var bytes: UnsafePointer<UInt8>?
    var count = 0
    guard unsafe X509_NAME_get0_der(name, &bytes, &count) == 1, let bytes = unsafe bytes else { return [] }
    return unsafe Array(UnsafeBufferPointer(start: bytes, count: count))
}

private func nameText(_ name: OpaquePointer?) -> String {
    guard let bio = unsafe BIO_new(BIO_s_mem()) else { return "" }
    defer { unsafe BIO_free(bio) }
    _ = unsafe X509_NAME_print_ex(bio, name, 0, nacre_name_rfc2253)
    var text = [UInt8](repeating: 0, count: 1024)
    let count = unsafe BIO_read(bio, &text, Int32(text.count))
    return String(decoding: text.prefix(Int(max(0, count))), as: UTF8.self)
}

private func nameCommonName(_ name: OpaquePointer?) -> String? {
    let first = unsafe X509_NAME_get_index_by_NID(name, NID_commonName, -1)
    guard first >= 0, unsafe X509_NAME_get_index_by_NID(name, NID_commonName, first) < 0,
        let entry = unsafe X509_NAME_get_entry(name, first), let value = unsafe X509_NAME_ENTRY_get_data(entry)
    else { return nil }
    return unsafe String(validating: stringBytes(value), as: UTF8.self)
}

private func stringBytes(_ value: UnsafePointer<ASN1_STRING>) -> [UInt8] {
    unsafe Array(UnsafeBufferPointer(start: ASN1_STRING_get0_data(value), count: Int(ASN1_STRING_length(value))))
}

private func integerBytes(_ value: UnsafePointer<ASN1_INTEGER>?) -> [UInt8] {
    guard let value = unsafe value else { return [] }
    return unsafe Array(stringBytes(value).drop { $0 == 0 })
}

private func instant(_ time: UnsafePointer<ASN1_TIME>?) -> Instant? {
    var parts = unsafe tm()
    guard let time = unsafe time, unsafe ASN1_TIME_to_tm(time, &parts) == 1 else { return nil }
    let (year, month, day) = unsafe (Int64(parts.tm_year) + 1900, Int64(parts.tm_mon) + 1, Int64(parts.tm_mday))
    let days = Instant.days(year: year, month: month, day: day)
    let seconds = unsafe Int64(parts.tm_hour) * 3600 + Int64(parts.tm_min) * 60 + Int64(parts.tm_sec)
    return Instant(seconds: days * 86400 + seconds)
}
