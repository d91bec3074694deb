/// Lower-case hexadecimal, strict: an even number of digits, nothing else.
public enum Hex {
    public static func encode(_ bytes: some Sequence<UInt8>) -> String { encode(Array(bytes)) }

    /// The same for arrays, which need no dispatch per byte.
    public static func encode(_ bytes: [UInt8]) -> String {
        unsafe String(unsafeUninitializedCapacity: 2 * bytes.count) { text in
            var next = 0
            for byte in bytes {
                unsafe text[next] = digit(byte >> 4)
                unsafe text[next + 1] = digit(byte & 15)
                next += 2
            }
            return next
        }
    }

    /// Appends the digits of `bytes` to a text in bytes.
    public static func append(_ bytes: [UInt8], to text: inout [UInt8]) {
        text.reserveCapacity(text.count + 2 * bytes.count)
        for byte in bytes {
            text.append(digit(byte >> 4))
            text.append(digit(byte & 15))
        }
    }

    private static func digit(_ value: UInt8) -> UInt8 {
        value < 10 ? UInt8(ascii: "0") + value : UInt8(ascii: "a") - 10 + value
    }

    /// `nil` for an odd count or any other character; upper-case digits are read too.
    public static func decode(_ text: some StringProtocol) -> [UInt8]? {
        if let decoded = text.utf8.withContiguousStorageIfAvailable({ unsafe decode($0) }) { return decoded }
        return unsafe Array(text.utf8).withUnsafeBufferPointer { unsafe decode($0) }
    }

    private static func decode(_ characters: UnsafeBufferPointer<UInt8>) -> [UInt8]? {
        decode(unsafe Span(_unsafeElements: characters))
    }

    /// From ASCII text in bytes.
    public static func decode(_ characters: Span<UInt8>) -> [UInt8]? {
        guard characters.count.isMultiple(of: 2) else { return nil }
        var isText = true
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: characters.count / 2) { bytes, count in
            // 255 for what is no digit; no value but that one has the upper bits.
            var upper: UInt8 = 0
            for index in 0..<characters.count / 2 {
                let (high, low) = (nibble(characters[2 * index]), nibble(characters[2 * index + 1]))
                upper |= high | low
                unsafe bytes[index] = high << 4 | low & 15
            }
            isText = upper < 16
            count = characters.count / 2
        }
        return isText ? bytes : nil
    }

    private static func nibble(_ character: UInt8) -> UInt8 {
        switch character {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): character - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): character - UInt8(ascii: "a") + 10
        case UInt8(ascii: "A")...UInt8(ascii: "F"): character - UInt8(ascii: "A") + 10
        default: 255
        }
    }
}

/// RFC 4648 §4 base64 with padding, and §5 base64url without, both strict (canonical trailing bits).
public enum Base64 {
    private static let standard = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let url = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    public static func encode(_ bytes: [UInt8]) -> String { encode(bytes, alphabet: standard, padded: true) }
    public static func encodeURL(_ bytes: [UInt8]) -> String { encode(bytes, alphabet: url, padded: false) }

    /// Appends the standard form of `bytes` to a text in bytes.
    public static func append(_ bytes: [UInt8], to text: inout [UInt8]) {
        text += unsafe [UInt8](unsafeUninitializedCapacity: (bytes.count + 2) / 3 * 4) { text, count in
            count = unsafe encode(bytes, alphabet: standard, padded: true, into: text)
        }
    }

    private static func encode(_ bytes: [UInt8], alphabet: [UInt8], padded: Bool) -> String {
        unsafe String(unsafeUninitializedCapacity: (bytes.count + 2) / 3 * 4) { text in
            unsafe encode(bytes, alphabet: alphabet, padded: padded, into: text)
        }
    }

