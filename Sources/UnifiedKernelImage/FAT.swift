import Bytes

/// A read-only FAT16 or FAT32 volume (Microsoft "FAT: General Overview of On-Disk Format" 1.03), for the EFI system
/// partition. Chains are walked within bounds that the sizes set; loops, bad clusters and short chains are refused.
public struct FATVolume: Sendable {
    private let source: ByteSource
    private let clusterSize: Int
    private let clusterCount: Int
    private let dataOffset: Int
    private let is32: Bool
    /// The first allocation table.
    private let table: ByteSource
    /// FAT16's root directory area; empty for FAT32.
    private let rootArea: ByteSource
    private let rootCluster: Int

    /// A file or directory.
    public struct Entry: Sendable {
        public let name: String
        public let isDirectory: Bool
        public let size: Int
        fileprivate let cluster: Int
        /// The 8.3 name, which `name` falls back to.
        fileprivate let shortName: String
    }

    /// Bytes a directory may take (65,536 entries of 32 bytes).
    private static let maximumDirectory = 2 << 20

    public init(_ source: ByteSource) throws(ParseError) {
        self.source = source
        let sector = try source.read(at: 0, count: 512, "boot sector")
        let layout = try FATLayout(sector, size: source.count)
        clusterSize = layout.clusterSize
        clusterCount = layout.clusterCount
        dataOffset = layout.dataOffset
        is32 = layout.is32
        table = try source.slice(at: layout.tableOffset, count: layout.tableSize, "allocation table")
        rootArea = try source.slice(at: layout.rootOffset, count: layout.rootSize, "root directory")
        rootCluster = layout.rootCluster
    }

    /// The entries of the directory at `path` (components separated by `/` or `\`); `nil` where it does not exist.
    public func entries(_ path: String) throws(ParseError) -> [Entry]? {
        var area = is32 ? try chain(from: rootCluster, size: nil, "root directory") : rootArea
        for component in Self.components(path) {
            guard let entry = try Self.parse(area).first(where: { $0.matches(component) }) else { return nil }
            guard entry.isDirectory else { return nil }
            // Cluster 0 in a ".." entry means the root; no path from the root down ever needs it.
            area = try chain(from: entry.cluster, size: nil, component)
        }
        return try Self.parse(area)
    }

    /// The contents of the file at `path`; `nil` where there is none.
    public func file(_ path: String) throws(ParseError) -> ByteSource? {
        let components = Self.components(path)
        guard let name = components.last, let entries = try entries(components.dropLast().joined(separator: "/")),
            let entry = entries.first(where: { $0.matches(name) }), !entry.isDirectory
        else { return nil }
        return try contents(of: entry)
    }

    public func contents(of entry: Entry) throws(ParseError) -> ByteSource {
        guard entry.size > 0 else { return ByteSource([]) }
        return try chain(from: entry.cluster, size: entry.size, entry.name)
    }

    private static func components(_ path: String) -> [String] {
        path.split { $0 == "/" || $0 == "\\" }.map(String.init)
    }

    /// The clusters from `first` on, as one source of `size` bytes; to the end of the chain where `size` is `nil`.
    private func chain(from first: Int, size: Int?, _ name: String) throws(ParseError) -> ByteSource {
        func refuse(_ message: String) -> ParseError {
            ParseError("range", field: "cluster chain", offset: 0, "\(name): \(message)")
        }
        let wanted = size.map { ($0 + clusterSize - 1) / clusterSize }
        let most = wanted ?? (Self.maximumDirectory + clusterSize - 1) / clusterSize
        // Walked as runs of neighbours: an unfragmented file is one run, however large.
        var links = AllocationTable(source: table, width: is32 ? 4 : 2)
        var runs: [(first: Int, count: Int)] = []
        var cluster = first
        var walked = 0
        while walked < min(most, clusterCount) {
            guard cluster >= 2, cluster < clusterCount + 2 else { throw refuse("cluster \(cluster) does not exist") }
            if let last = runs.last, last.first + last.count == cluster {
                runs[runs.count - 1].count += 1
            } else {
                runs.append((cluster, 1))
            }
            walked += 1
            guard let next = try links.next(after: cluster) else { break }
            cluster = next
        }
        guard walked == wanted ?? walked else { throw refuse("ends after \(walked) clusters, the size needs \(most)") }
        guard try links.next(after: runs.last.map { $0.first + $0.count - 1 } ?? 2) == nil else {
            throw refuse("does not end where it should")
        }
        var parts: [ByteSource] = []
        for run in runs {
            parts.append(
                try source.slice(
                    at: dataOffset + (run.first - 2) * clusterSize, count: run.count * clusterSize, name))
        }
        let whole = parts.count == 1 ? parts[0] : ByteSource(joining: parts)
        guard let size else { return whole }
        return try whole.slice(at: 0, count: size, name)
    }

