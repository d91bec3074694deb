import Bytes

/// The part of CBOR (RFC 8949) that attestation documents use, strict: definite lengths, shortest forms, no floating
/// point, no duplicate keys, bounded depth and count, no trailing bytes.
public indirect enum CBOR: Hashable, Sendable {
    /// Integers from −2⁶³ to 2⁶³ − 1.
    case integer(Int64)
    case bytes([UInt8])
    case text(String)
    case array([CBOR])
    case map([CBOR: CBOR])
    case tagged(UInt64, CBOR)
    case bool(Bool)
    case null

    static let maximumDepth = 8
    static let maximumItems = 1024
    /// Inputs above this many bytes are refused unread.
    public static let maximumSize = 1 << 17

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        guard bytes.count <= Self.maximumSize else {
            throw ParseError("length", field: "CBOR", offset: 0, "\(bytes.count) bytes")
        }
        var reader = ByteReader(bytes)
        var items = 0
        self = try Self.item(&reader, depth: 0, items: &items)
        try reader.end("CBOR")
    }

    private static func item(_ reader: inout ByteReader, depth: Int, items: inout Int) throws(ParseError) -> CBOR {
        let offset = reader.offset
        items += 1
        guard depth < maximumDepth, items <= maximumItems else {
            throw ParseError("range", field: "CBOR", offset: offset, "too deep or too many items")
        }
        let first = try reader.u8("CBOR")
        if first == 0xF4 || first == 0xF5 { return .bool(first == 0xF5) }
        if first == 0xF6 { return .null }
        let argument = try argument(first, &reader, offset: offset)
        switch first >> 5 {
        case 0, 1:
            guard let value = Int64(exactly: argument) else {
                throw ParseError("range", field: "CBOR", offset: offset, "integer beyond 63 bits")
            }
            return .integer(first >> 5 == 0 ? value : -1 - value)
        case 2: return .bytes(try reader.take(Int(clamping: argument), "CBOR byte string"))
        case 3:
            let bytes = try reader.take(Int(clamping: argument), "CBOR text string")
            guard let text = String(validating: bytes, as: UTF8.self) else {
                throw ParseError("form", field: "CBOR text string", offset: offset, "not UTF-8")
            }
            return .text(text)
        case 4:
            var values: [CBOR] = []
            for _ in 0..<(try count(argument, reader, offset: offset)) {
                values.append(try item(&reader, depth: depth + 1, items: &items))
            }
            return .array(values)
        case 5:
            var values: [CBOR: CBOR] = [:]
            for _ in 0..<(try count(argument, reader, offset: offset)) {
                let keyOffset = reader.offset
                let key = try item(&reader, depth: depth + 1, items: &items)
                guard values.updateValue(try item(&reader, depth: depth + 1, items: &items), forKey: key) == nil else {
                    throw ParseError("form", field: "CBOR map", offset: keyOffset, "a key stands twice")
                }
            }
            return .map(values)
        case 6: return .tagged(argument, try item(&reader, depth: depth + 1, items: &items))
        default:
            throw ParseError("form", field: "CBOR", offset: offset, "0x\(Hex.encode([first])) is not accepted")
        }
    }

    /// The head's argument in its shortest form.
    private static func argument(
        _ first: UInt8, _ reader: inout ByteReader, offset: Int
    ) throws(ParseError) -> UInt64 {
        let (value, least): (UInt64, UInt64) =
            switch first & 0x1F {
            case 0...23: (UInt64(first & 0x1F), 0)
            case 24: (UInt64(try reader.u8("CBOR")), 24)
            case 25: (UInt64(try reader.be(UInt16.self, "CBOR")), 1 << 8)
            case 26: (UInt64(try reader.be(UInt32.self, "CBOR")), 1 << 16)
            case 27: (try reader.be(UInt64.self, "CBOR"), 1 << 32)
            default:
                throw ParseError("form", field: "CBOR", offset: offset, "indefinite length or reserved form")
            }
        guard value >= least else { throw ParseError("form", field: "CBOR", offset: offset, "not the shortest form") }
        return value
    }

    /// An item takes at least one byte, so no count may exceed what is left.
    private static func count(_ value: UInt64, _ reader: ByteReader, offset: Int) throws(ParseError) -> Int {
        guard value <= UInt64(min(reader.remaining, maximumItems)) else {
            throw ParseError("length", field: "CBOR", offset: offset, "\(value) items, \(reader.remaining) bytes left")
        }
        return Int(value)
    }

    public var text: String? { if case .text(let value) = self { value } else { nil } }
    public var byteString: [UInt8]? { if case .bytes(let value) = self { value } else { nil } }
    public var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
    public var array: [CBOR]? { if case .array(let value) = self { value } else { nil } }
    public var map: [CBOR: CBOR]? { if case .map(let value) = self { value } else { nil } }

    /// The shortest form; map keys in bytewise order of their encodings (RFC 8949 §4.2.1).
    public var encoded: [UInt8] {
        switch self {
        case .integer(let value):
            value >= 0 ? Self.head(0, UInt64(value)) : Self.head(1, UInt64(-1 - value))
        case .bytes(let value): Self.head(2, UInt64(value.count)) + value
        case .text(let value): Self.head(3, UInt64(value.utf8.count)) + Array(value.utf8)
        case .array(let values): Self.head(4, UInt64(values.count)) + values.flatMap(\.encoded)
        case .map(let values):
            Self.head(5, UInt64(values.count))
                + values.map { ($0.encoded, $1.encoded) }.sorted { $0.0.lexicographicallyPrecedes($1.0) }
                .flatMap { $0 + $1 }
        case .tagged(let tag, let value): Self.head(6, tag) + value.encoded
        case .bool(let value): [value ? 0xF5 : 0xF4]
        case .null: [0xF6]
        }
    }

    private static func head(_ major: UInt8, _ argument: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        switch argument {
        case 0..<24: writer.u8(major << 5 | UInt8(argument))
        case 24..<(1 << 8):
            writer.u8(major << 5 | 24)
            writer.u8(UInt8(argument))
        case (1 << 8)..<(1 << 16):
            writer.u8(major << 5 | 25)
            writer.be(UInt16(argument))
        case (1 << 16)..<(1 << 32):
            writer.u8(major << 5 | 26)
            writer.be(UInt32(argument))
        default:
            writer.u8(major << 5 | 27)
            writer.be(argument)
        }
        return writer.bytes
    }
}
