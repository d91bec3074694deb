import Bytes

/// The part of YAML 1.2 that `nacre.yaml` is written in, read strictly: comments, `key: value`, and one level of keys
/// below a key, indented by two spaces. Values are plain words or quoted in double quotes without escapes. Lists, flow
/// collections, anchors, tags, several documents and keys that stand twice are refused: nobody has to know how they are
/// meant.
struct PlainYAML {
    struct Entry: Equatable {
        let key: String
        let value: String
        let line: Int
    }

    /// Keys below another are named `outer.inner`; a key with others below it stands itself with an empty value.
    let entries: [Entry]

    static let maximumSize = 1 << 16

    init(parsing bytes: [UInt8], file: String) throws(Finding) {
        func refuse(_ line: Int, _ expected: String, _ actual: String) -> Finding {
            Finding("parse-form", claim: "\(file) line \(line)", expected: expected, actual: actual)
        }
        guard bytes.count <= Self.maximumSize, let text = String(validating: bytes, as: UTF8.self) else {
            throw Finding("parse-form", claim: file, expected: "UTF-8 text of at most 64 KiB", actual: "something else")
        }
        var entries: [Entry] = []
        var outer: String?
        var seen: Set<String> = []
        for (index, raw) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let number = index + 1
            let line = Self.withoutComment(raw.hasSuffix("\r") ? raw.dropLast() : raw)
            if line.allSatisfy({ $0 == " " }) { continue }
            guard line.unicodeScalars.allSatisfy({ $0.value >= 0x20 && $0.value != 0x7F }) else {
                throw refuse(number, "no control characters; indentation is two spaces", "one, perhaps a tab")
            }
            let indent = line.prefix { $0 == " " }.count
            guard indent == 0 || indent == 2 && outer != nil else {
                throw refuse(
                    number, outer == nil ? "no indentation" : "no indentation, or two spaces", "\(indent) spaces")
            }
            let body = line.dropFirst(indent)
            guard let colon = body.firstIndex(of: ":") else { throw refuse(number, "key: value", String(body)) }
            let key = String(body[..<colon])
            guard !key.isEmpty, key.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber) }) else {
                throw refuse(number, "a key of letters and digits", key)
            }
            let rest = body[body.index(after: colon)...]
            guard rest.isEmpty || rest.hasPrefix(" ") else {
                throw refuse(number, "a space after the colon", String(body))
            }
            let name = indent == 0 ? key : "\(outer ?? "").\(key)"
            let value = try Self.value(rest, { (expected, actual) in refuse(number, expected, actual) })
            guard seen.insert(name).inserted else { throw refuse(number, "each key once", "\(name) stands twice") }
            if indent == 0 { outer = value.isEmpty ? key : nil }
            guard indent == 0 || !value.isEmpty else { throw refuse(number, "a value for \(name)", "none") }
            entries.append(Entry(key: name, value: value, line: number))
        }
        self.entries = entries
    }

    /// A `#` at the start or after a space, outside of quotes, begins a comment.
    private static func withoutComment(_ line: Substring) -> Substring {
        var isQuoted = false
        var previous: Character = " "
        for index in line.indices {
            let character = line[index]
            if character == "\"" { isQuoted.toggle() }
            if character == "#", !isQuoted, previous == " " { return line[..<index] }
            previous = character
        }
        return line
    }

    private static func value(
        _ text: Substring, _ refuse: (String, String) -> Finding
    ) throws(Finding) -> String {
        var text = text.drop { $0 == " " }
        while text.last == " " { text.removeLast() }
        if text.hasPrefix("\"") {
            let inner = text.dropFirst().dropLast()
            guard text.count >= 2, text.hasSuffix("\""), !inner.contains("\""), !inner.contains("\\"), !inner.isEmpty
            else {
                throw refuse("one value in double quotes, without escapes", String(text))
            }
            return String(inner)
        }
        if let first = text.first, "-[]{}&*!|>%@`',?:".contains(first) {
            throw refuse("a plain word, or a value in double quotes", String(text))
        }
        guard !text.contains(": "), !text.hasSuffix(":") else { throw refuse("one key and one value", String(text)) }
        return String(text)
    }
}
