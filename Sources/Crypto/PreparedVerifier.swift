import COpenSSL

/// An ECDSA key made ready to verify many signatures: the operation is looked up and set up once, each verification
/// starts from a copy. `PublicKey.verify` does all of that every time, and takes libcrypto's global locks for it.
@safe public final class PreparedVerifier: @unchecked Sendable {
    // Sendable by hand: the context is only ever copied from after construction, which reads it.
    private let context: OpaquePointer
    private let hash: HashAlgorithm
    private let key: PublicKey

    /// Errors: `.form` when `key` is not of P-256 or P-384.
    public init(_ key: PublicKey, hash: HashAlgorithm) throws(CryptoError) {
        guard key.kind == .p256 || key.kind == .p384 else {
            throw CryptoError(.form, "a \(key.kind) key does not make ECDSA signatures")
        }
        guard let context = unsafe EVP_PKEY_CTX_new(key.handle, nil) else {
            throw CryptoError.library("EVP_PKEY_CTX_new")
        }
        unsafe self.context = context
        self.hash = hash
        self.key = key
        guard unsafe EVP_PKEY_verify_init(context) == 1, unsafe EVP_PKEY_CTX_set_signature_md(context, hash.evp) == 1
        else { throw CryptoError.library("EVP_PKEY_verify_init") }
    }

    deinit { unsafe EVP_PKEY_CTX_free(context) }

    /// Throws `.signature` unless r ‖ s, big-endian and of equal length, is this key's signature over `message`.
    public func verify(raw signature: [UInt8], of message: [UInt8]) throws(CryptoError) {
        let encoded = try DER.ecdsaSignature(raw: signature)
        let digest = hash.hash(message)
        guard let copy = unsafe EVP_PKEY_CTX_dup(context) else { throw CryptoError.library("EVP_PKEY_CTX_dup") }
        defer { unsafe EVP_PKEY_CTX_free(copy) }
        let result = unsafe EVP_PKEY_verify(copy, encoded, encoded.count, digest, digest.count)
        guard result == 1 else { throw CryptoError.library("signature does not verify", kind: .signature) }
    }
}
