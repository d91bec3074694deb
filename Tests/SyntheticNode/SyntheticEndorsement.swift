import Attestation
import Bytes
import Crypto
import TPM

/// A P-256 key that plays a TPM's endorsement key: what TPM2_ActivateCredential does, without a TPM.
public struct SyntheticEndorsement: Sendable {
    public struct Refused: Error {}
    public let key: PrivateKey

    public init() throws { key = try PrivateKey(generating: .p256) }

    /// TPM2B_PUBLIC after template L-2.
    public func area(of other: PublicKey? = nil, attributes: UInt32 = 0x0003_00B2) -> [UInt8] {
        let template = EndorsementTemplate.all[0].area
        let point = (other ?? key.publicKey).coordinates
        var area = ByteWriter()
        area.append(template[2..<6])
        area.be(attributes)
        area.append(template[10..<template.count - 68])
        area.append(TPMPublic.sized(point?.x ?? []) + TPMPublic.sized(point?.y ?? []))
        return TPMPublic.sized(area.bytes)
    }

    /// The proof for a credential made for this key and `attestationKey` (TPM 2.0 Part 1 §24).
    public func activate(_ request: ActivationRequest, attestationKey: [UInt8]) throws -> [UInt8] {
        let name = try TPMPublic(parsing: attestationKey).name
        let blob = Array(request.credential.blob.dropFirst(2))
        let seed = request.credential.seed
        guard blob.count > 34, seed.count == 70 else { throw Refused() }
        let (x, y) = (Array(seed[4..<36]), Array(seed[38..<70]))
        var kdfe = Digest(.sha256)
        kdfe.update([0, 0, 0, 1])
        kdfe.update(try key.sharedSecret(with: PublicKey(.p256, x: x, y: y)))
        kdfe.update(Array("IDENTITY".utf8) + [0] + x + (key.publicKey.coordinates?.x ?? []))
        let root = kdfe.finish()
        let integrity = HashAlgorithm.sha256.hmac(key: root, [0, 0, 0, 1] + Array("INTEGRITY\0".utf8) + [0, 0, 1, 0])
        let identity = Array(blob.dropFirst(34))
        guard HashAlgorithm.sha256.hmac(key: integrity, identity + name) == Array(blob[2..<34]) else { throw Refused() }
        let label = [0, 0, 0, 1] + Array("STORAGE\0".utf8) + name + [0, 0, 0, 128]
        var cipher = Array(HashAlgorithm.sha256.hmac(key: root, label).prefix(16))
        let storage = Secret(wiping: &cipher)
        // Encryption finds the key stream of a block once the blocks before it are known.
        var plain = [UInt8](repeating: 0, count: identity.count)
        for start in stride(from: 0, to: plain.count, by: 16) {
            var guess = plain
            let stream = try aesCFB(Secret(wiping: &guess), key: storage)
            for index in start..<min(start + 16, plain.count) { plain[index] = identity[index] ^ stream[index] }
        }
        var secret = Array(plain.dropFirst(2))
        return ActivationRequest.proof(Secret(wiping: &secret), nonce: request.nonce, attestationKey: attestationKey)
    }
}
