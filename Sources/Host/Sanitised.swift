/// Text of a guest, made safe for a terminal.
///
/// The console is written by whatever runs in the machine: it can hold escape sequences that move a cursor, set a
/// window's title or answer questions. Only printable text, tabs and line ends pass.
package struct Sanitised: Sendable {
    private enum State { case text, escape, control, string, stringEscape }
    private var state = State.text
    /// Bytes of a UTF-8 scalar that is not complete yet.
    private var scalar: [UInt8] = []

    package init() {}

    /// The safe form of the next bytes of a stream; sequences may be cut anywhere between calls.
    package mutating func text(_ bytes: some Sequence<UInt8>) -> String {
        var out = String.UnicodeScalarView()
        for byte in bytes { step(byte, into: &out) }
        return String(out)
    }

    /// One line of text, trimmed of spaces at both ends.
    package static func line(_ bytes: some Sequence<UInt8>) -> String {
        var sanitiser = Sanitised()
        let line = sanitiser.text(bytes).split(whereSeparator: \.isNewline).first ?? ""
        return String(line.drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }

    /// ECMA-48 §5: ESC, then either a control sequence (`[`), a control string (`]`, `P`, `X`, `^`, `_`) that ends with
    /// BEL or ESC `\`, or intermediates and one final byte.
    private mutating func step(_ byte: UInt8, into out: inout String.UnicodeScalarView) {
        switch state {
        case .text: plain(byte, into: &out)
        case .escape:
            switch byte {
            case UInt8(ascii: "["): state = .control
            case UInt8(ascii: "]"), UInt8(ascii: "P"), UInt8(ascii: "X"), UInt8(ascii: "^"), UInt8(ascii: "_"):
                state = .string
            case 0x20...0x2F, 0x1B: break
            case 0x0A:
                state = .text
                plain(byte, into: &out)
            default: state = .text
            }
        case .control:
            switch byte {
            case 0x40...0x7E: state = .text
            case 0x1B: state = .escape
            case 0x0A:
                state = .text
                plain(byte, into: &out)
            default: break
            }
        case .string:
            // A line end closes the string too: one stray introducer must not swallow the rest of the log.
            if byte == 0x07 || byte == 0x0A { state = .text }
            if byte == 0x0A { plain(byte, into: &out) }
            if byte == 0x1B { state = .stringEscape }
        case .stringEscape:
            state = byte == UInt8(ascii: "\\") ? .text : .escape
            if state == .escape { step(byte, into: &out) }
        }
    }

    private mutating func plain(_ byte: UInt8, into out: inout String.UnicodeScalarView) {
        if byte < 0x80 {
            scalar = []
            switch byte {
            case 0x1B: state = .escape
            case 0x09, 0x0A: out.append(Unicode.Scalar(byte))
            case 0x20..<0x7F: out.append(Unicode.Scalar(byte))
            default: break
            }
            return
        }
        if byte >= 0xC0 { scalar = [] }
        scalar.append(byte)
        if scalar.count > 4 { scalar = [] }
        guard let text = String(validating: scalar, as: UTF8.self) else { return }
        scalar = []
        for scalar in text.unicodeScalars where Self.isPrintable(scalar) { out.append(scalar) }
    }

    /// Leaves out C1 controls and everything that reorders or hides text.
    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator: false
        default: true
        }
    }
}
