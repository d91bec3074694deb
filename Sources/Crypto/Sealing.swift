import Bytes
import COpenSSL
import Glibc

extension Secret {
    /// `count` bytes from the system's generator through libcrypto's private one.
    public init(random count: Int) {
        self.init(count: count) { span in
            let done = unsafe span.withUnsafeMutableBytes { buffer in
                unsafe RAND_priv_bytes(buffer.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(buffer.count))
            }
            precondition(done == 1, "no randomness")
        }
    }
}

/// Looked up once for the process and never freed.
private nonisolated(unsafe) let hkdf: OpaquePointer? = unsafe EVP_KDF_fetch(nil, "HKDF", nil)

/// HKDF (RFC 5869) with SHA-256, from secret to secret. `info` follows `nacre/v1/<purpose>/…`.
public func hkdfSHA256(key: borrowing Secret, salt: [UInt8], info: String, count: Int) -> Secret {
    precondition((1...255 * 32).contains(count))
    let info = Array(info.utf8)
    return Secret(count: count) { span in
        let done = key.withBytes { key in
            unsafe key.withUnsafeBytes { key in
                unsafe span.withUnsafeMutableBytes { output in
                    unsafe nacre_hkdf_sha256(
                        hkdf, key.baseAddress, key.count, salt, salt.count, info, info.count, output.baseAddress,
                        output.count)
                }
            }
        }
        // Fails only when libcrypto cannot allocate or was built without it; no key may be made up then.
        precondition(done == 1, "libcrypto refuses HKDF")
    }
}

/// scrypt (RFC 7914): a key from a passphrase, at a price.
public struct ScryptParameters: Sendable, Equatable {
    /// Base-2 logarithm of the cost N.
    public let logN: Int
    public let blockSize: Int
    public let parallelism: Int

    /// - Throws: `.form` for parameters that take more than 256 MiB: documents from elsewhere carry them.
    public init(logN: Int, blockSize: Int = 8, parallelism: Int = 1) throws(CryptoError) {
        guard (1...20).contains(logN), (1...16).contains(blockSize), (1...4).contains(parallelism),
            (128 * blockSize) << logN <= 256 << 20
        else { throw CryptoError(.form, "scrypt parameters out of range") }
        self.logN = logN
        self.blockSize = blockSize
        self.parallelism = parallelism
    }

    public func derive(_ passphrase: borrowing Secret, salt: [UInt8], count: Int) throws(CryptoError) -> Secret {
        try Secret(count: count) { span throws(CryptoError) in
            let done = passphrase.withBytes { passphrase in
                unsafe passphrase.withUnsafeBytes { passphrase in
                    unsafe span.withUnsafeMutableBytes { output in
                        unsafe EVP_PBE_scrypt(
                            passphrase.baseAddress?.assumingMemoryBound(to: CChar.self), passphrase.count, salt,
                            salt.count, 1 << UInt64(logN), UInt64(blockSize), UInt64(parallelism), 512 << 20,
                            output.baseAddress?.assumingMemoryBound(to: UInt8.self), output.count)
                    }
                }
            }
            guard done == 1 else { throw CryptoError.library("scrypt") }
        }
    }
}

/// AES-256-GCM (NIST SP 800-38D): 32-byte keys, 12-byte nonces never used twice with one key, 16-byte tags at the end.
public enum AES256GCM {
    public static let keySize = 32
    public static let nonceSize = 12
    public static let tagSize = 16

    /// Ciphertext, then tag.
    public static func seal(
        _ plaintext: borrowing Secret, key: borrowing Secret, nonce: [UInt8], additional: [UInt8]
    ) throws(CryptoError) -> [UInt8] {
        guard key.count == keySize, nonce.count == nonceSize else { throw CryptoError(.form, "key or nonce size") }
        var output = [UInt8](repeating: 0, count: plaintext.count + tagSize)
        let done = key.withBytes { key in
            plaintext.withBytes { plaintext in
                unsafe key.withUnsafeBytes { key in
                    unsafe plaintext.withUnsafeBytes { plaintext in
                        unsafe nacre_aes256gcm_seal(
                            key.baseAddress, nonce, additional, additional.count, plaintext.baseAddress,
                            plaintext.count, &output)
                    }
                }
            }
        }
        guard done == 1 else { throw CryptoError.library("AES-256-GCM") }
        return output
    }

    /// - Throws: `.signature` where key, nonce, additional data or ciphertext are not those that were sealed.
    public static func open(
        _ sealed: [UInt8], key: borrowing Secret, nonce: [UInt8], additional: [UInt8]
    ) throws(CryptoError) -> Secret {
        guard key.count == keySize, nonce.count == nonceSize, sealed.count >= tagSize else {
            throw CryptoError(.form, "key, nonce or ciphertext size")
        }
        return try Secret(count: sealed.count - tagSize) { span throws(CryptoError) in
            let done = key.withBytes { key in
                unsafe key.withUnsafeBytes { key in
                    unsafe span.withUnsafeMutableBytes { output in
                        unsafe nacre_aes256gcm_open(
                            key.baseAddress, nonce, additional, additional.count, sealed, sealed.count,
                            output.baseAddress)
                    }
                }
            }
            ERR_clear_error()
            guard done == 1 else { throw CryptoError(.signature, "the tag does not verify") }
        }
    }
}

extension PrivateKey {
    /// PKCS #8 PEM, not encrypted.
    public convenience init(secret pem: borrowing Secret) throws(CryptoError) {
        let handle = unsafe pem.withBytes { pem in
            unsafe pem.withUnsafeBytes { pem -> OpaquePointer? in
                guard let bio = unsafe BIO_new_mem_buf(pem.baseAddress, Int32(clamping: pem.count)) else {
                    return nil
                }
                defer { unsafe BIO_free(bio) }
                return unsafe PEM_read_bio_PrivateKey(bio, nil, { _, _, _, _ in -1 }, nil)
            }
        }
        guard let handle = unsafe handle else { throw CryptoError.library("not a PEM private key", kind: .form) }
        unsafe self.init(adopting: handle)
    }

    /// The same, to be sealed.
    public func secret() throws(CryptoError) -> Secret {
        guard let bio = unsafe BIO_new(BIO_s_secmem()),
            unsafe PEM_write_bio_PrivateKey(bio, handle, nil, nil, 0, nil, nil) == 1
        else { throw CryptoError.library("cannot encode the private key") }
        defer { unsafe BIO_free(bio) }
        let count = unsafe BIO_ctrl_pending(bio)
        return try Secret(count: Int(clamping: count)) { span throws(CryptoError) in
            let read = unsafe span.withUnsafeMutableBytes { output in
                unsafe BIO_read(bio, output.baseAddress, Int32(output.count))
            }
            guard read == Int32(span.count), read > 0 else {
                throw CryptoError.library("cannot encode the private key")
            }
        }
    }
}
