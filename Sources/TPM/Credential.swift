import Bytes
import Crypto

/// A secret that only a TPM with both an endorsement key and an attestation key of a certain Name can read
/// (TPM 2.0 Part 1 §24, Part 3 §12.6 TPM2_MakeCredential). Made without a TPM, by whoever wants to know that these two
/// keys are in one.
public struct Credential: Equatable, Sendable {
    /// TPM2B_ID_OBJECT: the secret, encrypted, and an HMAC that binds it to the Name.
    public let blob: [UInt8]
    /// TPM2B_ENCRYPTED_SECRET: the seed of both, for the endorsement key.
    public let seed: [UInt8]

    /// Longest TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET that are read: SHA-512 throughout and RSA of 4096 bits.
    public static let maximumSize = 1024

    /// A credential as it came from elsewhere: two TPM2B that fill their bytes.
    public init(blob: [UInt8], seed: [UInt8]) throws(ParseError) {
        for (name, bytes) in [("TPM2B_ID_OBJECT", blob), ("TPM2B_ENCRYPTED_SECRET", seed)] {
            var reader = ByteReader(bytes)
            let content = try reader.sized(name, limit: Self.maximumSize)
            try reader.end(name)
            guard !content.isEmpty else { throw ParseError("length", field: name, offset: 2, "is empty") }
        }
        self.blob = blob
        self.seed = seed
    }

    /// Encrypts `secret`, at most as long as a digest of the endorsement key's name algorithm.
    ///
    /// - Parameters:
    ///   - endorsementKey: a restricted decryption key; see `TPMPublic.checkEndorsement`.
    ///   - name: the Name of the object that the TPM must hold.
    public init(_ secret: borrowing Secret, for name: [UInt8], to endorsementKey: TPMPublic) throws(TPMError) {
        let hash = endorsementKey.nameAlgorithm
        let keySize = try endorsementKey.checkEndorsement()
        guard (1...hash.size).contains(secret.count) else {
            throw TPMError(
                Finding(
                    "ek-key", claim: "credential", expected: "1 to \(hash.size) bytes", actual: "\(secret.count) bytes"
                ))
        }
        do {
            var encrypted: [UInt8] = []
            let seed = try Self.seed(endorsementKey, encrypted: &encrypted)
            let key = seed.kdfa(hash, "STORAGE", context: name, bits: keySize * 8)
            let sized = Secret(count: 2 + secret.count) { span in
                (span[0], span[1]) = (UInt8(secret.count >> 8), UInt8(secret.count & 0xFF))
                secret.withBytes { bytes in for index in 0..<bytes.count { span[2 + index] = bytes[index] } }
            }
            let identity = try aesCFB(sized, key: key)
            let integrity = hash.hmac(
                key: seed.kdfa(hash, "INTEGRITY", context: [], bits: hash.size * 8), identity + name)
            blob = TPMPublic.sized(TPMPublic.sized(integrity) + identity)
            self.seed = TPMPublic.sized(encrypted)
        } catch {
            throw TPMError(
                Finding("ek-key", claim: "ek", expected: "a key to encrypt to", actual: error.message))
        }
    }

    /// A fresh seed and its form for the endorsement key (Part 1 §B.10.4 for RSA, §C.7.4 for elliptic curves).
    private static func seed(_ key: TPMPublic, encrypted: inout [UInt8]) throws(CryptoError) -> Secret {
        let hash = key.nameAlgorithm
        let publicKey = try key.publicKey()
        switch key.unique {
        case .rsa:
            let seed = Secret(random: hash.size)
            // The label's terminating zero is part of it.
            encrypted = try publicKey.encryptOAEP(seed, hash: hash, label: Array("IDENTITY".utf8) + [0])
            return seed
        case .ecc(let curve, let x, _):
            let ephemeral = try PrivateKey(generating: curve)
            guard let point = ephemeral.publicKey.coordinates else {
                throw CryptoError(.library, "a key without point")
            }
            let shared = try ephemeral.sharedSecret(with: publicKey)
            // KDFe (Part 1 §11.4.10.3): one block is as long as the seed.
            var digest = Digest(hash)
            digest.update([0, 0, 0, 1])
            digest.update(shared)
            digest.update(Array("IDENTITY".utf8) + [0] + point.x + x)
            var bytes = digest.finish()
            encrypted = TPMPublic.sized(point.x) + TPMPublic.sized(point.y)
            return Secret(wiping: &bytes)
        }
    }
}

extension Secret {
    /// KDFa (Part 1 §11.4.10.2; NIST SP 800-108 in counter mode): at most one block.
    fileprivate func kdfa(_ hash: HashAlgorithm, _ label: String, context: [UInt8], bits: Int) -> Secret {
        var message = ByteWriter()
        message.be(UInt32(1))
        message.append(Array(label.utf8) + [0])
        message.append(context)
        message.be(UInt32(clamping: bits))
        return hash.secretHMAC(key: self, message.bytes, count: bits / 8)
    }
}

extension TPMPublic {
    /// A TPM2B: 16-bit big-endian size, then `bytes`.
    public static func sized(_ bytes: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.be(UInt16(clamping: bytes.count))
        writer.append(bytes)
        return writer.bytes
    }

    /// Refuses a key that is not of an endorsement key's kind (TCG EK Credential Profile 2.6 §B.3, B.4): a restricted
    /// decryption key made in the TPM it stays in. Another one would not prove anything of the TPM that holds it.
    ///
    /// - Returns: bytes of its symmetric key.
    /// - Throws: `ek-attributes`.
    @discardableResult
    public func checkEndorsement() throws(TPMError) -> Int {
        let wanted: Attributes = [.fixedTPM, .fixedParent, .sensitiveDataOrigin, .restricted, .decrypt]
        let keySize =
            switch symmetric {
            case Symmetric(algorithm: AlgorithmID.aes, keyBits: 128, mode: AlgorithmID.cfb): 16
            case Symmetric(algorithm: AlgorithmID.aes, keyBits: 256, mode: AlgorithmID.cfb): 32
            default: 0
            }
        guard attributes.isSuperset(of: wanted), !attributes.contains(.sign), nameAlgorithm.size >= max(32, keySize),
            keySize > 0
        else {
            throw TPMError(
                Finding(
                    "ek-attributes", claim: "ek.attributes",
                    expected: wanted.names.joined(separator: " ") + ", not sign, SHA-256 or stronger, AES-CFB",
                    actual: attributes.names.joined(separator: " ")
                        + ", \(nameAlgorithm.rawValue), \(symmetric.map { "\($0.keyBits) bits" } ?? "no cipher")",
                    source: "TCG EK Credential Profile 2.6 annex B"))
        }
        return keySize
    }
}
