/// Text from outside, made fit for logs, terminals and error messages.
public enum PlainText {
    /// `text` without control characters, at most `limit` bytes of UTF-8.
    ///
    /// Counted in bytes because one character may be made of any number of them.
    public static func line(_ text: String, limit: Int = 1000) -> String {
        // Nearly all there is, and not to be taken apart.
        if text.utf8.count <= limit, text.utf8.allSatisfy({ (0x20..<0x7F).contains($0) }) { return text }
        var (result, size) = (String.UnicodeScalarView(), 0)
        for scalar in text.unicodeScalars {
            let plain: Unicode.Scalar =
                scalar.value < 0x20 || (0x7F...0x9F).contains(scalar.value) ? "\u{FFFD}" : scalar
            size += UTF8.width(plain)
            if size > limit {
                result.append("…")
                break
            }
            result.append(plain)
        }
        return String(result)
    }
}
