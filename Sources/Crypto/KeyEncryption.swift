import Bytes
import COpenSSL

/// What sealing something for the holder of another key takes (TPM 2.0 Part 1, annexes B.4 and C.6): RSA-OAEP, one-pass
/// Diffie-Hellman, AES-CFB.
extension PublicKey {
    /// RSAES-OAEP (RFC 8017 §7.1) of `secret`, MGF1 with the same hash.
    public func encryptOAEP(
        _ secret: borrowing Secret, hash: HashAlgorithm, label: [UInt8]
    ) throws(CryptoError) -> [UInt8] {
        guard case .rsa(let bits) = kind, bits >= 2048 else {
            throw CryptoError(.form, "a \(kind) key does not encrypt with OAEP")
        }
        var output = [UInt8](repeating: 0, count: (bits + 7) / 8)
        var count = output.count
        let done = secret.withBytes { secret in
            unsafe secret.withUnsafeBufferPointer { secret in
                unsafe nacre_rsa_oaep(
                    handle, hash.evp, label, label.count, secret.baseAddress, secret.count, &output, &count)
            }
        }
        guard done == 1, count == output.count else { throw CryptoError.library("RSA-OAEP") }
        return output
    }

    /// The uncompressed point's coordinates, big-endian and of the curve's length; `nil` for other kinds of keys.
    public var coordinates: (x: [UInt8], y: [UInt8])? {
        guard let point else { return nil }
        return (Array(point.prefix(point.count / 2)), Array(point.suffix(point.count / 2)))
    }
}

extension PrivateKey {
    /// The x coordinate of this key times `peer` (SEC 1 §3.3.1), of the curve's length.
    public func sharedSecret(with peer: PublicKey) throws(CryptoError) -> Secret {
        guard publicKey.kind == peer.kind, let size = peer.coordinates?.x.count else {
            throw CryptoError(.form, "the keys are not of one curve")
        }
        return try Secret(count: size) { span throws(CryptoError) in
            let count = unsafe span.withUnsafeMutableBufferPointer { output in
                unsafe nacre_ecdh(handle, peer.handle, output.baseAddress, output.count)
            }
            guard count == Int32(size) else { throw CryptoError.library("ECDH") }
        }
    }
}

/// AES of 128 or 256 bits in CFB mode (NIST SP 800-38A §6.3) with an initialisation vector of zeros: only for a key that
/// is used once.
public func aesCFB(_ plaintext: borrowing Secret, key: borrowing Secret) throws(CryptoError) -> [UInt8] {
    var output = [UInt8](repeating: 0, count: plaintext.count)
    let done = key.withBytes { key in
        plaintext.withBytes { plaintext in
            unsafe key.withUnsafeBufferPointer { key in
                unsafe plaintext.withUnsafeBufferPointer { plaintext in
                    unsafe nacre_aes_cfb(
                        key.baseAddress, key.count, plaintext.baseAddress, plaintext.count, &output)
                }
            }
        }
    }
    guard done == 1 else { throw CryptoError.library("AES-CFB with a key of \(key.count) bytes") }
    return output
}

extension Digest {
    /// Feeds a secret without copying it.
    public mutating func update(_ secret: borrowing Secret) {
        secret.withBytes { bytes in unsafe bytes.withUnsafeBytes { unsafe update($0) } }
    }
}
