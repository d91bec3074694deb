import Bytes
import Crypto
import SyntheticNode
import Testing

@testable import Attestation

/// Evidence is written and read without a tree of JSON where it has the usual form: to the same bytes, to the same values,
/// and never where the reader of JSON would have refused it.
@Suite struct EvidenceFormTests {
    private func samples() throws -> [Evidence] {
        let usual = try SyntheticNode().evidence()
        var samples = [usual]
        func add(_ change: (inout Evidence) throws -> Void) rethrows {
            var other = usual
            try change(&other)
            samples.append(other)
        }
        let id = [UInt8](repeating: 0xAB, count: 32)
        try add { $0.cluster = try ClusterIdentity(clusterID: id, owner: [UInt8](repeating: 7, count: 32)) }
        add { $0.imageDigest = id }
        add { $0.platform = .snp }
        add { $0.stages = [] }
        add { $0.stages = [.init(name: "a \"b\"\n", milliseconds: -3), .init(name: "é", milliseconds: .max)] }
        add { $0.stages = (0..<64).map { .init(name: "stage \($0)", milliseconds: $0) } }
        add { $0.tpm?.certificates = [[1], [2, 3], []] }
        add { $0.tpm?.registers = [:] }
        add { $0.tpm?.registers = [.sha1: [:], .sha512: [9: [UInt8](repeating: 1, count: 64)]] }
        add { $0.tpm?.registers[.sha256] = Dictionary(uniqueKeysWithValues: (0...23).map { ($0, id) }) }
        add { $0.tpm?.registers[.sha256]?[24] = id }
        add { $0.tpm?.endorsementKey = .init(certificate: [1], chain: [], publicArea: [2]) }
        add { $0.tpm = nil }
        add { $0.collateral = ["a": "b"] }
        add { evidence in
            evidence.platform = .tdx
            evidence.tee = .init(report: [1, 2], auxiliary: [], eventLog: [3])
        }
        return samples
    }

    @Test func `the bytes are those of the tree`() throws {
        for evidence in try samples() { #expect(evidence.bytes == Array(evidence.json.compact.utf8)) }
    }

    @Test func `what is read at once is what the tree gives`() throws {
        var direct = 0
        for evidence in try samples() {
            let bytes = evidence.bytes
            var reader = EvidenceReader(bytes)
            guard let read = reader.read() else { continue }
            direct += 1
            #expect(read == evidence)
            #expect(try read == Evidence(json: JSON(parsing: bytes)))
        }
        #expect(direct == 10)
    }

    /// Every byte replaced, taken out and doubled: what the quick reader takes, the other one takes too, to the same value.
    @Test func `nothing is accepted that the tree refuses`() throws {
        var node = try SyntheticNode()
        node.events = Array(node.events.prefix(3))
        node.quoted = [0, 11]
        var evidence = try node.evidence()
        evidence.cluster = try ClusterIdentity(
            clusterID: [UInt8](repeating: 1, count: 32), owner: [UInt8](repeating: 2, count: 32))
        evidence.tpm?.certificates = [[1, 2, 3]]
        let bytes = evidence.bytes
        var accepted = 0
        func compare(_ changed: [UInt8]) throws {
            var reader = EvidenceReader(changed)
            guard let read = reader.read() else { return }
            accepted += 1
            #expect(try read == Evidence(json: JSON(parsing: changed)))
        }
        let replacements = Array("\"\\{}[],:0 9aAzZ=+/-\u{1}\u{7F}".utf8) + [0xFF]
        for index in bytes.indices {
            for byte in [replacements[index % replacements.count], bytes[index] ^ 1, bytes[index] ^ 0x20] {
                var changed = bytes
                changed[index] = byte
                try compare(changed)
            }
            var changed = bytes
            changed.remove(at: index)
            try compare(changed)
            changed = bytes
            changed.insert(bytes[index], at: index)
            try compare(changed)
        }
        // Digits of values may change; that is not for a reader to say.
        #expect(accepted > 0)
    }

    @Test func `fields that stand twice or that nobody knows are refused`() throws {
        let text = String(decoding: try SyntheticNode().evidence().bytes, as: UTF8.self)
        for (from, to) in [
            ("\"platform\":\"tpm\",", "\"platform\":\"tpm\",\"platform\":\"tpm\","),
            ("\"platform\":\"tpm\",", "\"platform\":\"tpm\",\"other\":1,"),
            ("{\"sha256\":{", "{\"sha256\":{},\"sha256\":{"),
            ("\"sha256\":{\"0\":", "\"sha256\":{\"00\":"), ("\"sha256\":{\"0\":", "\"sha256\":{\"24\":"),
            ("evidence.v1", "evidence.v2"),
        ] {
            let changed = text.replacing(from, with: to)
            #expect(changed != text)
            #expect(throws: ParseError.self) { try Evidence(parsing: Array(changed.utf8)) }
        }
    }
}
