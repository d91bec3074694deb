import Bytes
import COpenSSL

/// How a signature is made; only what the formats of Nacre use.
public enum SignatureScheme: Sendable, Equatable, Hashable {
    /// ECDSA with the DER form of (r, s).
    case ecdsa(HashAlgorithm)
    /// RSASSA-PKCS1-v1_5.
    case rsaPKCS1(HashAlgorithm)
    /// RSASSA-PSS, MGF1 with the same hash, salt as long as the digest.
    case rsaPSS(HashAlgorithm)
    case ed25519
}

/// A public key, immutable once made; shared freely between threads.
@safe public final class PublicKey: @unchecked Sendable {
    // Sendable by hand: an EVP_PKEY is reference counted and never changed after construction.
    let handle: OpaquePointer

    public enum Kind: Sendable, Equatable {
        case p256, p384, ed25519
        /// Modulus length in bits.
        case rsa(bits: Int)
        case other
    }

    public let kind: Kind

    init(adopting handle: OpaquePointer) {
        unsafe self.handle = handle
        unsafe kind = Self.kind(of: handle)
    }

    deinit { unsafe EVP_PKEY_free(handle) }

    private static func kind(of handle: OpaquePointer) -> Kind {
        switch unsafe EVP_PKEY_get_base_id(handle) {
        case EVP_PKEY_RSA, EVP_PKEY_RSA_PSS: return .rsa(bits: Int(unsafe EVP_PKEY_get_bits(handle)))
        case EVP_PKEY_ED25519: return .ed25519
        case EVP_PKEY_EC:
            var name = [CChar](repeating: 0, count: 32)
            var length = 0
            guard unsafe EVP_PKEY_get_group_name(handle, &name, name.count, &length) == 1 else { return .other }
            switch String(decoding: name.prefix(length).map { UInt8(bitPattern: $0) }, as: UTF8.self) {
            case "prime256v1": return .p256
            case "secp384r1": return .p384
            default: return .other
            }
        default: return .other
        }
    }

    /// SubjectPublicKeyInfo, DER, no trailing bytes.
    public convenience init(spki: [UInt8]) throws(CryptoError) {
        guard spki.count <= 1 << 16 else { throw CryptoError(.form, "public key longer than 64 KiB") }
        // The one form of a point on a known curve: libcrypto's decoders take several times as long to find out.
        if let curve = Curve.allCases.first(where: { curve in
            spki.count == curve.spkiPrefix.count + 1 + 2 * curve.coordinateSize
                && spki.starts(with: curve.spkiPrefix + [4])
        }) {
            try self.init(point: Array(spki.suffix(2 * curve.coordinateSize)), on: curve)
            return
        }
        let parsed: OpaquePointer? = unsafe spki.withUnsafeBufferPointer { buffer in
            var cursor = buffer.baseAddress
            guard let key = unsafe d2i_PUBKEY(nil, &cursor, buffer.count) else { return nil }
            guard let base = buffer.baseAddress, let cursor = unsafe cursor, unsafe cursor - base == buffer.count else {
                unsafe EVP_PKEY_free(key)
                return nil
            }
            return unsafe key
        }
        guard let parsed = unsafe parsed else { throw CryptoError.library("not a SubjectPublicKeyInfo", kind: .form) }
        unsafe self.init(adopting: parsed)
    }

    /// `-----BEGIN PUBLIC KEY-----`, one block.
    public convenience init(pem: [UInt8]) throws(CryptoError) {
        let blocks = PEM.blocks(pem)
        guard blocks.count == 1, let block = blocks.first, block.label == "PUBLIC KEY" else {
            throw CryptoError(.form, "expected one PEM block PUBLIC KEY, found \(blocks.map(\.label))")
        }
        try self.init(spki: block.der)
    }

    /// An uncompressed point, coordinates big-endian and of the curve's length; refused when off the curve.
    public convenience init(_ curve: Curve, x: [UInt8], y: [UInt8]) throws(CryptoError) {
        guard x.count == curve.coordinateSize, y.count == curve.coordinateSize else {
            throw CryptoError(.form, "\(curve) coordinates must be \(curve.coordinateSize) bytes")
        }
        try self.init(point: x + y, on: curve)
    }

    /// RSA from modulus and exponent, big-endian.
    public convenience init(rsaModulus modulus: [UInt8], exponent: UInt32) throws(CryptoError) {
        guard modulus.count >= 128, modulus.count <= 1024, exponent >= 3, exponent & 1 == 1 else {
            throw CryptoError(.form, "RSA modulus of \(modulus.count) bytes or exponent \(exponent) not accepted")
        }
        var big = ByteWriter()
        big.be(exponent)
        let key = DER.sequence([DER.unsigned(modulus), DER.unsigned(big.bytes)])
        let algorithm: [UInt8] = [0x30, 0x0D, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01, 5, 0]
        try self.init(spki: DER.sequence([algorithm, DER.element(0x03, [0] + key)]))
    }

