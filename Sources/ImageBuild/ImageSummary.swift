import Bytes
import Host

/// The figures that end a build: sizes, packages, executables.
public struct ImageSummary: Sendable {
    public let rows: [(name: String, value: String)]
    public let json: JSON

    /// Reads a finished image directory.
    public init(directory: String) throws(Finding) {
        typealias File = ImageBuilder.File
        func document(_ name: String) throws(Finding) -> JSON {
            let bytes = try HostFiles.read("\(directory)/\(name)", limit: 16 << 20)
            do { return try JSON(parsing: bytes) } catch { throw error.finding }
        }
        let contents = try document(File.contents)
        let packages = try document(File.packages)["packages"]?.array?.count ?? 0
        let raw = HostFiles.size("\(directory)/\(File.raw)")
        let rootHash = String(decoding: try HostFiles.read("\(directory)/\(File.rootHash)", limit: 128), as: UTF8.self)
        let compressed = HostFiles.size("\(directory)/\(File.compressed)")
        let executables = contents["executables"]?.array ?? []
        let figures: [(String, Int?)] = [
            ("disk", raw), ("disk, zstd -9 --long=27", compressed),
            ("UKI", HostFiles.size("\(directory)/\(File.uki)")), ("initrd", contents["initrdBytes"]?.integer),
            ("root files", contents["bytes"]?.integer),
        ]
        var rows = figures.compactMap { name, bytes in bytes.map { (name, Self.megabytes($0)) } }
        rows.append(("packages", "\(packages)"))
        rows.append(("executables", "\(executables.count)"))
        rows.append(("root hash", rootHash.filter { !$0.isWhitespace }))
        self.rows = rows.map { (name: $0.0, value: $0.1) }
        json = .fields([
            "schema": "nacre.image.v1", "directory": .string(directory), "diskBytes": .integer(Int128(raw)),
            "compressedBytes": .integer(Int128(compressed)),
            "ukiBytes": .integer(Int128(HostFiles.size("\(directory)/\(File.uki)"))),
            "initrdBytes": contents["initrdBytes"], "packages": .integer(Int128(packages)),
            "executables": .array(executables), "rootHash": .string(rootHash.filter { !$0.isWhitespace }),
        ])
    }

    private static func megabytes(_ bytes: Int) -> String {
        let tenths = (bytes + 50_000) / 100_000
        return "\(tenths / 10).\(tenths % 10) MB"
    }

    public var table: String {
        let width = rows.map(\.name.count).max() ?? 0
        return rows.map { $0.name + String(repeating: " ", count: width - $0.name.count + 2) + $0.value }
            .joined(separator: "\n")
    }
}
