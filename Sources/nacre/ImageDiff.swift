import ArgumentParser
import Bytes
import Crypto
import Host
import ImageBuild
import Manifest
import Measurement

struct ImageDiff: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Say what changed between two images and which registers move.",
        discussion: """
            Each side is an image directory of 'image build', a raw disk or UKI, a measurement document, or a manifest. \
            Two directories are also compared by package and by executable.
            """)

    @Argument(help: "The older side.")
    var old: String

    @Argument(help: "The newer side.")
    var new: String

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let (before, after) = (try await measurements(old), try await measurements(new))
        let registers = Self.registers(before, after)
        let events = Self.events(before, after)
        let contents = try Self.contents(old, new)
        switch output.output {
        case .text:
            let lines =
                registers.map { "register \($0) moves" } + events + contents
            print(lines.isEmpty ? "nothing that is measured differs" : lines.joined(separator: "\n"))
        case .json:
            let document: JSON = [
                "schema": "nacre.image-diff.v1", "old": .hex(before.imageDigest), "new": .hex(after.imageDigest),
                "registers": .array(registers.map { .string($0) }), "events": .array(events.map { .string($0) }),
                "contents": .array(contents.map { .string($0) }),
            ]
            print(document.pretty, terminator: "")
        }
    }

    /// The measurements of one side, read or computed.
    private func measurements(_ path: String) async throws -> Measurements {
        if HostFiles.isDirectory(path) {
            return try Measurements(
                JSON(parsing: HostFiles.read("\(path)/measurements.json", limit: Manifest.maximumSize)))
        }
        let head = try HostFiles.read(path, from: 0, limit: 1)
        guard head == [UInt8(ascii: "{")] else {
            return try Measurements(await MeasurementRequest(image: path).document().json)
        }
        let json = try JSON(parsing: HostFiles.read(path, limit: Manifest.maximumSize))
        if json["schema"]?.string == Manifest.schema {
            return try Manifest(parsing: HostFiles.read(path, limit: Manifest.maximumSize)).measurements
        }
        return try Measurements(json)
    }

    /// Names of registers whose predicted values differ, or that only one side predicts.
    private static func registers(_ before: Measurements, _ after: Measurements) -> [String] {
        var names: [String] = []
        for bank in HashAlgorithm.allCases {
            for index in 0..<24 where before.tpm[bank]?[index] != after.tpm[bank]?[index] {
                names.append("tpm/\(bank.rawValue)/\(index)")
            }
        }
        for name in Set(before.tdx.keys).union(after.tdx.keys).sorted() where before.tdx[name] != after.tdx[name] {
            names.append("tdx/\(name)")
        }
        return names
    }

    /// Events with their digests, as lines that only one side has.
    private static func events(_ before: Measurements, _ after: Measurements) -> [String] {
        func lines(_ measurements: Measurements) -> [String] {
            measurements.events.map { event in
                let digest = event.digests[.sha256] ?? event.digests[.sha384] ?? []
                return "\(event.register) \(event.what) \(Hex.encode(digest.prefix(8)))…"
            }
        }
        return difference(lines(before), lines(after))
    }

    private static func difference(_ before: [String], _ after: [String]) -> [String] {
        let change = after.difference(from: before)
        return change.removals.map { if case .remove(_, let line, _) = $0 { "- \(line)" } else { "" } }
            + change.insertions.map { if case .insert(_, let line, _) = $0 { "+ \(line)" } else { "" } }
    }

    /// Packages and executables of two image directories.
    private static func contents(_ old: String, _ new: String) throws -> [String] {
        guard HostFiles.isDirectory(old), HostFiles.isDirectory(new) else { return [] }
        func lines(_ directory: String) throws -> [String] {
            typealias File = ImageBuilder.File
            let packages = try JSON(parsing: HostFiles.read("\(directory)/\(File.packages)", limit: 16 << 20))
            let contents = try JSON(parsing: HostFiles.read("\(directory)/\(File.contents)", limit: 16 << 20))
            return (packages["packages"]?.array ?? []).map {
                "package \($0["name"]?.string ?? "") \($0["version"]?.string ?? "")"
            }
                + (contents["executables"]?.array ?? []).map {
                    "executable \($0["path"]?.string ?? "") \($0["bytes"]?.integer ?? 0) bytes"
                }
        }
        return difference(try lines(old).sorted(), try lines(new).sorted())
    }
}