    /// SubjectPublicKeyInfo, DER.
    public var spki: [UInt8] {
        var output: UnsafeMutablePointer<UInt8>?
        let length = unsafe i2d_PUBKEY(handle, &output)
        defer { unsafe CRYPTO_free(output, "", 0) }
        guard length > 0 else { return [] }
        return unsafe Array(UnsafeBufferPointer(start: output, count: Int(length)))
    }

    public var pem: String { PEM.encode("PUBLIC KEY", spki) }

    /// The uncompressed point x ‖ y of an elliptic-curve key; `nil` for other kinds.
    public var point: [UInt8]? {
        let curve: Curve
        switch kind {
        case .p256: curve = .p256
        case .p384: curve = .p384
        default: return nil
        }
        var output: UnsafeMutablePointer<UInt8>?
        let length = unsafe EVP_PKEY_get1_encoded_public_key(handle, &output)
        defer { unsafe CRYPTO_free(output, "", 0) }
        // 04 ‖ x ‖ y; the other encodings are shorter.
        guard length == 1 + 2 * curve.coordinateSize, unsafe output?.pointee == 4 else { return nil }
        return unsafe Array(UnsafeBufferPointer(start: output, count: length).dropFirst())
    }

    /// Modulus of an RSA key, big-endian without leading zeros; `nil` for other kinds.
    public var rsaModulus: [UInt8]? {
        guard case .rsa = kind else { return nil }
        var number: OpaquePointer?
        guard unsafe EVP_PKEY_get_bn_param(handle, OSSL_PKEY_PARAM_RSA_N, &number) == 1 else { return nil }
        defer { unsafe BN_free(number) }
        var bytes = [UInt8](repeating: 0, count: Int((unsafe BN_num_bits(number) + 7) / 8))
        _ = unsafe BN_bn2bin(number, &bytes)
        return bytes
    }

    /// Throws `.signature` unless `signature` over `message` is this key's.
    public func verify(_ signature: [UInt8], of message: [UInt8], scheme: SignatureScheme) throws(CryptoError) {
        try require(kind: scheme)
        guard let context = unsafe EVP_MD_CTX_new() else { throw CryptoError.library("EVP_MD_CTX_new") }
        defer { unsafe EVP_MD_CTX_free(context) }
        var parameters: OpaquePointer?
        var digest: OpaquePointer?
        if let hash = scheme.hash { unsafe digest = hash.evp }
        guard unsafe EVP_DigestVerifyInit(context, &parameters, digest, nil, handle) == 1 else {
            throw CryptoError.library("EVP_DigestVerifyInit")
        }
        try unsafe scheme.configure(parameters)
        let result = unsafe EVP_DigestVerify(context, signature, signature.count, message, message.count)
        guard result == 1 else { throw CryptoError.library("signature does not verify", kind: .signature) }
    }

    /// Refuses a scheme that does not go with the key: an RSA signature claimed for an EC key, or the reverse.
    private func require(kind scheme: SignatureScheme) throws(CryptoError) {
        let fits =
            switch (scheme, kind) {
            case (.ecdsa, .p256), (.ecdsa, .p384), (.ed25519, .ed25519): true
            case (.rsaPKCS1, .rsa(let bits)), (.rsaPSS, .rsa(let bits)): bits >= 2048
            default: false
            }
        guard fits else { throw CryptoError(.signature, "a \(kind) key does not make \(scheme) signatures") }
    }

    /// ECDSA with r and s as raw big-endian numbers of equal length.
    public func verifyECDSA(raw signature: [UInt8], of message: [UInt8], hash: HashAlgorithm) throws(CryptoError) {
        try verify(try DER.ecdsaSignature(raw: signature), of: message, scheme: .ecdsa(hash))
    }
}

extension PublicKey: Equatable {
    public static func == (left: PublicKey, right: PublicKey) -> Bool { left.spki == right.spki }
}

extension SignatureScheme {
    var hash: HashAlgorithm? {
        switch self {
        case .ecdsa(let hash), .rsaPKCS1(let hash), .rsaPSS(let hash): hash
        case .ed25519: nil
        }
    }

    func configure(_ parameters: OpaquePointer?) throws(CryptoError) {
        switch self {
        case .rsaPKCS1:
            guard unsafe EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PADDING) == 1 else {
                throw CryptoError.library("key does not take PKCS #1 padding", kind: .signature)
            }
        case .rsaPSS(let hash):
            guard unsafe EVP_PKEY_CTX_set_rsa_padding(parameters, RSA_PKCS1_PSS_PADDING) == 1,
                unsafe EVP_PKEY_CTX_set_rsa_pss_saltlen(parameters, Int32(hash.size)) == 1,
                unsafe EVP_PKEY_CTX_set_rsa_mgf1_md(parameters, hash.evp) == 1
            else { throw CryptoError.library("key does not take PSS padding", kind: .signature) }
        case .ecdsa, .ed25519: break
        }
    }
}

/// The NIST curves in use.
public enum Curve: String, Sendable, CaseIterable {
    case p256, p384

    public var coordinateSize: Int { self == .p256 ? 32 : 48 }
    var openSSLName: String { self == .p256 ? "P-256" : "P-384" }

