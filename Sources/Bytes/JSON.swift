/// A strict JSON value (RFC 8259): UTF-8, no duplicate keys, bounded depth, size and number of values, no trailing bytes.
///
/// Objects keep their keys sorted by UTF-16 code unit, the order of RFC 8785, so that `canonical` is a plain walk.
public enum JSON: Equatable, Sendable {
    case null
    case bool(Bool)
    /// Integers are exact; anything with a fraction or exponent is `.double`.
    case integer(Int128)
    case double(Double)
    case string(String)
    case array([JSON])
    case object([String: JSON])

    public static let maximumDepth = 32
    /// Most values in one document, nested ones counted: each costs many times the two bytes that it may be written in.
    public static let maximumValues = 500_000

    /// - Parameter limit: inputs above this many bytes are refused unread.
    public init(parsing bytes: [UInt8], limit: Int = 32 << 20) throws(ParseError) {
        guard bytes.count <= limit else {
            throw ParseError("length", field: "json", offset: 0, "\(bytes.count) bytes, at most \(limit) are read")
        }
        var parser = JSONParser(bytes: bytes)
        self = try parser.document()
    }

    public init(parsing text: String, limit: Int = 32 << 20) throws(ParseError) {
        try self.init(parsing: Array(text.utf8), limit: limit)
    }

    /// A dictionary literal's values, leaving out those that are `nil`.
    public static func fields(_ pairs: KeyValuePairs<String, JSON?>) -> JSON {
        var object: [String: JSON] = [:]
        for (key, value) in pairs { object[key] = value }
        return .object(object)
    }

    public static func hex(_ bytes: some Sequence<UInt8>) -> JSON { .string(Hex.encode(bytes)) }
    public static func base64(_ bytes: [UInt8]) -> JSON { .string(Base64.encode(bytes)) }

    public var string: String? { if case .string(let value) = self { value } else { nil } }
    public var array: [JSON]? { if case .array(let value) = self { value } else { nil } }
    public var object: [String: JSON]? { if case .object(let value) = self { value } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var integer: Int? { if case .integer(let value) = self { Int(exactly: value) } else { nil } }
    public var unsigned: UInt64? { if case .integer(let value) = self { UInt64(exactly: value) } else { nil } }
    public subscript(key: String) -> JSON? { object?[key] }

    /// RFC 8785 form. `nil` when the value holds a non-integer or an integer beyond ±2⁵³, which signed documents of
    /// Nacre never do.
    public var canonical: [UInt8]? {
        var out: [UInt8] = []
        return write(into: &out, canonical: true, indent: nil) ? out : nil
    }

    /// Human-readable form: sorted keys, two spaces, a newline at the end.
    public var pretty: String {
        var out: [UInt8] = []
        _ = write(into: &out, canonical: false, indent: 0)
        return String(decoding: out, as: UTF8.self) + "\n"
    }

    /// One line, sorted keys.
    public var compact: String {
        var out: [UInt8] = []
        _ = write(into: &out, canonical: false, indent: nil)
        return String(decoding: out, as: UTF8.self)
    }

    private func write(into out: inout [UInt8], canonical: Bool, indent: Int?) -> Bool {
        func newline(_ depth: Int) {
            out.append(UInt8(ascii: "\n"))
            out.append(contentsOf: repeatElement(UInt8(ascii: " "), count: depth * 2))
        }
        switch self {
        case .null: out.append(contentsOf: "null".utf8)
        case .bool(let value): out.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value):
            if canonical, value.magnitude > 1 << 53 { return false }
            out.append(contentsOf: String(value).utf8)
        case .double(let value):
            if canonical { return false }
            out.append(contentsOf: (value.isFinite ? String(value) : "null").utf8)
        case .string(let value): Self.quote(value, into: &out)
        case .array(let values):
            out.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                if let indent { newline(indent + 1) }
                guard value.write(into: &out, canonical: canonical, indent: indent.map { $0 + 1 }) else { return false }
            }
            if let indent, !values.isEmpty { newline(indent) }
            out.append(UInt8(ascii: "]"))
        case .object(let fields):
            out.append(UInt8(ascii: "{"))
            for (index, field) in fields.sorted(by: { Self.precedes($0.key, $1.key) }).enumerated() {
                if index > 0 { out.append(UInt8(ascii: ",")) }
                if let indent { newline(indent + 1) }
                Self.quote(field.key, into: &out)
                out.append(UInt8(ascii: ":"))
                if indent != nil { out.append(UInt8(ascii: " ")) }
                let depth = indent.map { $0 + 1 }
                guard field.value.write(into: &out, canonical: canonical, indent: depth) else { return false }
            }
            if let indent, !fields.isEmpty { newline(indent) }
            out.append(UInt8(ascii: "}"))
        }
        return true
    }

    /// The order of UTF-16 code units (RFC 8785 §3.2.3), from UTF-8: the same as that of the bytes, but that what takes two
    /// units (lead bytes from F0) comes before the last characters that take one (lead bytes EE and EF).
    static func precedes(_ left: String, _ right: String) -> Bool {
        func rank(_ byte: UInt8) -> UInt8 { byte < 0xEE ? byte : byte < 0xF0 ? byte + 5 : byte - 2 }
        let (left, right) = (left.utf8.span, right.utf8.span)
        let common = min(left.count, right.count)
        for index in 0..<common where left[index] != right[index] { return rank(left[index]) < rank(right[index]) }
        return left.count < right.count
    }

    private static func quote(_ text: String, into out: inout [UInt8]) {
        out.append(UInt8(ascii: "\""))
        var text = text
        text.withUTF8 { bytes in
            // Runs without anything to escape are copied as they are.
            var start = 0
            for index in bytes.indices {
                let byte = unsafe bytes[index]
                guard byte < 0x20 || byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") else { continue }
                unsafe out.append(contentsOf: bytes[start..<index])
                start = index + 1
                switch byte {
                case UInt8(ascii: "\""): out.append(contentsOf: "\\\"".utf8)
                case UInt8(ascii: "\\"): out.append(contentsOf: "\\\\".utf8)
                case 0x08: out.append(contentsOf: "\\b".utf8)
                case 0x09: out.append(contentsOf: "\\t".utf8)
                case 0x0A: out.append(contentsOf: "\\n".utf8)
                case 0x0C: out.append(contentsOf: "\\f".utf8)
                case 0x0D: out.append(contentsOf: "\\r".utf8)
                default: out.append(contentsOf: "\\u00\(Hex.encode([byte]))".utf8)
                }
            }
            unsafe out.append(contentsOf: bytes[start...])
        }
        out.append(UInt8(ascii: "\""))
    }
}

