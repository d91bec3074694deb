/// A bounded cursor over bytes that somebody else wrote.
///
/// Every read checks the remaining length first and reports the field and absolute offset on failure. Nothing is
/// allocated from a length field before that length is known to be present.
public struct ByteReader: Sendable {
    /// The bytes in view; indices are those of the outermost input, so offsets in errors are absolute.
    private let bytes: ArraySlice<UInt8>
    /// Offset of `bytes.startIndex` in the outermost input.
    private let base: Int
    private var position: Int

    /// - Parameter base: what offset 0 is called in errors, when `bytes` was cut out of something larger.
    public init(_ bytes: some Sequence<UInt8>, base: Int = 0) {
        self.init(slice: ArraySlice(Array(bytes)), base: base)
    }

    public init(_ bytes: [UInt8], base: Int = 0) { self.init(slice: bytes[...], base: base) }

    private init(slice: ArraySlice<UInt8>, base: Int) {
        self.bytes = slice
        self.base = base
        self.position = slice.startIndex
    }

    /// Absolute offset of the next byte.
    public var offset: Int { base + (position - bytes.startIndex) }
    /// Bytes not yet read.
    public var remaining: Int { bytes.endIndex - position }
    public var isAtEnd: Bool { remaining == 0 }

    private func require(_ count: Int, _ field: String) throws(ParseError) {
        guard count >= 0, count <= remaining else {
            throw ParseError("length", field: field, offset: offset, "needs \(count) bytes, \(remaining) left")
        }
    }

    /// `count` bytes, or an error naming `field`.
    public mutating func take(_ count: Int, _ field: String) throws(ParseError) -> [UInt8] {
        try require(count, field)
        defer { position += count }
        return Array(bytes[position..<position + count])
    }

    public mutating func skip(_ count: Int, _ field: String) throws(ParseError) {
        try require(count, field)
        position += count
    }

    /// A reader over the next `count` bytes only; this one moves past them.
    public mutating func sub(_ count: Int, _ field: String) throws(ParseError) -> ByteReader {
        try require(count, field)
        defer { position += count }
        return ByteReader(slice: bytes[position..<position + count], base: offset)
    }

    /// The bytes left, without moving.
    public var rest: [UInt8] { Array(bytes[position...]) }

    public mutating func u8(_ field: String) throws(ParseError) -> UInt8 {
        try require(1, field)
        defer { position += 1 }
        return bytes[position]
    }

    /// An unsigned little-endian integer of `T`'s width.
    public mutating func le<T: FixedWidthInteger & UnsignedInteger & Sendable>(
        _ type: T.Type = T.self, _ field: String
    ) throws(ParseError) -> T {
        T(truncatingIfNeeded: try little(T.bitWidth / 8, field))
    }

    /// Not generic: arithmetic on a type that is only known when the program runs costs a call for each step.
    private mutating func little(_ width: Int, _ field: String) throws(ParseError) -> UInt64 {
        precondition(width <= 8, "integers of at most 64 bits")
        try require(width, field)
        var value: UInt64 = 0
        for index in 0..<width { value |= UInt64(bytes[position + index]) << UInt64(8 * index) }
        position += width
        return value
    }

    /// An unsigned big-endian integer of `T`'s width.
    public mutating func be<T: FixedWidthInteger & UnsignedInteger & Sendable>(
        _ type: T.Type = T.self, _ field: String
    ) throws(ParseError) -> T {
        try le(type, field).byteSwapped
    }

    /// `count` bytes that must all be zero.
    public mutating func zeros(_ count: Int, _ field: String) throws(ParseError) {
        let start = offset
        let found = try take(count, field)
        if let index = found.firstIndex(where: { $0 != 0 }) {
            throw ParseError(
                "reserved", field: field, offset: start + index,
                "must be zero, found 0x\(Hex.encode([found[index]]))")
        }
    }

    /// Refuses bytes after the last field.
    public func end(_ field: String) throws(ParseError) {
        guard isAtEnd else {
            throw ParseError("length", field: field, offset: offset, "\(remaining) trailing bytes")
        }
    }
}

/// Builds binary structures; the mirror of `ByteReader`.
public struct ByteWriter: Sendable {
    public private(set) var bytes: [UInt8] = []

    public init() {}

    public mutating func append(_ value: some Sequence<UInt8>) { bytes.append(contentsOf: value) }

    public mutating func u8(_ value: UInt8) { bytes.append(value) }

    public mutating func le<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
        little(UInt64(truncatingIfNeeded: value), T.bitWidth / 8)
    }

    private mutating func little(_ value: UInt64, _ width: Int) {
        precondition(width <= 8, "integers of at most 64 bits")
        for index in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
    }

    public mutating func be<T: FixedWidthInteger & UnsignedInteger>(_ value: T) { le(value.byteSwapped) }

    public mutating func zeros(_ count: Int) { bytes.append(contentsOf: repeatElement(0, count: count)) }

    /// Zero bytes up to the next multiple of `alignment`.
    public mutating func pad(to alignment: Int) {
        let excess = bytes.count % alignment
        if excess != 0 { zeros(alignment - excess) }
    }
}
