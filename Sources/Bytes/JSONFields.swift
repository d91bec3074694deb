/// Reads one JSON object field by field and refuses what it was not asked about.
///
/// Every `nacre.*.v1` document is read through this: a missing field, a field of another type and a field that the
/// schema does not name are all errors that name the path.
public struct JSONFields {
    private let fields: [String: JSON]
    private let path: String
    private var seen: Set<String> = []

    public init(_ value: JSON?, path: String) throws(ParseError) {
        guard let fields = value?.object else {
            throw ParseError("form", field: path, offset: 0, value == nil ? "missing" : "must be an object")
        }
        self.fields = fields
        self.path = path
    }

    private func error(_ key: String, _ message: String) -> ParseError {
        ParseError("form", field: "\(path).\(PlainText.line(key, limit: 64))", offset: 0, message)
    }

    /// The value of `key` if present; it counts as known from now on.
    public mutating func optional(_ key: String) -> JSON? {
        seen.insert(key)
        return fields[key]
    }

    public mutating func required(_ key: String) throws(ParseError) -> JSON {
        guard let value = optional(key) else { throw error(key, "missing") }
        return value
    }

    public mutating func string(_ key: String) throws(ParseError) -> String {
        guard let value = try required(key).string else { throw error(key, "must be a string") }
        return value
    }

    public mutating func optionalString(_ key: String) throws(ParseError) -> String? {
        guard let value = optional(key) else { return nil }
        guard let string = value.string else { throw error(key, "must be a string") }
        return string
    }

    public mutating func integer(_ key: String) throws(ParseError) -> Int {
        guard let value = try required(key).integer else { throw error(key, "must be an integer") }
        return value
    }

    public mutating func optionalInteger(_ key: String) throws(ParseError) -> Int? {
        guard let value = optional(key) else { return nil }
        guard let integer = value.integer else { throw error(key, "must be an integer") }
        return integer
    }

    public mutating func bool(_ key: String, default fallback: Bool) throws(ParseError) -> Bool {
        guard let value = optional(key) else { return fallback }
        guard let bool = value.bool else { throw error(key, "must be true or false") }
        return bool
    }

    public mutating func array(_ key: String) throws(ParseError) -> [JSON] {
        guard let value = try required(key).array else { throw error(key, "must be an array") }
        return value
    }

    /// Hexadecimal text of `count` bytes (any number where `nil`).
    public mutating func hex(_ key: String, count: Int? = nil) throws(ParseError) -> [UInt8] {
        try Self.hex(try required(key), path: "\(path).\(key)", count: count)
    }

    public mutating func optionalHex(_ key: String, count: Int? = nil) throws(ParseError) -> [UInt8]? {
        guard let value = optional(key) else { return nil }
        return try Self.hex(value, path: "\(path).\(key)", count: count)
    }

    public static func hex(_ value: JSON, path: String, count: Int? = nil) throws(ParseError) -> [UInt8] {
        guard let text = value.string, let bytes = Hex.decode(text) else {
            throw ParseError("form", field: path, offset: 0, "must be hexadecimal text")
        }
        if let count, bytes.count != count {
            throw ParseError("form", field: path, offset: 0, "must be \(count) bytes, is \(bytes.count)")
        }
        return bytes
    }

    public mutating func base64(_ key: String) throws(ParseError) -> [UInt8] {
        guard let bytes = Base64.decode(try string(key)) else { throw error(key, "must be base64 text") }
        return bytes
    }

    public mutating func optionalBase64(_ key: String) throws(ParseError) -> [UInt8]? {
        fields[key] == nil ? nil : try base64(key)
    }

    /// Refuses fields that no call above has asked for.
    public func end() throws(ParseError) {
        if let unknown = fields.keys.filter({ !seen.contains($0) }).min() { throw error(unknown, "unknown field") }
    }
}

extension JSONFields {
    /// A list of at most `maximum` values, none of them twice.
    public static func distinct<Value: Hashable & CustomStringConvertible>(
        _ values: [JSON], atMost maximum: Int, path: String,
        _ parse: (_ value: JSON, _ path: String) throws(ParseError) -> Value
    ) throws(ParseError) -> [Value] {
        guard values.count <= maximum else {
            throw ParseError("range", field: path, offset: 0, "\(values.count) entries, at most \(maximum)")
        }
        var list: [Value] = []
        for value in values {
            let next = try parse(value, "\(path)[]")
            guard !list.contains(next) else {
                throw ParseError("form", field: path, offset: 0, "\(next) stands twice")
            }
            list.append(next)
        }
        return list
    }
}
