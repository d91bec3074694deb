import Bytes
import Crypto
import Host
import Manifest
import Measurement

/// One side of a comparison: an image directory of `image build`, a raw disk or UKI, a measurement document, or a
/// manifest.
public struct ComparedImage: Sendable {
    public let measurements: Measurements
    /// Packages and executables, one a line, sorted; `nil` for sides that say nothing about them.
    let contents: [String]?

    /// - Throws: `parse-…` naming the file that is missing or not of its form.
    public init(_ path: String) async throws(Finding) {
        if HostFiles.isDirectory(path) {
            measurements = try Measurements(try Self.document(ImageBuilder.File.measurements, in: path))
            contents = try Self.contents(of: path)
            return
        }
        contents = nil
        guard HostFiles.isReadable(path) else {
            throw Finding("parse-missing", claim: path, expected: "an image or a document", actual: "not readable")
        }
        try Self.requireRegular(path)
        guard try HostFiles.read(path, from: 0, limit: 1) == [UInt8(ascii: "{")] else {
            measurements = try Measurements(try await MeasurementRequest(image: path).document().json)
            return
        }
        let bytes = try HostFiles.read(path, limit: Manifest.maximumSize)
        let json = try Self.parse(bytes, path)
        measurements =
            json["schema"]?.string == Manifest.schema
            ? try Manifest(parsing: bytes).measurements : try Measurements(json)
    }

    /// A FIFO or a device is no image; what reads it would wait for ever.
    private static func requireRegular(_ path: String) throws(Finding) {
        guard HostFiles.isRegular(path) else {
            throw Finding(
                "parse-unreadable", claim: path, expected: "a regular file or an image directory",
                actual: "another kind of file")
        }
    }

    private static func parse(_ bytes: [UInt8], _ path: String) throws(Finding) -> JSON {
        do {
            return try JSON(parsing: bytes, limit: 16 << 20)
        } catch {
            throw ParseError(error.detail, field: "\(path): \(error.field)", offset: error.offset, error.message)
                .finding
        }
    }

    private static func document(_ name: String, in directory: String) throws(Finding) -> JSON {
        let path = "\(directory)/\(name)"
        guard HostFiles.isReadable(path) else {
            throw Finding(
                "parse-missing", claim: directory, expected: "an image directory with \(name)", actual: "no \(name)",
                next: "name a directory that image build made, a disk, a UKI, measurements or a manifest")
        }
        try requireRegular(path)
        return try parse(try HostFiles.read(path, limit: 16 << 20), path)
    }

    private static func contents(of directory: String) throws(Finding) -> [String] {
        let packages = try document(ImageBuilder.File.packages, in: directory)
        let contents = try document(ImageBuilder.File.contents, in: directory)
        let lines =
            (packages["packages"]?.array ?? []).map {
                "package \($0["name"]?.string ?? "") \($0["version"]?.string ?? "")"
            }
            + (contents["executables"]?.array ?? []).map {
                "executable \($0["path"]?.string ?? "") \($0["bytes"]?.integer ?? 0) bytes"
            }
        return lines.sorted()
    }
}

/// What changed between two images and which registers move.
public struct ImageDifference: Sendable {
    public let old: [UInt8]
    public let new: [UInt8]
    /// Registers whose predicted values differ, or that only one side predicts.
    public let registers: [String]
    /// Events with their digests that only one side has: `-` the older one, `+` the newer.
    public let events: [String]
    /// Packages and executables likewise, where both sides name theirs.
    public let contents: [String]

    public init(from old: ComparedImage, to new: ComparedImage) {
        let (before, after) = (old.measurements, new.measurements)
        self.old = before.imageDigest
        self.new = after.imageDigest
        var registers: [String] = []
        for bank in HashAlgorithm.allCases {
            for index in 0..<24 where before.tpm[bank]?[index] != after.tpm[bank]?[index] {
                registers.append("tpm/\(bank.rawValue)/\(index)")
            }
        }
        for name in Set(before.tdx.keys).union(after.tdx.keys).sorted() where before.tdx[name] != after.tdx[name] {
            registers.append("tdx/\(name)")
        }
        if before.snp != after.snp { registers.append("snp/launch-digest") }
        self.registers = registers
        events = Self.changes(Self.events(before), Self.events(after))
        contents = Self.changes(old.contents ?? new.contents ?? [], new.contents ?? old.contents ?? [])
    }

    public var lines: [String] { registers.map { "register \($0) moves" } + events + contents }

    public var json: JSON {
        [
            "schema": "nacre.image-diff.v1", "old": .hex(old), "new": .hex(new),
            "registers": .array(registers.map { .string($0) }), "events": .array(events.map { .string($0) }),
            "contents": .array(contents.map { .string($0) }),
        ]
    }

    private static func events(_ measurements: Measurements) -> [String] {
        measurements.events.map { event in
            let digest = event.digests[.sha256] ?? event.digests[.sha384] ?? []
            return "\(event.register) \(event.what) \(Hex.encode(digest.prefix(8)))…"
        }
    }

    private static func changes(_ before: [String], _ after: [String]) -> [String] {
        let change = after.difference(from: before)
        return change.removals.map { if case .remove(_, let line, _) = $0 { "- \(line)" } else { "" } }
            + change.insertions.map { if case .insert(_, let line, _) = $0 { "+ \(line)" } else { "" } }
    }
}
