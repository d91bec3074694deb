import Bytes
import Testing

@testable import Crypto

/// Public keys are made once for their exact bytes; nothing else is remembered of them.
@Suite struct KnownKeyTests {
    @Test func `the same point gives the same key object`() throws {
        let point = try #require(PrivateKey(generating: .p256).publicKey.point)
        let (x, y) = (Array(point.prefix(32)), Array(point.suffix(32)))
        let first = try PublicKey.known(.p256, x: x, y: y)
        #expect(try PublicKey.known(.p256, x: x, y: y) === first)
        #expect(try first == PublicKey(.p256, x: x, y: y))
        #expect(first.kind == .p256)
    }

    @Test func `a signature is verified each time`() throws {
        let (key, other) = (try PrivateKey(generating: .p256), try PrivateKey(generating: .p256))
        let point = try #require(key.publicKey.point)
        let message = Array("quote".utf8)
        let (good, bad) = (
            try key.sign(message, scheme: .ecdsa(.sha256)), try other.sign(message, scheme: .ecdsa(.sha256))
        )
        for _ in 0..<3 {
            let known = try PublicKey.known(.p256, x: Array(point.prefix(32)), y: Array(point.suffix(32)))
            try known.verify(good, of: message, scheme: .ecdsa(.sha256))
            #expect(throws: CryptoError.self) { try known.verify(bad, of: message, scheme: .ecdsa(.sha256)) }
            #expect(throws: CryptoError.self) { try known.verify(good, of: [1], scheme: .ecdsa(.sha256)) }
            #expect(throws: CryptoError.self) { try known.verify(good, of: message, scheme: .ecdsa(.sha384)) }
        }
    }

    @Test func `what is no point is refused each time, and not kept`() throws {
        for _ in 0..<2 {
            #expect(throws: CryptoError.self) {
                try PublicKey.known(.p256, x: [UInt8](repeating: 1, count: 32), y: [UInt8](repeating: 1, count: 32))
            }
            #expect(throws: CryptoError.self) { try PublicKey.known(.p256, x: [1], y: [2]) }
            // Two coordinates of 48 bytes are another curve's.
            #expect(throws: CryptoError.self) {
                try PublicKey.known(.p256, x: [UInt8](repeating: 1, count: 48), y: [UInt8](repeating: 1, count: 48))
            }
        }
        #expect(PublicKey.known[[UInt8](repeating: 1, count: 64)] == nil)
    }

    @Test func `only so many are kept`() throws {
        for _ in 0..<1200 {
            let point = try #require(PrivateKey(generating: .p256).publicKey.point)
            _ = try PublicKey.known(.p256, x: Array(point.prefix(32)), y: Array(point.suffix(32)))
        }
        #expect(PublicKey.known.count == 1024)
    }
}