extension JSON: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral {
    public init(stringLiteral value: String) { self = .string(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(integerLiteral value: Int) { self = .integer(Int128(value)) }
}

extension JSON: ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral {
    public init(arrayLiteral elements: JSON...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSON)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
    }
}

private struct JSONParser {
    let bytes: [UInt8]
    var position = 0
    /// Values begun so far.
    var values = 0

    init(bytes: [UInt8]) { self.bytes = bytes }

    private func failure(_ message: String) -> ParseError {
        ParseError("form", field: "json", offset: position, message)
    }

    private var next: UInt8? { position < bytes.count ? bytes[position] : nil }

    private mutating func space() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { position += 1 }
    }

    private mutating func expect(_ character: Character) throws(ParseError) {
        guard let ascii = character.asciiValue, next == ascii else { throw failure("expected '\(character)'") }
        position += 1
    }

    mutating func document() throws(ParseError) -> JSON {
        let value = try value(depth: 0)
        space()
        guard position == bytes.count else { throw failure("bytes after the document") }
        return value
    }

    private mutating func value(depth: Int) throws(ParseError) -> JSON {
        guard depth < JSON.maximumDepth else { throw failure("nested deeper than \(JSON.maximumDepth)") }
        values += 1
        guard values <= JSON.maximumValues else {
            throw ParseError("range", field: "json", offset: position, "more than \(JSON.maximumValues) values")
        }
        space()
        guard let first = next else { throw failure("ends where a value should start") }
        switch first {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try literal("true", .bool(true))
        case UInt8(ascii: "f"): return try literal("false", .bool(false))
        case UInt8(ascii: "n"): return try literal("null", .null)
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default: throw failure("not a JSON value")
        }
    }

    private mutating func literal(_ text: String, _ value: JSON) throws(ParseError) -> JSON {
        guard bytes[position...].starts(with: text.utf8) else { throw failure("expected \(text)") }
        position += text.utf8.count
        return value
    }