    /// - Returns: the number of characters.
    private static func encode(
        _ bytes: [UInt8], alphabet: [UInt8], padded: Bool, into text: UnsafeMutableBufferPointer<UInt8>
    ) -> Int {
        unsafe alphabet.withUnsafeBufferPointer { alphabet in
            var next = 0
            let whole = bytes.count - bytes.count % 3
            for index in stride(from: 0, to: whole, by: 3) {
                let (a, b, c) = (bytes[index], bytes[index + 1], bytes[index + 2])
                unsafe text[next] = alphabet[Int(a >> 2)]
                unsafe text[next + 1] = alphabet[Int(a << 4 & 0x30 | b >> 4)]
                unsafe text[next + 2] = alphabet[Int(b << 2 & 0x3C | c >> 6)]
                unsafe text[next + 3] = alphabet[Int(c & 0x3F)]
                next += 4
            }
            guard whole < bytes.count else { return next }
            let (a, b) = (bytes[whole], whole + 1 < bytes.count ? bytes[whole + 1] : nil)
            unsafe text[next] = alphabet[Int(a >> 2)]
            unsafe text[next + 1] = alphabet[Int(a << 4 & 0x30 | (b ?? 0) >> 4)]
            next += 2
            if let b {
                unsafe text[next] = alphabet[Int(b << 2 & 0x3C)]
                next += 1
            }
            guard padded else { return next }
            for _ in 0..<(b == nil ? 2 : 1) {
                unsafe text[next] = UInt8(ascii: "=")
                next += 1
            }
            return next
        }
    }

    public static func decode(_ text: some StringProtocol) -> [UInt8]? { decode(Array(text.utf8)) }

    /// From ASCII text in bytes.
    public static func decode(_ text: [UInt8]) -> [UInt8]? { decode(text.span) }

    /// From ASCII text in bytes.
    public static func decode(_ text: Span<UInt8>) -> [UInt8]? { decode(text, values: standardValues, padded: true) }

    public static func decodeURL(_ text: some StringProtocol) -> [UInt8]? {
        let text = Array(text.utf8)
        return decode(text.span, values: urlValues, padded: false)
    }

    /// Digit → value, 255 for what is none.
    private static let standardValues = values(standard)
    private static let urlValues = values(url)

    private static func values(_ alphabet: [UInt8]) -> [UInt8] {
        var values = [UInt8](repeating: 255, count: 256)
        for (value, character) in alphabet.enumerated() { values[Int(character)] = UInt8(value) }
        return values
    }

    private static func decode(_ text: Span<UInt8>, values: [UInt8], padded: Bool) -> [UInt8]? {
        var count = text.count
        if padded {
            guard count.isMultiple(of: 4) else { return nil }
            while count > 0, text[count - 1] == UInt8(ascii: "="), text.count - count < 2 { count -= 1 }
        }
        guard count % 4 != 1 else { return nil }
        var isText = true
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count * 3 / 4) { bytes, size in
            unsafe values.withUnsafeBufferPointer { values in
                isText = unsafe decode(text, count, values, into: bytes)
            }
            size = count * 3 / 4
        }
        return isText ? bytes : nil
    }

    /// - Parameters:
    ///   - count: digits, padding left out; not one more than a multiple of four.
    ///   - bytes: room for three quarters of `count`.
    /// - Returns: whether all of them are digits and the bits beyond the last byte are zero.
    private static func decode(
        _ text: Span<UInt8>, _ count: Int, _ values: UnsafeBufferPointer<UInt8>,
        into bytes: UnsafeMutableBufferPointer<UInt8>
    ) -> Bool {
        func value(_ index: Int) -> UInt8 { unsafe values[Int(text[index])] }
        // Groups of four digits, three bytes each; no value but 255 has the upper bits.
        let whole = count - count % 4
        var (from, to) = (0, 0)
        var upper: UInt8 = 0
        while from < whole {
            let (a, b, c, d) = (value(from), value(from + 1), value(from + 2), value(from + 3))
            upper |= a | b | c | d
            unsafe bytes[to] = a << 2 | b >> 4
            unsafe bytes[to + 1] = b << 4 | c >> 2
            unsafe bytes[to + 2] = c << 6 | d
            from += 4
            to += 3
        }
        guard upper & 0xC0 == 0 else { return false }
        guard whole < count else { return true }
        let (a, b) = (value(whole), value(whole + 1))
        let c = whole + 2 < count ? value(whole + 2) : 0
        unsafe bytes[to] = a << 2 | b >> 4
        guard whole + 2 < count else { return (a | b) & 0xC0 == 0 && b & 0x0F == 0 }
        unsafe bytes[to + 1] = b << 4 | c >> 2
        return (a | b | c) & 0xC0 == 0 && c & 0x03 == 0
    }
}

/// Compares in time that depends on the lengths only.
public func constantTimeEqual(_ left: some Collection<UInt8>, _ right: some Collection<UInt8>) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for (a, b) in zip(left, right) { difference |= a ^ b }
    return difference == 0
}

/// The same without generic iterators, which cost more than what is compared.
public func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    guard left.count == right.count else { return false }
    var difference: UInt8 = 0
    for index in left.indices { difference |= left[index] ^ right[index] }
    return difference == 0
}
