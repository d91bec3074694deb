import Bytes
import Glibc
import TestKit
import Testing

@testable import Attestation

/// Every case of the kinds that compute: the values under `claims` are those of the index.
@Suite struct MeasureJudgeTests {
    static let cases = Vectors.cases("snp-measure", "mrtd", "pcr11", "pcr-predict")

    @Test(arguments: cases) func computesWhatTheIndexExpects(_ vector: Vectors.Case) throws {
        let verdict = Judge.judge(try Self.evidence(vector))
        #expect((verdict.isAccepted ? "accept" : "reject") == vector.verdict, "\(verdict)")
        if let finding = verdict.finding { #expect(vector.families.contains(String(finding.family)), "\(finding)") }
        for (name, value) in vector.expect.object ?? [:] where !["verdict", "reason", "also"].contains(name) {
            #expect(verdict.claims[name] == value)
        }
    }

    @Test(arguments: cases.filter { $0.verdict == "accept" })
    func damagedInputsNeverCrash(_ vector: Vectors.Case) throws {
        let whole = try Self.evidence(vector)
        var generator = SeededGenerator(seed: vector.id.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) })
        for _ in 0..<20 {
            var inputs = whole.inputs
            let names = inputs.keys.sorted()
            let name = names[Int.random(in: 0..<names.count, using: &generator)]
            inputs[name] = mutate(inputs[name] ?? [], with: &generator)
            _ = Judge.judge(EvidenceCase(kind: whole.kind, inputs: inputs, policy: whole.policy, time: whole.time))
        }
    }

    @Test(arguments: [
        ("vcpu_family", 271), ("vcpu_family", -1), ("vcpu_model", 256), ("vcpu_stepping", 16),
    ])
    func processorNumbersBeyondCPUIDAreRefused(name: String, value: Int) throws {
        func claim(_ name: String, _ value: Int) -> String {
            var policy: [String: JSON] = ["vcpus": 1, "vcpu_family": 270, "vcpu_model": 255, "vcpu_stepping": 15]
            policy[name] = .integer(Int128(value))
            let verdict = Judge.judge(
                EvidenceCase(
                    kind: "snp-measure", inputs: ["ovmf": []], policy: .object(policy), time: Instant(seconds: 0)))
            #expect(verdict.reason == "parse-range")
            return verdict.finding?.claim ?? ""
        }
        #expect(claim(name, value).contains(name))
        #expect(!claim(name, 1).contains(name), "then it is the empty firmware that is refused")
    }

    @Test func everyKindHasItsInputsListed() {
        #expect(Set(Judge.inputs.keys) == Set(Judge.kinds.keys))
        for vector in Judge.kinds.keys.sorted().flatMap({ Vectors.cases($0) }) {
            #expect(Judge.unused(Set(vector.inputs.keys), of: vector.kind)?.name == nil, "\(vector.id)")
        }
        #expect(Judge.unused(["ak_roots"], of: "tpmquote")?.name == "ak_roots")
        #expect(Judge.unused(["ak_roots", "ak_chain"], of: "tpmquote")?.name == nil)
        #expect(Judge.unused(["report", "quote"], of: "snp")?.name == "quote")
        #expect(Judge.unused(["vek", "auxblob"], of: "snp")?.name == "auxblob")
        #expect(Judge.unused(["anything"], of: "sgx")?.name == nil)
    }

    @Test func svsmGoesWithItsMode() {
        let verdict = Judge.judge(
            EvidenceCase(
                kind: "snp-measure", inputs: ["ovmf": [], "svsm": []], policy: ["mode": "snp"],
                time: Instant(seconds: 0)))
        #expect(verdict.reason == "parse-form")
        #expect(verdict.finding?.claim == "svsm")
    }

    /// A case with its inputs read; a folder becomes `dir/<path>`.
    static func evidence(_ vector: Vectors.Case) throws -> EvidenceCase {
        var inputs: [String: [UInt8]] = [:]
        for (name, path) in vector.inputs {
            let path = path.string ?? ""
            if name == "dir" {
                for file in files(below: "\(Vectors.root ?? "")/\(path)") {
                    inputs["dir/\(file)"] = try Vectors.read("\(path)/\(file)")
                }
            } else {
                inputs[name] = try Vectors.read(path)
            }
        }
        return EvidenceCase(kind: vector.kind, inputs: inputs, policy: vector.policy, time: vector.time)
    }

    private static func files(below folder: String) -> [String] {
        guard let handle = unsafe opendir(folder) else { return [] }
        defer { _ = unsafe closedir(handle) }
        var files: [String] = []
        while let entry = unsafe readdir(handle) {
            let isFolder = unsafe entry.pointee.d_type == UInt8(DT_DIR)
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { unsafe $0.prefix { $0 != 0 }.map { $0 } }
            let text = String(decoding: name, as: UTF8.self)
            if text.hasPrefix(".") { continue }
            files += isFolder ? Self.files(below: "\(folder)/\(text)").map { "\(text)/\($0)" } : [text]
        }
        return files
    }
}
