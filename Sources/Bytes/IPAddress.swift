import Glibc

/// An IPv4 or IPv6 address, without a zone.
public struct IPAddress: Sendable, Hashable, CustomStringConvertible {
    /// 4 or 16, in network order.
    public let bytes: [UInt8]

    /// - Returns: `nil` for any other number of bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        self.bytes = bytes
    }

    public init(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) { bytes = [a, b, c, d] }

    /// Four decimal numbers, or RFC 4291 §2.2; nothing around it.
    public init?(_ text: String) {
        guard text.utf8.count <= 45, !text.utf8.contains(0) else { return nil }
        for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
            var read = [UInt8](repeating: 0, count: count)
            if unsafe inet_pton(family, text, &read) == 1 {
                bytes = read
                return
            }
        }
        return nil
    }

    public var isIPv4: Bool { bytes.count == 4 }
    /// fe80::/10: means nothing without an interface.
    public var isLinkLocal: Bool { bytes.count == 16 && bytes[0] == 0xFE && bytes[1] & 0xC0 == 0x80 }

    /// The usual form (RFC 5952 for IPv6).
    public var description: String {
        var text = [CChar](repeating: 0, count: 64)
        _ = unsafe inet_ntop(isIPv4 ? AF_INET : AF_INET6, bytes, &text, socklen_t(text.count))
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