    private mutating func object(depth: Int) throws(ParseError) -> JSON {
        try expect("{")
        var fields: [String: JSON] = [:]
        space()
        if next == UInt8(ascii: "}") {
            position += 1
            return .object(fields)
        }
        while true {
            space()
            let start = position
            let key = try string()
            space()
            try expect(":")
            let value = try value(depth: depth + 1)
            guard fields.updateValue(value, forKey: key) == nil else {
                throw ParseError(
                    "form", field: "json", offset: start, "key \"\(PlainText.line(key, limit: 64))\" stands twice")
            }
            space()
            if next == UInt8(ascii: ",") {
                position += 1
            } else {
                try expect("}")
                return .object(fields)
            }
        }
    }

    private mutating func array(depth: Int) throws(ParseError) -> JSON {
        try expect("[")
        var values: [JSON] = []
        space()
        if next == UInt8(ascii: "]") {
            position += 1
            return .array(values)
        }
        while true {
            values.append(try value(depth: depth + 1))
            space()
            if next == UInt8(ascii: ",") {
                position += 1
            } else {
                try expect("]")
                return .array(values)
            }
        }
    }

    private mutating func string() throws(ParseError) -> String {
        try expect("\"")
        // Up to the first quote or escape, which for most strings is all of it.
        let start = position
        while let byte = next, byte >= 0x20, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\") { position += 1 }
        guard next != UInt8(ascii: "\"") else {
            guard let string = String(validating: bytes[start..<position], as: UTF8.self) else {
                throw failure("not UTF-8")
            }
            position += 1
            return string
        }
        return try string(after: bytes[start..<position])
    }

    /// The rest of a string that has an escape, or is none.
    private mutating func string(after plain: ArraySlice<UInt8>) throws(ParseError) -> String {
        var text: [UInt8] = []
        // No longer than up to the next quote, unless that one is escaped: grown by doubling, it would be twice as large.
        let end = bytes[position...].firstIndex(of: UInt8(ascii: "\"")) ?? bytes.endIndex
        text.reserveCapacity(plain.count + end - position)
        text += plain
        while let byte = next {
            position += 1
            switch byte {
            case UInt8(ascii: "\""):
                guard let string = String(validating: text, as: UTF8.self) else { throw failure("not UTF-8") }
                return string
            case UInt8(ascii: "\\"): try escape(into: &text)
            case 0..<0x20: throw failure("control character in a string")
            default: text.append(byte)
            }
        }
        throw failure("string without an end")
    }

    private mutating func escape(into text: inout [UInt8]) throws(ParseError) {
        guard let byte = next else { throw failure("string without an end") }
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(byte)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            var unit = UInt32(try codeUnit())
            if (0xD800..<0xDC00).contains(unit) {
                try expect("\\")
                try expect("u")
                let low = UInt32(try codeUnit())
                guard (0xDC00..<0xE000).contains(low) else { throw failure("half a surrogate pair") }
                unit = 0x10000 + ((unit - 0xD800) << 10) + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(unit) else { throw failure("half a surrogate pair") }
            text.append(contentsOf: String(Character(scalar)).utf8)
        default: throw failure("unknown escape")
        }
    }

    private mutating func codeUnit() throws(ParseError) -> UInt16 {
        guard bytes.count - position >= 4,
            let pair = Hex.decode(String(decoding: bytes[position..<position + 4], as: UTF8.self))
        else { throw failure("expected four hexadecimal digits") }
        position += 4
        return UInt16(pair[0]) << 8 | UInt16(pair[1])
    }

    private mutating func number() throws(ParseError) -> JSON {
        let start = position
        if next == UInt8(ascii: "-") { position += 1 }
        let first = next
        let digits = skipDigits()
        guard digits > 0, digits == 1 || first != UInt8(ascii: "0") else { throw failure("not a JSON number") }
        var isInteger = true
        if next == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            guard skipDigits() > 0 else { throw failure("not a JSON number") }
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { position += 1 }
            guard skipDigits() > 0 else { throw failure("not a JSON number") }
        }
        guard position - start <= 40 else { throw failure("number longer than 40 characters") }
        let text = String(decoding: bytes[start..<position], as: UTF8.self)
        if isInteger {
            guard let value = Int128(text), value >= Int128(Int64.min), value <= Int128(UInt64.max) else {
                throw failure("integer beyond 64 bits")
            }
            return .integer(value)
        }
        guard let value = Double(text), value.isFinite else { throw failure("number out of range") }
        return .double(value)
    }

    private mutating func skipDigits() -> Int {
        let start = position
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { position += 1 }
        return position - start
    }
}
