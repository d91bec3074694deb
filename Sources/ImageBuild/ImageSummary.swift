import Bytes
import Host

/// The figures that end a build: sizes, packages, executables.
public struct ImageSummary: Sendable {
    public let rows: [(name: String, value: String)]
    public let json: JSON

    /// Reads a finished image directory.
    public init(directory: String) throws(Finding) {
        typealias File = ImageBuilder.File
        let contents: JSON
        do {
            contents = try JSON(parsing: HostFiles.read("\(directory)/\(File.contents)", limit: 16 << 20))
        } catch let error as ParseError {
            throw error.finding
        } catch let error as Finding {
            throw error
        } catch {
            throw Finding("image-contents", claim: File.contents, actual: "\(error)")
        }
        let raw = HostFiles.size("\(directory)/\(File.raw)")
        let rootHash = String(decoding: try HostFiles.read("\(directory)/\(File.rootHash)", limit: 128), as: UTF8.self)
        let compressed = contents["compressed"]?.integer
        let executables = contents["executables"]?.array ?? []
        let figures: [(String, Int?)] = [
            ("disk", raw), ("disk, zstd -19", compressed),
            ("UKI", HostFiles.size("\(directory)/\(File.uki)")), ("initrd", contents["initrdBytes"]?.integer),
            ("root files", contents["bytes"]?.integer),
        ]
        var rows = figures.compactMap { name, bytes in bytes.map { (name, Self.megabytes($0)) } }
        rows.append(("packages", "\(contents["packages"]?.integer ?? 0)"))
        rows.append(("executables", "\(executables.count)"))
        rows.append(("root hash", rootHash.filter { !$0.isWhitespace }))
        self.rows = rows.map { (name: $0.0, value: $0.1) }
        json = .fields([
            "schema": "nacre.image.v1", "directory": .string(directory), "diskBytes": .integer(Int128(raw)),
            "compressedBytes": compressed.map { .integer(Int128($0)) },
            "ukiBytes": .integer(Int128(HostFiles.size("\(directory)/\(File.uki)"))),
            "initrdBytes": contents["initrdBytes"], "packages": contents["packages"],
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
