import Attestation
import Bytes
import Cluster
import Host
import TestKit
import Testing

@testable import Provisioning

@Suite("Documents of a cluster's directory")
struct DocumentTests {
    static let document = ClusterDocument(
        instance: [UInt8](repeating: 7, count: 16),
        identity: try? ClusterIdentity(
            clusterID: [UInt8](repeating: 8, count: 32), owner: [UInt8](repeating: 9, count: 32)),
        created: Instant(seconds: 1_700_000_000), madeDirectory: true,
        image: "/i.raw", manifest: "/m.json", bundle: "/b", trustRoot: "/t",
        manifestDigest: [UInt8](repeating: 9, count: 32), firmwareCode: "/f/c",
        firmwareVariables: "/f/v", memoryMiB: 2048, processors: 2, disk: .label("state"), rules: .development,
        nodes: [
            .init(name: "control-plane-0", role: .controlPlane, port: 40000, channelPort: 40002),
            .init(name: "worker-0", role: .worker, port: 40001),
        ])

    @Test("cluster.json comes back as it was written")
    func roundTrip() throws {
        #expect(try ClusterDocument(parsing: Array(Self.document.json.pretty.utf8)) == Self.document)
    }

    @Test("a policy of the owner's own comes back as it was written, and goes before the rules")
    func ownPolicy() throws {
        var document = Self.document
        #expect(document.judging.policy == .development)
        document.attestation = .production
        #expect(try ClusterDocument(parsing: Array(document.json.pretty.utf8)) == document)
        #expect(document.judging.policy == .production)
    }

    @Test("a damaged cluster.json is refused or a sound value, never a crash")
    func damage() {
        let bytes = Array(Self.document.json.pretty.utf8)
        for count in 0..<bytes.count - 1 {
            #expect(throws: ParseError.self) { try ClusterDocument(parsing: Array(bytes[..<count])) }
        }
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<2000 {
            guard let document = try? ClusterDocument(parsing: mutate(bytes, with: &generator)) else { continue }
            #expect(document.nodes.allSatisfy { ClusterDocument.Node.isName($0.name) && $0.port > 0 })
        }
    }

    @Test(
        "fields that are refused",
        arguments: [
            ("\"nacre.cluster.v1\"", "\"nacre.cluster.v2\""), ("\"qemu\"", "\"aws\""), ("\"worker-0\"", "\"../x\""),
            ("\"worker-0\"", "\"control-plane-0\""), ("\"worker\"", "\"root\""), ("127.0.0.1:40001", "10.0.0.1:40001"),
            ("127.0.0.1:40001", "127.0.0.1:0"), ("\"memoryMiB\"", "\"memory\""), ("2048", "1"),
            ("\"development\"", "\"lenient\""), ("\"rules\"", "\"rule\""), ("{\n", "{\"more\":1,\n"),
        ])
    func refused(_ old: String, _ new: String) throws {
        let text = Self.document.json.pretty
        let cut = try #require(text.firstRange(of: old))
        #expect(throws: ParseError.self) {
            try ClusterDocument(parsing: Array(text.replacingCharacters(cut, with: new).utf8))
        }
    }

    @Test("processes.json comes back as it was written")
    func record() throws {
        let record = MachineRecord(
            qemu: ProcessIdentity(pid: 10, startTime: .max, bootID: "b"),
            swtpm: ProcessIdentity(pid: 11, startTime: 5, bootID: "b"),
            acceleration: Acceleration(kind: .tcg, reason: "r"), started: Instant(seconds: 5), consoleOffset: 12)
        #expect(try MachineRecord(parsing: Array(record.json.pretty.utf8)) == record)
    }
}

extension String {
    fileprivate func firstRange(of other: String) -> Range<Index>? {
        indices.lazy.map { $0..<(self.index($0, offsetBy: other.count, limitedBy: self.endIndex) ?? self.endIndex) }
            .first { self[$0] == other }
    }

    fileprivate func replacingCharacters(_ range: Range<Index>, with other: String) -> String {
        String(self[..<range.lowerBound]) + other + self[range.upperBound...]
    }
}
