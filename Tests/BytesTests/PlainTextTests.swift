import Bytes
import Testing

/// What strangers send is quoted in logs and errors: short, and without control characters.
@Suite struct PlainTextTests {
    @Test func controlCharactersGoAndTheRestStays() {
        #expect(PlainText.line("grün 漢字 \u{1F512}") == "grün 漢字 \u{1F512}")
        #expect(PlainText.line("a\n\u{1B}[31mb\u{7F}\u{9B}") == "a\u{FFFD}\u{FFFD}[31mb\u{FFFD}\u{FFFD}")
        #expect(PlainText.line("") == "")
    }

    @Test func theLimitCountsBytesWhateverACharacterIsMadeOf() {
        let comb = "a" + String(repeating: "\u{301}", count: 700_000)
        #expect(comb.count == 1)
        #expect(PlainText.line(comb, limit: 100).utf8.count <= 103)
        #expect(PlainText.line(String(repeating: "x", count: 100), limit: 100).utf8.count == 100)
        #expect(PlainText.line(String(repeating: "x", count: 101), limit: 100).hasSuffix("x…"))
    }

    @Test func errorsQuoteLittleOfWhatWasParsed() throws {
        let key = "\\n\\u001b[31mforged" + String(repeating: "\u{301}", count: 100_000)
        for text in [#"{"\#(key)":1}"#, #"{"\#(key)":1,"\#(key)":2}"#] {
            let error = try #require(throws: ParseError.self) {
                let fields = try JSONFields(try JSON(parsing: Array(text.utf8), limit: 1 << 20), path: "evidence")
                try fields.end()
            }
            #expect(error.description.utf8.count < 400)
            #expect(!error.description.unicodeScalars.contains { $0.value < 0x20 })
        }
    }
}
