import Bytes
import Crypto

extension BinaryHeader {
    /// One copy as it stands on the disk.
    ///
    /// - Throws: `header-size` where the document has no room.
    package static func bytes(
        _ copy: Copy, sequence: UInt64, uuid: String, document: JSON
    ) throws(HeaderError) -> [UInt8] {
        let text = Array(document.compact.utf8)
        guard text.count < size - binarySize, uuid.utf8.count == 36 else {
            throw HeaderError("size", "json", expected: "below \(size - binarySize) bytes", actual: "\(text.count)")
        }
        var writer = ByteWriter()
        writer.append(copy.magic)
        writer.be(UInt16(2))
        writer.be(UInt64(size))
        writer.be(sequence)
        writer.zeros(48)
        writer.append(Array("sha256".utf8))
        writer.zeros(26)
        writer.append(randomBytes(64))
        writer.append(Array(uuid.utf8))
        writer.zeros(4 + 48)
        writer.be(copy == .primary ? UInt64(0) : UInt64(size))
        writer.zeros(184 + 64 + 7 * 512)
        writer.append(text)
        writer.zeros(size - binarySize - text.count)
        var bytes = writer.bytes
        bytes.replaceSubrange(448..<480, with: HashAlgorithm.sha256.hash(bytes))
        return bytes
    }
}

extension DiskHeader {
    /// This header with another document and other keyslot areas, both copies alike and one number later.
    ///
    /// What comes out is read back by the strict reader: nothing is ever written that would not be accepted.
    func rewritten(_ document: JSON, areas: [Int: [UInt8]] = [:]) throws(HeaderError) -> DiskHeader {
        let (next, overflow) = sequence.addingReportingOverflow(1)
        guard !overflow else { throw HeaderError("form", "seqid", expected: "below 2^64 - 1", actual: "\(sequence)") }
        return try Self.composed(document, uuid: uuid, sequence: next, bytes: bytes, areas: areas)
    }

    /// Both copies of `document` before the keyslots' areas of `bytes`, of which some are replaced (by their offset).
    package static func composed(
        _ document: JSON, uuid: String, sequence: UInt64, bytes: [UInt8], areas: [Int: [UInt8]] = [:]
    ) throws(HeaderError) -> DiskHeader {
        var composed = bytes
        guard composed.count == DiskLayout.headerSize else {
            throw HeaderError("truncated", "header", expected: "\(DiskLayout.headerSize)", actual: "\(composed.count)")
        }
        for copy in BinaryHeader.Copy.allCases {
            composed.replaceSubrange(
                copy.offset..<copy.offset + BinaryHeader.size,
                with: try BinaryHeader.bytes(copy, sequence: sequence, uuid: uuid, document: document))
        }
        for (offset, area) in areas {
            let end = offset + area.count
            guard offset >= DiskLayout.keyslotsOffset, end <= DiskLayout.keyslotsEnd else {
                throw HeaderError("offset", "keyslots", expected: "inside the keyslots' areas", actual: "\(offset)")
            }
            composed.replaceSubrange(offset..<end, with: area)
        }
        return try DiskHeader(parsing: composed)
    }
}
