import Bytes
import Glibc
import Host
import Manifest
import SyntheticNode
import TestKit
import Testing

@testable import ImageBuild

@Suite("What changed between two images")
struct ImageDifferenceTests {
    /// An image directory as far as a comparison reads it.
    private static func directory(_ name: String, in folder: TemporaryFolder, version: String) throws -> String {
        let path = "\(folder.path)/\(name)"
        try HostFiles.makeDirectory(path)
        let files: [(String, JSON)] = [
            ("measurements.json", try SyntheticNode.manifest().measurements.json),
            ("packages.json", ["packages": [["name": "systemd", "version": .string(version)]]]),
            ("contents.json", ["executables": [["path": "/usr/lib/systemd/systemd", "bytes": 7]]]),
        ]
        for (file, json) in files { try HostFiles.write("\(path)/\(file)", Array(json.pretty.utf8)) }
        return path
    }

    @Test("a FIFO is refused at once, alone and in a directory")
    func pipes() async throws {
        let folder = try TemporaryFolder()
        let fifo = folder.path + "/fifo"
        #expect(unsafe mkfifo(fifo, 0o600) == 0)
        let directory = try Self.directory("image", in: folder, version: "257")
        try HostFiles.remove(directory + "/packages.json")
        #expect(unsafe mkfifo(directory + "/packages.json", 0o600) == 0)
        for path in [fifo, directory] {
            let error = await #expect(throws: Finding.self) { try await ComparedImage(path) }
            #expect(error?.reason == "parse-unreadable")
        }
        #expect(throws: Finding.self) { try HostFiles.read(fifo, limit: 10) }
        #expect(throws: Finding.self) { try HostFiles.read(fifo, from: 0, limit: 10) }
        #expect(try !HostFiles.read("/proc/self/stat", limit: 4096).isEmpty)
    }

    @Test("directories by package, documents by register and event")
    func differences() async throws {
        let folder = try TemporaryFolder()
        let old = try await ComparedImage(Self.directory("old", in: folder, version: "257"))
        let new = try await ComparedImage(Self.directory("new", in: folder, version: "258"))
        #expect(ImageDifference(from: old, to: old).lines.isEmpty)
        #expect(ImageDifference(from: old, to: new).lines == ["- package systemd 257", "+ package systemd 258"])

        var events = SyntheticNode.events
        events[15].data += Array(" quiet".utf8)
        let other = try folder.file("manifest.json", SyntheticNode.manifest(events: events).bytes)
        let difference = ImageDifference(from: old, to: try await ComparedImage(other))
        #expect(difference.registers == ["tpm/sha256/11", "tpm/sha384/11"])
        #expect(difference.contents.isEmpty, "a manifest names no packages")
        #expect(difference.old != difference.new)
    }

    @Test("a side that is no image is named with what it lacks", arguments: ["empty", "absent", "broken"])
    func refused(kind: String) async throws {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/\(kind)"
        if kind == "empty" { try HostFiles.makeDirectory(path) }
        if kind == "broken" { try HostFiles.write(path, Array("{".utf8)) }
        let finding = await #expect(throws: Finding.self) { _ = try await ComparedImage(path) }
        #expect(finding?.family == "parse")
        #expect(kind != "empty" || finding?.expected.contains("measurements.json") == true)
    }
}
