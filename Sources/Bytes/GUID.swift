/// A GUID in the form of UEFI 2.10 appendix A and of Microsoft's PE world: the first three groups little-endian.
public struct GUID: Hashable, Sendable, CustomStringConvertible {
    /// The 16 bytes as they lie in memory and on disk.
    public let bytes: [UInt8]

    public static let zero = GUID(unchecked: [UInt8](repeating: 0, count: 16))

    private init(unchecked bytes: [UInt8]) { self.bytes = bytes }

    /// `nil` unless there are exactly 16 bytes.
    public init?(bytes: [UInt8]) {
        guard bytes.count == 16 else { return nil }
        self.bytes = bytes
    }

    /// The next 16 bytes of `reader`.
    public init(_ reader: inout ByteReader, _ field: String) throws(ParseError) {
        bytes = try reader.take(16, field)
    }

    /// `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx`, either case; `nil` for any other text.
    public init?(_ text: some StringProtocol) {
        let groups = text.split(separator: "-", omittingEmptySubsequences: false)
        guard groups.map(\.utf8.count) == [8, 4, 4, 4, 12], let raw = Hex.decode(groups.joined()) else { return nil }
        bytes = Self.swapped(raw)
    }

    /// The first three groups reversed: from text order to memory order and back.
    private static func swapped(_ raw: [UInt8]) -> [UInt8] {
        Array(raw[0..<4].reversed()) + Array(raw[4..<6].reversed()) + Array(raw[6..<8].reversed()) + Array(raw[8..<16])
    }

    public var description: String {
        let text = Array(Hex.encode(Self.swapped(bytes)))
        return [0..<8, 8..<12, 12..<16, 16..<20, 20..<32].map { String(text[$0]) }.joined(separator: "-")
    }
}

extension GUID: ExpressibleByStringLiteral {
    /// For constants in source only; a malformed one is a programming error that the first test meets.
    public init(stringLiteral value: StaticString) {
        guard let guid = GUID(value.description) else { preconditionFailure("not a GUID: \(value)") }
        self = guid
    }
}
