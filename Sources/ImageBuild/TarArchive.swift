import Bytes

/// A tar archive (POSIX.1-2017, ustar) that depends on its entries alone: root's, at time 0, sorted by name.
struct TarArchive {
    enum Entry {
        case directory(mode: Int)
        case file(mode: Int, [UInt8])
        case link(to: String)
    }

    private var entries: [String: Entry] = [:]

    /// - Parameter name: relative, at most 100 bytes; directories without a slash at the end.
    subscript(name: String) -> Entry? {
        get { entries[name] }
        set { entries[name] = newValue }
    }

    /// - Throws: `image-tar` for names longer than the format's field.
    func bytes() throws(Finding) -> [UInt8] {
        var out: [UInt8] = []
        for (name, entry) in entries.sorted(by: { $0.key < $1.key }) {
            switch entry {
            case .directory(let mode): out += try Self.header("\(name)/", mode: mode, size: 0, type: "5", link: "")
            case .link(let target): out += try Self.header(name, mode: 0o777, size: 0, type: "2", link: target)
            case .file(let mode, let bytes):
                out += try Self.header(name, mode: mode, size: bytes.count, type: "0", link: "")
                out += bytes
                out += [UInt8](repeating: 0, count: (512 - bytes.count % 512) % 512)
            }
        }
        return out + [UInt8](repeating: 0, count: 1024)
    }

    private static func header(
        _ name: String, mode: Int, size: Int, type: Character, link: String
    ) throws(Finding) -> [UInt8] {
        guard name.utf8.count <= 100, link.utf8.count <= 100, size < 1 << 33 else {
            throw Finding("image-tar", claim: name, expected: "names of at most 100 bytes", actual: "a longer one")
        }
        func text(_ value: String, _ width: Int) -> [UInt8] {
            Array(value.utf8) + [UInt8](repeating: 0, count: width - value.utf8.count)
        }
        func octal(_ value: Int, _ width: Int) -> [UInt8] {
            let digits = String(value, radix: 8)
            return text(String(repeating: "0", count: width - 1 - digits.count) + digits, width)
        }
        let before = text(name, 100) + octal(mode, 8) + octal(0, 8) + octal(0, 8) + octal(size, 12) + octal(0, 12)
        let after =
            [type.asciiValue ?? 0] + text(link, 100) + text("ustar", 6) + Array("00".utf8) + text("", 32)
            + text("", 32) + octal(0, 8) + octal(0, 8) + text("", 155) + text("", 12)
        // Counted with spaces in the checksum's own place.
        let sum = (before + after).reduce(8 * 0x20) { $0 + Int($1) }
        return before + Array(octal(sum, 7)) + [0x20] + after
    }
}
