import Bytes
import DiskFormat
import Linux

/// The orders in which a header reaches the disk. At every moment one valid copy is there, with the keyslots that it names.
enum HeaderWrites {
    /// Starts a format: from here on the disk is `unfinished`. What others left at either end goes with it, their backup
    /// tables included.
    static func begin(_ file: borrowing BlockFile) throws(SystemError) {
        let zeros = [UInt8](repeating: 0, count: DiskLayout.clearedSize - DiskState.marker.count)
        try file.write(DiskState.marker + zeros, at: 0)
        try file.write([UInt8](repeating: 0, count: DiskLayout.clearedSize), at: file.size - DiskLayout.clearedSize)
        try file.flush()
    }

    /// Ends a format: keyslots and second copy, then, once they are there, the first copy over the marker.
    static func finish(_ file: borrowing BlockFile, _ header: DiskHeader) throws(SystemError) {
        try file.write(
            Array(header.bytes[DiskLayout.keyslotsOffset..<DiskLayout.keyslotsEnd]), at: DiskLayout.keyslotsOffset)
        try write(.secondary, of: header, file)
        try write(.primary, of: header, file)
    }

    /// Replaces `old` by `header`: keyslots that are new, then the copy that is not needed, then the other.
    static func replace(
        _ old: DiskHeader, by header: DiskHeader, _ file: borrowing BlockFile
    ) throws(SystemError) {
        let added = header.metadata.keyslots.filter { !old.metadata.keyslots.contains($0) }
        for slot in added {
            try file.write(Array(header.bytes[slot.offset..<slot.offset + slot.size]), at: slot.offset)
        }
        if !added.isEmpty { try file.flush() }
        try write(old.expendable, of: header, file)
        try write(old.expendable == .primary ? .secondary : .primary, of: header, file)
        // Only now: until both copies agree, the old one may still be what counts.
        let left = header.unused.filter { old.bytes[$0] != header.bytes[$0] }
        for area in left { try file.write(Array(header.bytes[area]), at: area.lowerBound) }
        if !left.isEmpty { try file.flush() }
    }

    private static func write(
        _ copy: BinaryHeader.Copy, of header: DiskHeader, _ file: borrowing BlockFile
    ) throws(SystemError) {
        try file.write(Array(header.bytes[copy.offset..<copy.offset + BinaryHeader.size]), at: copy.offset)
        try file.flush()
    }
}
