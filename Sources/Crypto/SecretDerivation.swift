import Bytes
import COpenSSL

/// The same derivations for keys that live in locked memory: neither the key nor an intermediate value is ever copied
/// out of it.
extension HashAlgorithm {
    /// HMAC (RFC 2104) of public bytes.
    public func hmac(key: borrowing Secret, _ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: size)
        var span = digest.mutableSpan
        hmac(key: key, bytes, into: &span)
        return digest
    }

    /// The first `count` bytes of an HMAC that is itself a key.
    public func secretHMAC(key: borrowing Secret, _ bytes: [UInt8], count: Int) -> Secret {
        precondition((1...size).contains(count))
        let whole = Secret(count: size) { out in hmac(key: key, bytes, into: &out) }
        return Secret(whole, from: 0, count: count)
    }

    fileprivate func hmac(key: borrowing Secret, _ bytes: [UInt8], into digest: inout MutableSpan<UInt8>) {
        precondition(digest.count == size)
        key.withBytes { key in
            unsafe key.withUnsafeBufferPointer { key in
                unsafe digest.withUnsafeMutableBufferPointer { digest in
                    var length: UInt32 = 0
                    let result = unsafe HMAC(
                        evp, key.baseAddress, Int32(key.count), bytes, bytes.count, digest.baseAddress, &length)
                    precondition(unsafe result != nil && Int(length) == size, "libcrypto refuses HMAC \(rawValue)")
                }
            }
        }
    }
}

/// HKDF (RFC 5869) with SHA-256, one block of output: 32 bytes. `info` follows `nacre/v1/<purpose>/…`.
public func hkdfSHA256(key: borrowing Secret, salt: [UInt8], info: String) -> Secret {
    // Extract: the salt is HMAC's key, and the secret its message, which only a one-shot call over locked memory takes.
    let pseudorandom = Secret(count: 32) { out in
        key.withBytes { key in
            unsafe key.withUnsafeBufferPointer { key in
                unsafe out.withUnsafeMutableBufferPointer { out in
                    let salt = salt.isEmpty ? [UInt8](repeating: 0, count: 32) : salt
                    var length: UInt32 = 0
                    let result = unsafe HMAC(
                        HashAlgorithm.sha256.evp, salt, Int32(salt.count), key.baseAddress, key.count, out.baseAddress,
                        &length)
                    precondition(unsafe result != nil && length == 32, "libcrypto refuses HMAC sha256")
                }
            }
        }
    }
    return Secret(count: 32) { out in
        HashAlgorithm.sha256.hmac(key: pseudorandom, Array(info.utf8) + [1], into: &out)
    }
}
