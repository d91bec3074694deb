import Bytes
import COpenSSL

extension Certificate {
    /// An X.509 v3 certificate (RFC 5280) for `key` signed by `key` itself: ECDSA with SHA-256, not an authority, a random
    /// serial number of 127 bits.
    ///
    /// - Parameters:
    ///   - commonName: 1 to 63 letters, digits, dots or hyphens; also the only subjectAltName (DNS).
    ///   - notBefore, notAfter: allow for the peer's clock, a freshly booted node's included.
    public static func selfSigned(
        key: PrivateKey, commonName: String, notBefore: Instant, notAfter: Instant
    ) throws(CryptoError) -> Certificate {
        // The name becomes part of OpenSSL's extension syntax below, where other characters have a meaning.
        let isPlain = commonName.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"):
                true
            default: false
            }
        }
        guard isPlain, (1...63).contains(commonName.utf8.count) else {
            throw CryptoError(.form, "\(commonName) is not a host name")
        }
        guard let certificate = unsafe X509_new() else { throw CryptoError.library("X509_new") }
        defer { unsafe X509_free(certificate) }
        guard unsafe X509_set_version(certificate, 2) == 1, unsafe setSerial(certificate),
            unsafe setTime(notBefore, { unsafe X509_set1_notBefore(certificate, $0) }),
            unsafe setTime(notAfter, { unsafe X509_set1_notAfter(certificate, $0) }),
            unsafe X509_set_pubkey(certificate, key.handle) == 1,
            let name = unsafe X509_get_subject_name(certificate),
            unsafe X509_NAME_add_entry_by_NID(
                name, NID_commonName, MBSTRING_UTF8, Array(commonName.utf8), Int32(commonName.utf8.count), -1, 0) == 1,
            unsafe X509_set_issuer_name(certificate, name) == 1,
            unsafe add(NID_basic_constraints, "critical,CA:FALSE", to: certificate),
            unsafe add(NID_key_usage, "critical,digitalSignature", to: certificate),
            unsafe add(NID_subject_alt_name, "DNS:\(commonName)", to: certificate),
            unsafe X509_sign(certificate, key.handle, EVP_sha256()) > 0
        else { throw CryptoError.library("cannot make a certificate") }
        return try Certificate(der: unsafe encode(certificate))
    }

    /// DER of a libcrypto certificate; empty on failure.
    static func encode(_ certificate: OpaquePointer) -> [UInt8] {
        var output: UnsafeMutablePointer<UInt8>?
        let length = unsafe i2d_X509(certificate, &output)
        defer { unsafe CRYPTO_free(output, "", 0) }
        guard length > 0 else { return [] }
        return unsafe Array(UnsafeBufferPointer(start: output, count: Int(length)))
    }

    private static func setSerial(_ certificate: OpaquePointer) -> Bool {
        var bytes = randomBytes(16)
        bytes[0] = bytes[0] & 0x7F | 0x40
        guard let number = unsafe BN_bin2bn(bytes, Int32(bytes.count), nil) else { return false }
        defer { unsafe BN_free(number) }
        return unsafe BN_to_ASN1_INTEGER(number, X509_get_serialNumber(certificate)) != nil
    }

    private static func setTime(_ time: Instant, _ store: (UnsafePointer<ASN1_TIME>) -> Int32) -> Bool {
        guard let value = unsafe ASN1_TIME_set(nil, time_t(time.seconds)) else { return false }
        defer { unsafe ASN1_STRING_free(value) }
        return unsafe store(value) == 1
    }

    private static func add(_ nid: Int32, _ value: String, to certificate: OpaquePointer) -> Bool {
        guard let item = unsafe X509V3_EXT_conf_nid(nil, nil, nid, value) else { return false }
        defer { unsafe X509_EXTENSION_free(item) }
        return unsafe X509_add_ext(certificate, item, -1) == 1
    }
}