    /// The entries of one directory: long names where they are whole and carry the short name's checksum.
    private static func parse(_ area: ByteSource) throws(ParseError) -> [Entry] {
        let bytes = try area.readAll(limit: maximumDirectory + 65536, "directory")
        var entries: [Entry] = []
        var long = LongName()
        for offset in stride(from: 0, to: bytes.count - bytes.count % 32, by: 32) {
            let record = Array(bytes[offset..<offset + 32])
            if record[0] == 0 { break }
            let attributes = record[11]
            if record[0] == 0xE5 {
                long = LongName()
            } else if attributes & 0x3F == 0x0F {
                long.add(record)
            } else {
                let longName = long.take(for: Array(record[..<11]))
                if attributes & 0x08 != 0 { continue }
                let short = shortName(record)
                if short == "." || short == ".." { continue }
                entries.append(
                    Entry(
                        name: longName ?? short, isDirectory: attributes & 0x10 != 0,
                        size: record[28..<32].reversed().reduce(0) { $0 << 8 | Int($1) },
                        cluster: [26, 27].reversed().reduce(0) { $0 << 8 | Int(record[$1]) }
                            | [20, 21].reversed().reduce(0) { $0 << 8 | Int(record[$1]) } << 16,
                        shortName: short))
            }
        }
        return entries
    }

    private static func shortName(_ record: [UInt8]) -> String {
        func text(_ bytes: ArraySlice<UInt8>, lower: Bool) -> String {
            let trimmed =
                String(
                    decoding: bytes.map { $0 < 0x80 ? $0 : UInt8(ascii: "?") }, as: UTF8.self
                ).split(separator: " ", omittingEmptySubsequences: true).first.map(String.init) ?? ""
            return lower ? trimmed.lowercased() : trimmed
        }
        // NT stores an all-lower-case 8.3 name as two bits instead of a long name.
        let stem = text(record[0..<8], lower: record[12] & 0x08 != 0)
        let suffix = text(record[8..<11], lower: record[12] & 0x10 != 0)
        return suffix.isEmpty ? stem : "\(stem).\(suffix)"
    }
}

extension FATVolume.Entry {
    /// FAT names are compared without case.
    fileprivate func matches(_ component: String) -> Bool {
        let wanted = component.uppercased()
        return name.uppercased() == wanted || shortName.uppercased() == wanted
    }
}

/// The allocation table, read a window at a time: neighbours are asked for one after the other.
private struct AllocationTable {
    let source: ByteSource
    let width: Int
    private var start = 0
    private var window: [UInt8] = []

    init(source: ByteSource, width: Int) {
        self.source = source
        self.width = width
    }

    /// The cluster after `cluster`; `nil` at the end of its chain.
    mutating func next(after cluster: Int) throws(ParseError) -> Int? {
        let offset = cluster * width
        if offset < start || offset + width > start + window.count {
            start = offset - offset % 4096
            window = try source.read(at: start, count: min(65536, source.count - start), "allocation table")
        }
        guard offset + width <= start + window.count else {
            throw ParseError("range", field: "cluster", offset: offset, "cluster \(cluster) is beyond the table")
        }
        let raw = window[offset - start..<offset - start + width]
        let value = raw.reversed().reduce(0) { $0 << 8 | Int($1) } & (width == 4 ? 0x0FFF_FFFF : 0xFFFF)
        return value >= (width == 4 ? 0x0FFF_FFF8 : 0xFFF8) ? nil : value
    }
}