    /// SubjectPublicKeyInfo up to the point's leading 04 byte.
    var spkiPrefix: [UInt8] {
        let ecPublicKey: [UInt8] = [0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01]
        switch self {
        case .p256:
            let curve: [UInt8] = [0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07]
            return [0x30, 0x59, 0x30, 0x13] + ecPublicKey + curve + [0x03, 0x42, 0x00]
        case .p384:
            let curve: [UInt8] = [0x06, 0x05, 0x2B, 0x81, 0x04, 0x00, 0x22]
            return [0x30, 0x76, 0x30, 0x10] + ecPublicKey + curve + [0x03, 0x62, 0x00]
        }
    }
}

/// A private key; its bytes stay inside libcrypto, which wipes them when it goes.
@safe public final class PrivateKey: @unchecked Sendable {
    // Sendable by hand: an EVP_PKEY is reference counted and never changed after construction.
    let handle: OpaquePointer

    public init(generating curve: Curve) throws(CryptoError) {
        guard let key = unsafe nacre_ec_keygen(curve.openSSLName) else {
            throw CryptoError.library("cannot make a \(curve) key")
        }
        unsafe handle = key
    }

    init(adopting handle: OpaquePointer) { unsafe self.handle = handle }

    /// RSA of 2048 to 8192 bits.
    public init(generatingRSA bits: Int) throws(CryptoError) {
        guard (2048...8192).contains(bits), let key = unsafe nacre_rsa_keygen(UInt32(bits)) else {
            throw CryptoError.library("cannot make an RSA key of \(bits) bits")
        }
        unsafe handle = key
    }

    /// PKCS #8 PEM, not encrypted. The caller wipes `pem`.
    public init(pem: [UInt8]) throws(CryptoError) {
        // The BIO refers to the bytes, which must stay where they are for as long as it is read.
        let read: OpaquePointer? = unsafe pem.withUnsafeBytes { bytes in
            guard let bio = unsafe BIO_new_mem_buf(bytes.baseAddress, Int32(clamping: bytes.count)) else { return nil }
            defer { unsafe BIO_free(bio) }
            // A callback that declines: an encrypted key must not make libcrypto ask on the terminal.
            return unsafe PEM_read_bio_PrivateKey(bio, nil, { _, _, _, _ in -1 }, nil)
        }
        guard let key = unsafe read else {
            // Empties libcrypto's error queue in either case.
            let error = CryptoError.library("not a PEM private key", kind: .form)
            guard Self.isEncrypted(pem) else { throw error }
            throw CryptoError(.form, "the private key is encrypted; only unencrypted keys are read (openssl pkey)")
        }
        unsafe handle = key
    }

    /// Whether the label (PKCS #8) or a header (RFC 1421) of the PEM text says that the key is encrypted.
    private static func isEncrypted(_ pem: [UInt8]) -> Bool {
        pem.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D }).contains { line in
            line.starts(with: "-----BEGIN ENCRYPTED PRIVATE KEY-----".utf8)
                || line.starts(with: "Proc-Type: 4,ENCRYPTED".utf8)
        }
    }

    deinit { unsafe EVP_PKEY_free(handle) }

    public var publicKey: PublicKey {
        unsafe EVP_PKEY_up_ref(handle)
        return unsafe PublicKey(adopting: handle)
    }

    /// PKCS #8 PEM for a key file of mode 0600; hand it to nobody else.
    public func pem() throws(CryptoError) -> [UInt8] {
        guard let bio = unsafe BIO_new(BIO_s_secmem()),
            unsafe PEM_write_bio_PrivateKey(bio, handle, nil, nil, 0, nil, nil) == 1
        else { throw CryptoError.library("cannot encode the private key") }
        defer { unsafe BIO_free(bio) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe BIO_read(bio, &bytes, Int32(bytes.count))
        guard count > 0 else { throw CryptoError.library("cannot encode the private key") }
        return Array(bytes.prefix(Int(count)))
    }

    /// A signature over `message`; ECDSA is DER.
    public func sign(_ message: [UInt8], scheme: SignatureScheme) throws(CryptoError) -> [UInt8] {
        guard let context = unsafe EVP_MD_CTX_new() else { throw CryptoError.library("EVP_MD_CTX_new") }
        defer { unsafe EVP_MD_CTX_free(context) }
        var parameters: OpaquePointer?
        var digest: OpaquePointer?
        if let hash = scheme.hash { unsafe digest = hash.evp }
        guard unsafe EVP_DigestSignInit(context, &parameters, digest, nil, handle) == 1 else {
            throw CryptoError.library("EVP_DigestSignInit")
        }
        try unsafe scheme.configure(parameters)
        var length = 0
        guard unsafe EVP_DigestSign(context, nil, &length, message, message.count) == 1 else {
            throw CryptoError.library("EVP_DigestSign")
        }
        var signature = [UInt8](repeating: 0, count: length)
        guard unsafe EVP_DigestSign(context, &signature, &length, message, message.count) == 1 else {
            throw CryptoError.library("EVP_DigestSign")
        }
        return Array(signature.prefix(length))
    }
}
