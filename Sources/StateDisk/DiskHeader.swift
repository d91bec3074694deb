import Bytes
import Crypto

/// A disk's whole header, read once: both copies, and the keyslots' binary areas. What is opened later is these bytes and
/// never the disk's again, so that a host cannot show one header to the check and another to libcryptsetup.
public struct DiskHeader: Sendable, Equatable {
    /// Everything before the data, `DiskLayout.dataOffset` bytes; both copies are the current one.
    public let bytes: [UInt8]
    public let uuid: String
    public let sequence: UInt64
    public let metadata: DiskMetadata

    /// Validates the first `DiskLayout.dataOffset` bytes of a disk.
    ///
    /// A power cut can leave one copy behind or half written; the other one then counts, as libcryptsetup would have it.
    /// Copies of the same number that differ, or of different disks, are no accident and refused.
    public init(parsing bytes: [UInt8]) throws(HeaderError) {
        guard bytes.count == DiskLayout.dataOffset else {
            throw HeaderError(
                "truncated", "header", expected: "\(DiskLayout.dataOffset) bytes", actual: "\(bytes.count)")
        }
        let copies = Self.copies(of: bytes)
        let current: BinaryHeader
        switch copies {
        case (.success(let first), .success(let second)):
            guard first.uuid == second.uuid else {
                throw HeaderError("copies", "uuid", expected: first.uuid, actual: second.uuid)
            }
            guard first.sequence != second.sequence || first.json == second.json else {
                throw HeaderError("copies", "json", expected: "the same document twice", actual: "two of one number")
            }
            current = first.sequence >= second.sequence ? first : second
        case (.success(let only), .failure), (.failure, .success(let only)): current = only
        case (.failure(let error), .failure): throw error
        }
        metadata = try DiskMetadata(parsing: current.json)
        uuid = current.uuid
        sequence = current.sequence
        self.bytes = bytes
    }

    private static func copies(
        of bytes: [UInt8]
    ) -> (Result<BinaryHeader, HeaderError>, Result<BinaryHeader, HeaderError>) {
        func read(_ copy: BinaryHeader.Copy) -> Result<BinaryHeader, HeaderError> {
            let start = copy == .primary ? 0 : BinaryHeader.size
            do throws(HeaderError) {
                return .success(
                    try BinaryHeader(parsing: Array(bytes[start..<start + BinaryHeader.size]), copy: copy))
            } catch { return .failure(error) }
        }
        return (read(.primary), read(.secondary))
    }

    /// Whether these are the first bytes of a disk that nobody has written to: all zero.
    public static func isBlank(_ bytes: [UInt8]) -> Bool { bytes.allSatisfy { $0 == 0 } }
}
