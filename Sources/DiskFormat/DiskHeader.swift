import Bytes
import Crypto

/// A disk's whole header, read once: both copies, and the keyslots' binary areas. What is opened later is these bytes and
/// never the disk's again, so that a host cannot show one header to the check and another to libcryptsetup.
public struct DiskHeader: Sendable, Equatable {
    /// The first `DiskLayout.headerSize` bytes of the disk, as they were found.
    public let bytes: [UInt8]
    public let uuid: String
    public let sequence: UInt64
    public let metadata: DiskMetadata
    /// The current copy's JSON, which `metadata` has judged.
    package let document: JSON
    /// The copy that is overwritten first: never the only good one.
    package let expendable: BinaryHeader.Copy

    /// Validates the first `DiskLayout.headerSize` bytes of a disk.
    ///
    /// A power cut can leave one copy behind or half written; the other one then counts, as libcryptsetup would have it.
    /// Copies of the same number that differ, or of different disks, are no accident and refused.
    public init(parsing bytes: [UInt8]) throws(HeaderError) {
        guard bytes.count == DiskLayout.headerSize else {
            throw HeaderError(
                "truncated", "header", expected: "\(DiskLayout.headerSize) bytes", actual: "\(bytes.count)")
        }
        let copies = Self.copies(of: bytes)
        let current: BinaryHeader
        let expendable: BinaryHeader.Copy
        switch copies {
        case (.success(let first), .success(let second)):
            guard first.uuid == second.uuid else {
                throw HeaderError("copies", "uuid", expected: first.uuid, actual: second.uuid)
            }
            guard first.sequence != second.sequence || first.json == second.json else {
                throw HeaderError("copies", "json", expected: "the same document twice", actual: "two of one number")
            }
            current = first.sequence >= second.sequence ? first : second
            expendable = first.sequence >= second.sequence ? .secondary : .primary
        case (.success(let only), .failure):
            current = only
            expendable = .secondary
        case (.failure, .success(let only)):
            current = only
            expendable = .primary
        case (.failure(let error), .failure): throw error
        }
        metadata = try DiskMetadata(parsing: current.json)
        do throws(ParseError) {
            document = try JSON(parsing: current.json, limit: BinaryHeader.size)
        } catch { throw HeaderError(error, "json") }
        self.expendable = expendable
        uuid = current.uuid
        sequence = current.sequence
        self.bytes = bytes
    }

    private static func copies(
        of bytes: [UInt8]
    ) -> (Result<BinaryHeader, HeaderError>, Result<BinaryHeader, HeaderError>) {
        func read(_ copy: BinaryHeader.Copy) -> Result<BinaryHeader, HeaderError> {
            let start = copy.offset
            do throws(HeaderError) {
                return .success(
                    try BinaryHeader(parsing: Array(bytes[start..<start + BinaryHeader.size]), copy: copy))
            } catch { return .failure(error) }
        }
        return (read(.primary), read(.secondary))
    }

    /// Whether these are the first bytes of a disk that nobody has written to: all zero.
    public static func isBlank(_ bytes: [UInt8]) -> Bool {
        // All of them at once, which is vectorised; stopping at the first that differs would not be.
        bytes.reduce(0, |) == 0
    }
}
