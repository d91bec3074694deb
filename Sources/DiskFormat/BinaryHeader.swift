import Bytes
import Crypto

/// One of the two binary headers of LUKS2 (on-disk format 1.1 §3.1, `luks2_hdr_disk`), with its JSON area: big-endian, 4096
/// bytes and `size` − 4096.
public struct BinaryHeader: Sendable, Equatable {
    public enum Copy: Sendable, CaseIterable {
        case primary, secondary
        var magic: [UInt8] { Array(self == .primary ? "LUKS".utf8 : "SKUL".utf8) + [0xBA, 0xBE] }
        /// Where it lies on the disk.
        package var offset: Int { self == .primary ? 0 : BinaryHeader.size }
    }

    static let binarySize = 4096
    /// The one size that Nacre makes, JSON area included.
    public static let size = 16384

    /// Counts writes; of two valid copies the one with the higher number is current.
    public let sequence: UInt64
    public let uuid: String
    /// SHA-256 over header (checksum zeroed) and JSON area, which `init` has checked.
    public let checksum: [UInt8]
    /// The JSON document without its padding.
    public let json: [UInt8]

    /// Reads one copy, `size` bytes that begin at `copy`'s place.
    ///
    /// - Throws: `header-…` for every deviation from what Nacre itself writes: other sizes, other checksum algorithm, a
    ///   label, bytes in the paddings.
    public init(parsing bytes: [UInt8], copy: Copy) throws(HeaderError) {
        let name = copy == .primary ? "primary" : "secondary"
        guard bytes.count == Self.size else {
            throw HeaderError("truncated", name, expected: "\(Self.size) bytes", actual: "\(bytes.count)")
        }
        do {
            var reader = ByteReader(Array(bytes.prefix(Self.binarySize)))
            guard try reader.take(6, "magic") == copy.magic else {
                throw HeaderError("magic", "\(name).magic", expected: Hex.encode(copy.magic), actual: "another")
            }
            try Self.expect(try reader.be(UInt16.self, "version"), 2, "\(name).version", "version")
            try Self.expect(try reader.be(UInt64.self, "hdr_size"), UInt64(Self.size), "\(name).hdr_size", "size")
            sequence = try reader.be(UInt64.self, "seqid")
            try reader.zeros(48, "label")
            let algorithm = try reader.take(32, "checksum_alg")
            guard algorithm == Array("sha256".utf8) + [UInt8](repeating: 0, count: 26) else {
                throw HeaderError("checksum", "\(name).checksum_alg", expected: "sha256", actual: "another")
            }
            _ = try reader.take(64, "salt")
            uuid = try Self.text(try reader.take(40, "uuid"))
            try reader.zeros(48, "subsystem")
            try Self.expect(
                try reader.be(UInt64.self, "hdr_offset"), UInt64(copy.offset), "\(name).hdr_offset", "offset")
            try reader.zeros(184, "padding")
            let stored = try reader.take(64, "csum")
            try reader.zeros(7 * 512, "padding4096")
            try reader.end("header")
            checksum = Array(stored.prefix(32))
            guard stored.dropFirst(32).allSatisfy({ $0 == 0 }) else {
                throw HeaderError("checksum", "\(name).csum", expected: "32 bytes and zeros", actual: "more")
            }
        } catch let error as ParseError {
            throw HeaderError(error, name)
        } catch let error as HeaderError {
            throw error
        } catch { throw HeaderError("form", name, actual: "\(error)") }
        var hashed = bytes
        hashed.replaceSubrange(448..<512, with: [UInt8](repeating: 0, count: 64))
        guard constantTimeEqual(HashAlgorithm.sha256.hash(hashed), checksum) else {
            throw HeaderError("checksum", "\(name).csum", expected: Hex.encode(checksum), actual: "another digest")
        }
        let area = bytes[Self.binarySize...]
        let length = area.firstIndex(of: 0) ?? area.endIndex
        json = Array(area[..<length])
        guard area[length...].allSatisfy({ $0 == 0 }), length < area.endIndex else {
            throw HeaderError("form", "\(name).json", expected: "zeros after the document", actual: "other bytes")
        }
    }

    private static func expect<T: Equatable & Sendable>(
        _ value: T, _ wanted: T, _ claim: String, _ detail: String
    ) throws(HeaderError) {
        guard value == wanted else { throw HeaderError(detail, claim, expected: "\(wanted)", actual: "\(value)") }
    }

    /// A UUID as text, then zeros.
    private static func text(_ bytes: [UInt8]) throws(ParseError) -> String {
        let text = bytes.prefix(36)
        let isUUID = text.enumerated().allSatisfy { index, byte in
            [8, 13, 18, 23].contains(index)
                ? byte == UInt8(ascii: "-")
                : (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                    || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains(byte)
        }
        guard isUUID, bytes.dropFirst(36).allSatisfy({ $0 == 0 }) else {
            throw ParseError("form", field: "uuid", offset: 168, "not a UUID in lower case")
        }
        return String(decoding: text, as: UTF8.self)
    }
}
