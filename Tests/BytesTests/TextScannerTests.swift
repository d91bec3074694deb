import Bytes
import Testing

/// Takes what is expected, or stays where it is.
@Suite struct TextScannerTests {
    @Test func `what is expected is taken`() {
        var text = TextScanner(Array("{\"a\":\"00ff\",\"b\":\"AAEC\",\"n\":120,\"s\":\"plain text\"}".utf8))
        let isFirst = text.skip("{\"a\":\"")
        let hex = text.hex(2)
        let isSecond = text.skip(",\"b\":\"")
        let base64 = text.base64()
        let isThird = text.skip(",\"n\":" as String)
        let number = text.number()
        let isFourth = text.skip(",\"s\":\"")
        let plain = text.plain()
        #expect(isFirst && isSecond && isThird && isFourth)
        #expect(hex == [0, 255])
        #expect(base64 == [0, 1, 2])
        #expect(number == 120)
        #expect(plain == "plain text")
        #expect(!text.isAtEnd)
        let (isLast, isMore) = (text.skip("}"), text.skip("}"))
        #expect(isLast && !isMore)
        #expect(text.isAtEnd)
    }

    @Test func `anything else leaves it where it is`() {
        for (input, take) in [
            ("0g\"", { $0.hex() != nil }), ("000\"", { $0.hex() != nil }), ("00\"", { $0.hex(2) != nil }),
            ("00", { $0.hex() != nil }), ("AAE\"", { $0.base64() != nil }), ("AAF=\"", { $0.base64() != nil }),
            ("a\\n\"", { $0.plain() != nil }), ("a\u{7F}\"", { $0.plain() != nil }), ("ä\"", { $0.plain() != nil }),
            ("a", { $0.plain() != nil }), ("01", { $0.number() != nil }), ("-1", { $0.number() != nil }),
            ("", { $0.number() != nil }), ("1000000000000000", { $0.number() != nil }), ("ab", { $0.skip("abc") }),
        ] as [(String, (inout TextScanner) -> Bool)] {
            var text = TextScanner(Array(input.utf8))
            let isTaken = take(&text)
            #expect(!isTaken, "\(input)")
            #expect(text.position == 0)
        }
    }

    @Test func `bytes are written as the encoders write them`() {
        for count in 0..<70 {
            let bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 * 37 + count) }
            var text: [UInt8] = [1]
            Hex.append(bytes, to: &text)
            #expect(text == [1] + Array(Hex.encode(bytes).utf8))
            text = [2]
            Base64.append(bytes, to: &text)
            #expect(text == [2] + Array(Base64.encode(bytes).utf8))
            #expect(Base64.decode(Array(text.dropFirst())) == bytes)
        }
    }
}
