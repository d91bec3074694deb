import Bytes

/// The dm-verity root hash: the one value that names a root file system. It is part of the UKI's measured command line.
public struct RootHash: Equatable, Sendable {
    /// SHA-256, 32 bytes.
    public let bytes: [UInt8]

    /// `nil` unless `text` is exactly 64 hexadecimal digits.
    public init?(_ text: some StringProtocol) {
        guard text.utf8.count == 64, let bytes = Hex.decode(text) else { return nil }
        self.bytes = bytes
    }

    /// The value of `roothash=` on a kernel command line.
    ///
    /// Words are separated by white space; quotes group words for the kernel but never occur in ours, so a line that
    /// holds one is refused rather than interpreted in a second way. Exactly one `roothash=` must be there.
    /// - Throws: `ParseError` naming `cmdline`.
    public init(commandLine: String) throws(ParseError) {
        guard !commandLine.utf8.contains(UInt8(ascii: "\"")) else {
            throw ParseError("form", field: "cmdline", offset: 0, "holds a quotation mark")
        }
        let prefix = "roothash="
        let values = commandLine.split { $0.isWhitespace }.filter { $0.hasPrefix(prefix) }
        guard let value = values.first, values.count == 1 else {
            throw ParseError(
                "form", field: "cmdline.roothash", offset: 0, "must be there once, is \(values.count) times")
        }
        guard let hash = RootHash(value.dropFirst(prefix.count)) else {
            throw ParseError("form", field: "cmdline.roothash", offset: 0, "must be 64 hexadecimal digits")
        }
        self = hash
    }

    public var hex: String { Hex.encode(bytes) }

    /// GPT partition UUID of the root file system: the hash's first 128 bits
    /// (UAPI.2 Discoverable Partitions Specification, "Root Partition").
    public var dataPartition: String { Self.uuid(bytes.prefix(16)) }
    /// GPT partition UUID of the hash tree: the hash's last 128 bits (same, "Verity Partition").
    public var hashPartition: String { Self.uuid(bytes.suffix(16)) }

    private static func uuid(_ bytes: ArraySlice<UInt8>) -> String {
        var text = ""
        for (index, byte) in bytes.enumerated() {
            if [4, 6, 8, 10].contains(index) { text += "-" }
            text += Hex.encode([byte])
        }
        return text
    }
}
