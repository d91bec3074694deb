import Glibc

/// A cursor over text whose form is known: takes what is expected, or says that it is something else and stays where it is.
public struct TextScanner: Sendable {
    private let bytes: [UInt8]
    public private(set) var position = 0

    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    public var isAtEnd: Bool { position == bytes.count }

    /// Moves past `text` if it comes next.
    public mutating func skip(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard count <= bytes.count - position else { return false }
        let isNext = unsafe bytes.withUnsafeBufferPointer { bytes in
            guard let base = bytes.baseAddress else { return count == 0 }
            return unsafe memcmp(base + position, text.utf8Start, count) == 0
        }
        if isNext { position += count }
        return isNext
    }

    /// The same for text that is not known before the program runs.
    public mutating func skip(_ text: String) -> Bool {
        guard bytes[position...].starts(with: text.utf8) else { return false }
        position += text.utf8.count
        return true
    }

    /// Where the bytes up to the next quotation mark are; the mark is skipped.
    private mutating func quoted() -> Range<Int>? {
        let start = position
        let end = unsafe bytes.withUnsafeBufferPointer { bytes -> Int? in
            guard let base = bytes.baseAddress,
                let found = unsafe memchr(base + start, Int32(UInt8(ascii: "\"")), bytes.count - start)
            else { return nil }
            return unsafe UnsafeRawPointer(found) - UnsafeRawPointer(base)
        }
        guard let end else { return nil }
        position = end + 1
        return start..<end
    }

    /// Hexadecimal digits up to the next quotation mark, `count` bytes (any number where `nil`).
    public mutating func hex(_ count: Int? = nil) -> [UInt8]? {
        let start = position
        guard let text = quoted(), count.map({ text.count == 2 * $0 }) ?? true,
            let value = Hex.decode(bytes.span.extracting(text))
        else {
            position = start
            return nil
        }
        return value
    }

    /// Base64 up to the next quotation mark.
    public mutating func base64() -> [UInt8]? {
        let start = position
        guard let text = quoted(), let value = Base64.decode(bytes.span.extracting(text)) else {
            position = start
            return nil
        }
        return value
    }

    /// Printable ASCII without a backslash up to the next quotation mark.
    public mutating func plain() -> String? {
        let start = position
        guard let text = quoted(),
            bytes[text].allSatisfy({ (0x20...0x7E).contains($0) && $0 != UInt8(ascii: "\\") })
        else {
            position = start
            return nil
        }
        return String(decoding: bytes[text], as: UTF8.self)
    }

    /// 0, or 1 to 15 digits of which the first is another one.
    public mutating func number() -> Int? {
        var (value, end) = (0, position)
        while end < bytes.count, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[end]) {
            guard end - position < 15 else { return nil }
            value = value * 10 + Int(bytes[end] - UInt8(ascii: "0"))
            end += 1
        }
        guard end > position, end - position == 1 || bytes[position] != UInt8(ascii: "0") else { return nil }
        position = end
        return value
    }
}
