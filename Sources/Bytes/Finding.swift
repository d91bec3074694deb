/// Why something was refused, in the words that every verdict, error and log line of Nacre uses.
///
/// `reason` is a stable string, `family` or `family-detail` (`../../docs/reasons.md`); everything else is for people.
public struct Finding: Error, Equatable, Sendable, CustomStringConvertible {
    /// `family` or `family-detail`, lower case; families are contract (`parse`, `signature`, `chain`, …).
    public let reason: String
    /// The claim that failed, e.g. `tpm/sha256/11` or `snp.report_data`.
    public let claim: String
    /// What had to be there.
    public let expected: String
    /// What was there.
    public let actual: String
    /// Where the expectation came from: a manifest, a policy key, a specification section.
    public let source: String
    /// What the person can do now.
    public let next: String

    public init(
        _ reason: String, claim: String, expected: String = "", actual: String = "", source: String = "",
        next: String = ""
    ) {
        self.reason = reason
        self.claim = claim
        self.expected = expected
        self.actual = actual
        self.source = source
        self.next = next
    }

    /// The part of `reason` before the first `-`.
    public var family: Substring { reason.prefix { $0 != "-" } }

    public var description: String {
        var line = "\(reason): \(claim)"
        if !expected.isEmpty { line += ": expected \(expected)" }
        if !actual.isEmpty { line += expected.isEmpty ? ": found \(actual)" : ", found \(actual)" }
        if !source.isEmpty { line += " (expected by \(source))" }
        if !next.isEmpty { line += "; \(next)" }
        return line
    }
}

/// Bytes that are not of the form a format demands: what, where, and in which field.
public struct ParseError: Error, Equatable, Sendable, CustomStringConvertible {
    /// Detail for the reason: `parse-<detail>` (`length`, `version`, `reserved`, `range`, `form`, …).
    public let detail: String
    /// Field name in the format's own words, e.g. `TPMS_ATTEST.extraData`.
    public let field: String
    /// Byte offset from the start of the outermost input.
    public let offset: Int
    /// Expected against found, in plain words.
    public let message: String

    public init(_ detail: String, field: String, offset: Int, _ message: String) {
        self.detail = detail
        // Both may quote what was parsed.
        self.field = PlainText.line(field, limit: 512)
        self.offset = offset
        self.message = PlainText.line(message, limit: 2048)
    }

    public var description: String { "parse-\(detail): \(field) at byte \(offset): \(message)" }

    /// The same as a verdict's finding, family `parse`.
    public var finding: Finding {
        Finding("parse-\(detail)", claim: field, expected: "", actual: "at byte \(offset): \(message)")
    }
}
