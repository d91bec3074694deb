import Crypto
import Testing

/// `PreparedVerifier` says what `PublicKey.verifyECDSA` says, again and again.
@Suite struct PreparedVerifierTests {
    @Test(arguments: [Curve.p256, .p384], [HashAlgorithm.sha256, .sha384])
    func agreesWithPublicKey(_ curve: Curve, _ hash: HashAlgorithm) throws {
        let key = try PrivateKey(generating: curve)
        let verifier = try PreparedVerifier(key.publicKey, hash: hash)
        for round in 0..<8 {
            let message = [UInt8](repeating: UInt8(round), count: 100 * round)
            let encoded = try key.sign(message, scheme: .ecdsa(hash))
            let numbers = try DER.single(encoded, "signature").children("signature").map { number in
                let magnitude = number.content.drop { $0 == 0 }
                return [UInt8](repeating: 0, count: curve.coordinateSize - magnitude.count) + magnitude
            }
            var raw = numbers[0] + numbers[1]
            try verifier.verify(raw: raw, of: message)
            try key.publicKey.verifyECDSA(raw: raw, of: message, hash: hash)
            #expect(throws: CryptoError.self) { try verifier.verify(raw: raw, of: message + [1]) }
            raw[5] ^= 1
            #expect(throws: CryptoError.self) { try verifier.verify(raw: raw, of: message) }
            #expect(throws: CryptoError.self) { try verifier.verify(raw: [], of: message) }
            #expect(throws: CryptoError.self) {
                try verifier.verify(raw: [UInt8](repeating: 0, count: raw.count), of: message)
            }
        }
    }
}
