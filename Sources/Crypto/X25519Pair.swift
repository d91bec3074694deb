import Bytes
import COpenSSL

/// A key pair of X25519 (RFC 7748), as WireGuard uses it: raw bytes, both halves 32.
public struct X25519Pair: ~Copyable, Sendable {
    public static let size = 32

    public let secret: Secret
    public let published: [UInt8]

    /// A new one from the system's generator.
    public init() throws(CryptoError) {
        var published = [UInt8](repeating: 0, count: Self.size)
        secret = try Secret(count: Self.size) { span throws(CryptoError) in
            let done = unsafe span.withUnsafeMutableBytes { unsafe nacre_x25519_keygen($0.baseAddress, &published) }
            guard done == 1 else { throw CryptoError.library("cannot make an X25519 key") }
        }
        self.published = published
    }
}

extension Secret {
    /// The bytes as base64 with padding (RFC 4648 §4), computed without tables: which memory is read tells nothing.
    public var base64: Secret {
        Secret(count: (count + 2) / 3 * 4) { out in
            withBytes { bytes in
                for group in 0..<(bytes.count + 2) / 3 {
                    let present = min(3, bytes.count - 3 * group)
                    var bits: UInt32 = 0
                    for place in 0..<3 {
                        bits = bits << 8 | (place < present ? UInt32(bytes[3 * group + place]) : 0)
                    }
                    for place in 0...3 {
                        let digit = UInt8(truncatingIfNeeded: bits >> UInt32(18 - 6 * place)) & 63
                        out[4 * group + place] = place <= present ? Self.character(digit) : UInt8(ascii: "=")
                    }
                }
            }
        }
    }

    /// `A`–`Z`, `a`–`z`, `0`–`9`, `+`, `/`.
    private static func character(_ digit: UInt8) -> UInt8 {
        // Bit 7 of `limit - digit` is set where the digit lies above the limit; each step there is added once.
        func step(above limit: UInt8, by difference: Int16) -> Int16 {
            difference & -Int16((limit &- digit) >> 7)
        }
        let value =
            Int16(digit) + 65 + step(above: 25, by: 6) + step(above: 51, by: -75) + step(above: 61, by: -15)
            + step(above: 62, by: 3)
        return UInt8(truncatingIfNeeded: value)
    }

    /// `self` between two texts that are no secret.
    public func framed(_ before: String, _ after: String) -> Secret {
        let (head, tail) = (Array(before.utf8), Array(after.utf8))
        return Secret(count: head.count + count + tail.count) { out in
            for index in head.indices { out[index] = head[index] }
            withBytes { bytes in for index in bytes.indices { out[head.count + index] = bytes[index] } }
            for index in tail.indices { out[head.count + self.count + index] = tail[index] }
        }
    }
}
