import Bytes

/// The superblock of dm-integrity, which the kernel reads from the disk's data area (Linux `drivers/md/dm-integrity.c`,
/// `struct superblock`; little-endian).
///
/// It is the host's to write like everything else on the disk. What it could change is where data and tags lie, never what
/// is accepted: every sector's tag covers its place. Still only one form of it is let through to the kernel.
///
/// | offset | size | field |
/// |--:|--:|---|
/// | 0 | 8 | magic `integrt` and a zero |
/// | 8 | 1 | version |
/// | 9 | 1 | log2 of the sectors between two stretches of tags |
/// | 10 | 2 | size of a tag |
/// | 12 | 4 | sections of the journal |
/// | 16 | 8 | sectors of data provided |
/// | 24 | 4 | flags |
/// | 28 | 1 | log2 of the sectors in a block |
/// | 29 | 1 | bitmap: blocks for a bit |
/// | 32 | 8 | recalculation: next sector |
/// | 48 | 16 | salt |
package struct IntegritySuperblock: Equatable, Sendable {
    package static let size = 64
    /// Fixed padding (0x8) alone: no journal MAC, no recalculation, no bitmap, no inline tags.
    static let flags: UInt32 = 0x8
    static let version: UInt8 = 4

    let journalSections: UInt32
    /// Sectors of 512 bytes.
    let dataSectors: UInt64

    /// - Parameter available: bytes of the disk behind the header.
    package init(parsing bytes: [UInt8], available: Int) throws(HeaderError) {
        func expect<T: Equatable & Sendable>(_ value: T, _ wanted: T, _ claim: String) throws(HeaderError) {
            guard value == wanted else {
                throw HeaderError(
                    "superblock", "integrity.\(claim)", expected: "\(wanted)", actual: "\(value)",
                    next: "no key was used; restore the disk, or start over with an empty one")
            }
        }
        do {
            var reader = ByteReader(bytes)
            try expect(try reader.take(8, "magic"), Array("integrt\0".utf8), "magic")
            try expect(try reader.u8("version"), Self.version, "version")
            try expect(
                try reader.u8("log2_interleave_sectors"), UInt8(DiskLayout.interleavedSectors.trailingZeroBitCount),
                "log2_interleave_sectors")
            try expect(
                try reader.le(UInt16.self, "integrity_tag_size"), UInt16(DiskLayout.tagSize), "integrity_tag_size")
            journalSections = try reader.le(UInt32.self, "journal_sections")
            dataSectors = try reader.le(UInt64.self, "provided_data_sectors")
            try expect(try reader.le(UInt32.self, "flags"), Self.flags, "flags")
            try expect(
                try reader.u8("log2_sectors_per_block"), UInt8((DiskLayout.sectorSize / 512).trailingZeroBitCount),
                "log2_sectors_per_block")
            // The bitmap's grain, which nothing uses without a bitmap; then padding.
            _ = try reader.u8("log2_blocks_per_bitmap_bit")
            try reader.zeros(2, "pad")
            try expect(try reader.le(UInt64.self, "recalc_sector"), 0, "recalc_sector")
            try reader.zeros(8, "pad2")
            try reader.zeros(16, "salt")
            try reader.end("superblock")
        } catch let error as ParseError {
            throw HeaderError(error, "integrity")
        } catch let error as HeaderError {
            throw error
        } catch { throw HeaderError("form", "integrity", actual: "\(error)") }
        let room = UInt64(max(0, available) / 512)
        guard dataSectors > 0, dataSectors <= room, dataSectors.isMultiple(of: 8) else {
            throw HeaderError(
                "superblock", "integrity.provided_data_sectors", expected: "1 to \(room)", actual: "\(dataSectors)")
        }
        guard journalSections > 0, UInt64(journalSections) * 512 <= UInt64(DiskLayout.journalSize) else {
            throw HeaderError(
                "superblock", "integrity.journal_sections", expected: "at most \(DiskLayout.journalSize) bytes",
                actual: "\(journalSections)")
        }
    }
}
