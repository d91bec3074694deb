import Bytes
import COpenSSL
import Glibc

/// The hash functions that Nacre meets. SHA-1 exists only because event logs and TPM banks carry it; nothing is judged
/// by it.
public enum HashAlgorithm: String, CaseIterable, Sendable, Hashable {
    case sha1, sha256, sha384, sha512

    /// Digest length in bytes.
    public var size: Int {
        switch self {
        case .sha1: 20
        case .sha256: 32
        case .sha384: 48
        case .sha512: 64
        }
    }

    /// libcrypto's implementations, looked up once for the process and never freed: 3.0 looks `EVP_sha256()` up anew for
    /// each digest, which takes longer than hashing an event does.
    private nonisolated(unsafe) static let fetched: [OpaquePointer?] = {
        let names = ["SHA1", "SHA2-256", "SHA2-384", "SHA2-512"]
        return unsafe names.map { name in unsafe EVP_MD_fetch(nil, name, nil) }
    }()

    var evp: OpaquePointer {
        let index =
            switch self {
            case .sha1: 0
            case .sha256: 1
            case .sha384: 2
            case .sha512: 3
            }
        guard let implementation = unsafe Self.fetched[index] else {
            preconditionFailure("libcrypto has no \(rawValue)")
        }
        return unsafe implementation
    }

    /// The digest of `bytes`, `size` bytes long.
    public func hash(_ bytes: [UInt8]) -> [UInt8] { hash(bytes[...]) }

    public func hash(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: size)
        let done = unsafe bytes.withUnsafeBytes { input in
            unsafe EVP_Digest(input.baseAddress, input.count, &digest, nil, evp, nil)
        }
        // Fails only when libcrypto cannot allocate or was built without the algorithm; no digest may be made up then.
        precondition(done == 1, "libcrypto refuses \(rawValue)")
        return digest
    }

    /// HMAC (RFC 2104) of `bytes` under `key`.
    public func hmac(key: [UInt8], _ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: size)
        var length: UInt32 = 0
        let result = unsafe HMAC(evp, key, Int32(key.count), bytes, bytes.count, &digest, &length)
        precondition(unsafe result != nil && Int(length) == size, "libcrypto refuses HMAC \(rawValue)")
        return digest
    }
}

/// A running hash; feed it pieces, finish it once.
@safe public struct Digest: ~Copyable {
    public let algorithm: HashAlgorithm
    private let context: OpaquePointer

    public init(_ algorithm: HashAlgorithm) {
        self.algorithm = algorithm
        guard let context = unsafe EVP_MD_CTX_new(), unsafe EVP_DigestInit_ex(context, algorithm.evp, nil) == 1 else {
            preconditionFailure("libcrypto refuses \(algorithm)")
        }
        unsafe self.context = context
    }

    public mutating func update(_ bytes: [UInt8]) { update(bytes[...]) }

    public mutating func update(_ bytes: ArraySlice<UInt8>) {
        unsafe bytes.withUnsafeBytes { unsafe update($0) }
    }

    /// Feeds memory that the caller keeps alive for the call, such as a mapped file.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        let done = unsafe EVP_DigestUpdate(context, bytes.baseAddress, bytes.count)
        precondition(done == 1, "libcrypto refuses to hash")
    }

    public consuming func finish() -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: algorithm.size)
        let done = unsafe EVP_DigestFinal_ex(context, &digest, nil)
        precondition(done == 1, "libcrypto refuses to finish a hash")
        return digest
    }

    deinit { unsafe EVP_MD_CTX_free(context) }
}

/// `count` bytes from the system's generator through libcrypto.
public func randomBytes(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let done = unsafe RAND_bytes(&bytes, Int32(count))
    precondition(done == 1, "no randomness")
    return bytes
}

/// HKDF (RFC 5869) with SHA-256. `info` follows `nacre/v1/<purpose>/…`.
public func hkdfSHA256(key: [UInt8], salt: [UInt8], info: String, count: Int) -> [UInt8] {
    let pseudorandom = HashAlgorithm.sha256.hmac(key: salt.isEmpty ? [UInt8](repeating: 0, count: 32) : salt, key)
    var output: [UInt8] = []
    var block: [UInt8] = []
    var counter: UInt8 = 0
    precondition(count <= 255 * 32)
    while output.count < count {
        counter += 1
        block = HashAlgorithm.sha256.hmac(key: pseudorandom, block + Array(info.utf8) + [counter])
        output += block
    }
    return Array(output.prefix(count))
}
