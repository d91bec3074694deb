import Bytes
import TestKit
import Testing

/// RFC 8259, strictly, and RFC 8785.
@Suite struct JSONTests {
    @Test(arguments: [
        "", " ", "{", "}", "[1,]", "{\"a\":1,}", "{\"a\" 1}", "{a:1}", "[1 2]", "01", "-", "1.", ".5", "+1", "1e",
        "1e999", "NaN", "Infinity", "tru", "nul", "'a'", "\"a", "\"\u{01}\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"",
        "\"\\udc00\"", "\"\\ud800\\u0041\"", "[1] 2", "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "/**/1",
        "18446744073709551616", "-9223372036854775809", "\u{FEFF}1",
        String(repeating: "1", count: 41), "0." + String(repeating: "1", count: 41),
    ])
    func `what is not strictly JSON is refused`(text: String) {
        #expect(throws: ParseError.self) { try JSON(parsing: text) }
    }

    @Test func `bytes that are not UTF-8 are refused`() {
        for bytes: [UInt8] in [[0x22, 0xFF, 0x22], [0x22, 0xC0, 0x80, 0x22], [0x22, 0xED, 0xA0, 0x80, 0x22]] {
            #expect(throws: ParseError.self) { try JSON(parsing: bytes) }
        }
    }

    @Test func `depth and size are bounded`() throws {
        let deep = String(repeating: "[", count: JSON.maximumDepth) + String(repeating: "]", count: JSON.maximumDepth)
        _ = try JSON(parsing: deep)
        #expect(throws: ParseError.self) { try JSON(parsing: "[" + deep + "]") }
        #expect(throws: ParseError.self) { try JSON(parsing: String(repeating: "[", count: 100_000)) }
        #expect(throws: ParseError.self) { try JSON(parsing: "[1,2]", limit: 4) }
    }

    @Test func `values are counted, nested ones too`() throws {
        func list(_ count: Int) -> String { "[" + String(repeating: "[],", count: count - 1) + "[]]" }
        _ = try JSON(parsing: list(JSON.maximumValues - 1))
        let error = #expect(throws: ParseError.self) { try JSON(parsing: list(JSON.maximumValues)) }
        #expect(error?.detail == "range")
    }

    @Test func `numbers keep their value`() throws {
        #expect(try JSON(parsing: "18446744073709551615").unsigned == .max)
        #expect(try JSON(parsing: "-9223372036854775808") == .integer(Int128(Int64.min)))
        #expect(try JSON(parsing: "18446744073709551615").integer == nil)
        #expect(try JSON(parsing: "1.5e2") == .double(150))
        #expect(try JSON(parsing: "-0") == .integer(0))
    }

    /// RFC 8785 §3.2.3: keys sort by UTF-16 code units, so that a surrogate pair comes before U+FB33.
    @Test func `canonical form sorts keys as RFC 8785's example does`() throws {
        let text = #"""
            {"€":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh",
             "1":"One","😀":"Emoji: Grinning Face","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis"}
            """#
        let canonical = try #require(try JSON(parsing: text).canonical)
        let expected =
            "{\"\\r\":\"Carriage Return\",\"1\":\"One\",\"\u{80}\":\"Control\","
            + "\"ö\":\"Latin Small Letter O With Diaeresis\",\"€\":\"Euro Sign\",\"😀\":\"Emoji: Grinning Face\","
            + "\"\u{FB33}\":\"Hebrew Letter Dalet With Dagesh\"}"
        #expect(String(decoding: canonical, as: UTF8.self) == expected)
    }

    /// RFC 8785 §3.2.2.2.
    @Test func `canonical strings escape what must be escaped and nothing else`() throws {
        let text = #"{"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#
        let canonical = try #require(try JSON(parsing: text).canonical)
        #expect(
            String(decoding: canonical, as: UTF8.self)
                == #"{"literals":[null,true,false],"string":"€$\u000f\nA'B\"\\\\\"/"}"#)
    }

    @Test func `numbers whose canonical form is disputed have none`() throws {
        #expect(try JSON(parsing: "1.5").canonical == nil)
        #expect(try JSON(parsing: "[9007199254740993]").canonical == nil)
        #expect(try JSON(parsing: "[9007199254740992]").canonical == Array("[9007199254740992]".utf8))
    }

    @Test func `agrees with an independent implementation on canonical form`() throws {
        guard let python = Tool.find("python3") else { return }
        let text = #"{"b":[1,{"z":"ü","a":"\t\u001f/"}],"a":{"10":1,"9":2},"":null}"#
        let script =
            "import json,sys;sys.stdout.write(json.dumps(json.load(sys.stdin),sort_keys=True,"
            + "separators=(',',':'),ensure_ascii=False))"
        let theirs = try Tool.run([python, "-c", script], input: Array(text.utf8))
        #expect(try JSON(parsing: text).canonical == theirs.output)
    }

    @Test func `what is written can be read, in every form`() throws {
        let value: JSON = [
            "text": "a\"\\\u{1}\u{7f}é😀", "list": [1, -2, .null, true], "empty": .object([:]), "none": [],
            "big": .integer(Int128(UInt64.max)),
        ]
        #expect(try JSON(parsing: value.compact) == value)
        #expect(try JSON(parsing: value.pretty) == value)
        #expect(value.pretty.hasSuffix("}\n"))
    }

    @Test func `no damage makes the parser trap`() throws {
        let whole = Array(#"{"a":[1,2.5e3,"x\u00e9\ud83d\ude00"],"b":{"c":null,"d":[true,false]}}"#.utf8)
        for count in 0..<whole.count {
            #expect(throws: ParseError.self) { try JSON(parsing: Array(whole.prefix(count))) }
        }
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<5000 {
            if let value = try? JSON(parsing: mutate(whole, with: &generator)) {
                #expect(try JSON(parsing: value.compact) == value)
            }
        }
    }

    @Test func `an object's fields are read strictly, by path`() throws {
        func message(_ body: () throws -> Void) -> String {
            do {
                try body()
                return "accepted"
            } catch { return "\(error)" }
        }
        let json: JSON = ["name": "x", "count": 3, "raw": "00ff", "b64": "AAE=", "extra": 1]
        var fields = try JSONFields(json, path: "doc")
        #expect(try fields.string("name") == "x")
        #expect(try fields.integer("count") == 3)
        #expect(try fields.hex("raw", count: 2) == [0, 0xFF])
        #expect(try fields.base64("b64") == [0, 1])
        #expect(message { try fields.end() }.contains("doc.extra"))
        #expect(message { _ = try fields.string("count") }.contains("doc.count"))
        #expect(message { _ = try fields.hex("raw", count: 3) }.contains("must be 3 bytes"))
        #expect(message { _ = try fields.required("gone") }.contains("missing"))
        #expect(throws: ParseError.self) { try JSONFields([], path: "doc") }
    }
}
