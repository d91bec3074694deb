import Bytes

/// The little DER (X.690) that formats need outside of libcrypto: a strict reader and a few writers.
public enum DER {
    /// One element: tag byte, contents, and the absolute offset of the tag.
    public struct Element: Sendable, Equatable {
        public let tag: UInt8
        public let content: [UInt8]
        public let offset: Int
        /// Offset of the contents.
        public let contentOffset: Int

        /// The elements inside a constructed element.
        public func children(_ field: String, limit: Int = 256) throws(ParseError) -> [Element] {
            guard tag & 0x20 != 0 else {
                throw ParseError("form", field: field, offset: offset, "tag 0x\(Hex.encode([tag])) is not constructed")
            }
            return try DER.elements(content, base: contentOffset, field, limit: limit)
        }
    }

    /// All elements in `bytes`, which they must fill.
    public static func elements(
        _ bytes: [UInt8], base: Int = 0, _ field: String, limit: Int = 256
    ) throws(ParseError) -> [Element] {
        var reader = ByteReader(bytes, base: base)
        var elements: [Element] = []
        while !reader.isAtEnd {
            guard elements.count < limit else {
                throw ParseError("form", field: field, offset: reader.offset, "more than \(limit) elements")
            }
            elements.append(try element(&reader, field))
        }
        return elements
    }

    /// Exactly one element and nothing after it.
    public static func single(_ bytes: [UInt8], base: Int = 0, _ field: String) throws(ParseError) -> Element {
        var reader = ByteReader(bytes, base: base)
        let element = try element(&reader, field)
        try reader.end(field)
        return element
    }

    /// The next element: single-byte tag, definite and minimal length.
    public static func element(_ reader: inout ByteReader, _ field: String) throws(ParseError) -> Element {
        let offset = reader.offset
        let tag = try reader.u8(field)
        guard tag & 0x1F != 0x1F else { throw ParseError("form", field: field, offset: offset, "multi-byte tag") }
        let first = try reader.u8(field)
        var length = Int(first)
        if first >= 0x80 {
            let count = Int(first & 0x7F)
            guard (1...4).contains(count) else {
                throw ParseError("form", field: field, offset: offset + 1, "length form 0x\(Hex.encode([first]))")
            }
            length = 0
            for _ in 0..<count { length = length << 8 | Int(try reader.u8(field)) }
            guard length >= 0x80, length >> (8 * (count - 1)) != 0 else {
                throw ParseError("form", field: field, offset: offset + 1, "length is not minimal")
            }
        }
        let contentOffset = reader.offset
        return Element(tag: tag, content: try reader.take(length, field), offset: offset, contentOffset: contentOffset)
    }

    /// Contents of an OBJECT IDENTIFIER as dotted text; `nil` when malformed.
    public static func objectIdentifier(_ content: [UInt8]) -> String? {
        var arcs: [UInt64] = []
        var value: UInt64 = 0
        var open = false
        for byte in content {
            guard value <= UInt64.max >> 7, open || byte != 0x80 else { return nil }
            value = value << 7 | UInt64(byte & 0x7F)
            open = byte & 0x80 != 0
            if !open {
                arcs.append(value)
                value = 0
            }
        }
        guard !open, let first = arcs.first else { return nil }
        let top = min(first / 40, 2)
        return ([top, first - top * 40] + arcs.dropFirst()).map(String.init).joined(separator: ".")
    }

    /// Contents of a non-negative INTEGER as big-endian bytes without leading zeros; `nil` if negative or not minimal.
    public static func unsignedInteger(_ content: [UInt8]) -> [UInt8]? {
        guard let first = content.first, first < 0x80 else { return nil }
        if content.count > 1, first == 0 {
            guard content[1] >= 0x80 else { return nil }
            return Array(content.dropFirst())
        }
        return content
    }

    public static func element(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        if content.count < 0x80 { return [tag, UInt8(content.count)] + content }
        var length: [UInt8] = []
        var rest = content.count
        while rest > 0 {
            length.insert(UInt8(rest & 0xFF), at: 0)
            rest >>= 8
        }
        return [tag, 0x80 | UInt8(length.count)] + length + content
    }

    public static func sequence(_ parts: [[UInt8]]) -> [UInt8] { element(0x30, Array(parts.joined())) }

    /// INTEGER from big-endian magnitude.
    public static func unsigned(_ magnitude: [UInt8]) -> [UInt8] {
        let trimmed = Array(magnitude.drop { $0 == 0 })
        return element(0x02, (trimmed.first ?? 0x80) >= 0x80 ? [0] + trimmed : trimmed)
    }

    /// ECDSA-Sig-Value from r ‖ s of equal length.
    public static func ecdsaSignature(raw: [UInt8]) throws(CryptoError) -> [UInt8] {
        guard raw.count.isMultiple(of: 2), !raw.isEmpty, raw.count <= 132 else {
            throw CryptoError(.signature, "ECDSA signature of \(raw.count) bytes")
        }
        return sequence([unsigned(Array(raw.prefix(raw.count / 2))), unsigned(Array(raw.suffix(raw.count / 2)))])
    }
}

/// RFC 7468 text encoding.
public enum PEM {
    public struct Block: Sendable, Equatable {
        public let label: String
        public let der: [UInt8]
    }

    /// The blocks in `text`, in order; text between them is ignored, a block that is not base64 ends the reading.
    public static func blocks(_ text: [UInt8], limit: Int = 64) -> [Block] {
        var blocks: [Block] = []
        var label: ArraySlice<UInt8>?
        var body: [UInt8] = []
        for line in text.split(whereSeparator: { $0 == 0x0A || $0 == 0x0D || $0 == 0 }) {
            let line = trimmed(line)
            if line.count >= 16, line.starts(with: begin), line.suffix(5).elementsEqual(dashes) {
                label = line.dropFirst(begin.count).dropLast(dashes.count)
                body.removeAll(keepingCapacity: true)
            } else if let current = label, line.starts(with: end),
                line.dropFirst(end.count).elementsEqual(current + dashes)
            {
                guard blocks.count < limit, let der = Base64.decode(body) else { return blocks }
                blocks.append(Block(label: String(decoding: current, as: UTF8.self), der: der))
                label = nil
            } else if label != nil {
                body += line
            }
        }
        return blocks
    }

    private static let begin = Array("-----BEGIN ".utf8)
    private static let end = Array("-----END ".utf8)
    private static let dashes = Array("-----".utf8)

    /// Without spaces and tabs at both ends.
    private static func trimmed(_ line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        var line = line.drop { $0 == 0x20 || $0 == 0x09 }
        while line.last == 0x20 || line.last == 0x09 { line.removeLast() }
        return line
    }

    public static func encode(_ label: String, _ der: [UInt8]) -> String {
        let text = Array(Base64.encode(der).utf8)
        var lines = "-----BEGIN \(label)-----\n"
        for start in stride(from: 0, to: text.count, by: 64) {
            lines += String(decoding: text[start..<min(start + 64, text.count)], as: UTF8.self) + "\n"
        }
        return lines + "-----END \(label)-----\n"
    }
}
