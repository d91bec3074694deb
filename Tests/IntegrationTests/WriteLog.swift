import Bytes
import Glibc
import TestKit

/// What a machine wrote to its disk, in order, as QEMU's `blklogwrites` records it (the format of Linux'
/// Documentation/admin-guide/device-mapper/log-writes.rst; little-endian, one 512-byte sector for each head).
struct WriteLog {
    struct Entry {
        /// Bytes on the disk.
        let offset: Int
        let count: Int
        /// Where its data stand in the log.
        let data: Int
        let isFlush: Bool
        /// Durable by itself.
        let isForced: Bool
    }

    static let sector = 512
    let path: String
    let entries: [Entry]

    init(_ path: String) throws {
        self.path = path
        let source = try ByteSource(file: path)
        var head = ByteReader(try source.read(at: 0, count: 28, "super"))
        guard try head.le(UInt64.self, "magic") == 0x6A_7366_7773_6872, try head.le(UInt64.self, "version") == 1 else {
            throw ParseError("magic", field: path, offset: 0, "not a log of writes")
        }
        var entries: [Entry] = []
        var position = Self.sector
        while position + Self.sector <= source.count {
            var reader = ByteReader(try source.read(at: position, count: 32, "entry"))
            let start = Int(try reader.le(UInt64.self, "sector"))
            let count = Int(try reader.le(UInt64.self, "nr_sectors"))
            let flags = try reader.le(UInt64.self, "flags")
            position += Self.sector
            let isDiscard = flags & 4 != 0
            guard !isDiscard, flags & 8 == 0 else { continue }
            entries.append(
                Entry(
                    offset: start * Self.sector, count: count * Self.sector, data: position, isFlush: flags & 1 != 0,
                    isForced: flags & 2 != 0))
            position += count * Self.sector
        }
        self.entries = entries
    }

    /// Where a cut is made: anywhere, or, twice as often, near a write to the disk's header.
    func cut(_ generator: inout SeededGenerator) -> Int {
        let headers = entries.indices.filter { entries[$0].offset < 1 << 20 && entries[$0].count > 0 }
        guard Int.random(in: 0..<3, using: &generator) > 0,
            let near = headers.randomElement(using: &generator)
        else { return Int.random(in: 0...entries.count, using: &generator) }
        return min(max(0, near + Int.random(in: -1...3, using: &generator)), entries.count)
    }

    /// The disk after a power cut before entry `end`: what was flushed is there; of the rest each write is there, lost, or
    /// torn in the middle.
    ///
    /// - Parameter disk: what was there before the first write; made, and blank, where it is not there.
    func replay(upTo end: Int, onto disk: String, size: Int, _ generator: inout SeededGenerator) throws {
        let durable = entries[..<end].lastIndex { $0.isFlush } ?? 0
        let log = unsafe open(path, O_RDONLY | O_CLOEXEC)
        let target = unsafe open(disk, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        defer {
            close(log)
            close(target)
        }
        guard log >= 0, target >= 0, ftruncate(target, size) == 0 else { throw MachineFailure(what: disk) }
        for (index, entry) in entries[..<end].enumerated() where entry.count > 0 {
            var count = entry.count
            if index > durable, !entry.isForced {
                switch Int.random(in: 0..<4, using: &generator) {
                case 0, 1: break
                case 2: count = Int.random(in: 0...entry.count / Self.sector, using: &generator) * Self.sector
                default: count = 0
                }
            }
            var bytes = [UInt8](repeating: 0, count: count)
            guard unsafe pread(log, &bytes, count, entry.data) == count,
                unsafe pwrite(target, bytes, count, entry.offset) == count
            else { throw MachineFailure(what: disk) }
        }
    }
}
