import Bytes
import Crypto
import Glibc
import TestKit
import Testing

@testable import TPM

/// Agreement with tpm2-tools, an independent implementation. Skipped, saying so, where the tools are missing.
@Suite struct GoldenTests {
    static let hasTools: Bool = {
        let found = unsafe access("/usr/bin/tpm2_checkquote", X_OK) == 0
        if !found { print("skipped: tpm2-tools are not here, nothing was compared with them") }
        return found && Vectors.root != nil
    }()

    /// Standard output and exit status of a shell command of this file's own making.
    static func run(_ command: String) -> (output: String, status: Int32) {
        guard let answer = try? Tool.run(["/bin/sh", "-c", "exec \(command)"]) else { return ("", -1) }
        return (answer.text, answer.status)
    }

    /// The file that `tpm2_quote` writes: selection, then digests in groups of eight.
    static func toolFile(_ pcrs: PCRBank, _ hash: HashAlgorithm) -> [UInt8] {
        var writer = ByteWriter()
        let indices = pcrs.values[hash, default: [:]].keys.sorted()
        writer.le(UInt32(1))
        writer.le(hash.tpmIdentifier)
        writer.u8(3)
        var bitmap: [UInt8] = [0, 0, 0, 0, 0]
        for index in indices { bitmap[index / 8] |= 1 << UInt8(index % 8) }
        writer.append(bitmap)
        writer.zeros(132 - writer.bytes.count)
        writer.le(UInt32((indices.count + 7) / 8))
        for start in stride(from: 0, to: indices.count, by: 8) {
            let group = indices[start..<min(start + 8, indices.count)]
            writer.le(UInt32(group.count))
            for index in group {
                writer.le(UInt16(hash.size))
                writer.append(pcrs[hash, index] ?? [])
                writer.zeros(64 - hash.size)
            }
            writer.zeros((8 - group.count) * 66)
        }
        return writer.bytes
    }

    /// Version 5.4 of the tool cannot check RSAPSS; that scheme is left out.
    @Test(
        .enabled(if: hasTools),
        arguments: [
            ("q_rsassa", "ak_rsassa", "sha256"), ("q_ecdsa256", "ak_ecdsa256", "sha256"),
            ("q_ecdsa384", "ak_ecdsa384", "sha384"), ("q_0to7", "ak_rsassa", "sha256"),
        ])
    func agreesWithCheckquote(_ name: String, _ key: String, _ bank: String) throws {
        let folder = "\(Vectors.root ?? "")/tpm/swtpm"
        let hash = try #require(HashAlgorithm(rawValue: bank))
        let quote = try Quote(attest: QuoteTests.read("\(name).attest"), signature: QuoteTests.read("\(name).sig"))
        let ak = try AttestationKey(parsing: QuoteTests.read("\(key).pub"))
        let honest = try quote.verify(ak: ak, nonce: QuoteTests.nonce, pcrs: QuoteTests.pcrs())
        var edited = honest
        edited[hash, 0] = [UInt8](repeating: 0, count: hash.size)
        let temporary = "/tmp/nacre-golden-\(getpid())-\(name)"
        defer { unsafe unlink(temporary) }
        for (pcrs, nonce) in [(honest, QuoteTests.nonce), (edited, QuoteTests.nonce), (honest, [0])] {
            try writeFile(temporary, Self.toolFile(pcrs, hash))
            let tool = Self.run(
                "tpm2_checkquote -u \(folder)/\(key).pub -m \(folder)/\(name).attest -s \(folder)/\(name).sig "
                    + "-g \(bank) -q \(Hex.encode(nonce)) -f \(temporary)")
            let ours = (try? quote.verify(ak: ak, nonce: nonce, pcrs: pcrs)) != nil
            #expect((tool.status == 0) == ours)
        }
    }

    /// The values under `pcrs:` at the end of the tool's output.
    static func registers(_ output: String) throws -> PCRBank {
        var values = PCRBank()
        var bank: HashAlgorithm?
        let lines = output.split(separator: "\n")
        let start = try #require(lines.firstIndex(of: "pcrs:"))
        for line in lines[(start + 1)...] {
            let parts = line.split(whereSeparator: { " :".contains($0) }).map(String.init)
            if parts.count == 1 {
                bank = HashAlgorithm(rawValue: parts[0])
            } else if let bank, parts.count == 2, let index = Int(parts[0]) {
                values[bank, index] = Hex.decode(parts[1].dropFirst(2))
            }
        }
        return values
    }

    @Test(.enabled(if: hasTools), arguments: Vectors.cases("evlog").filter { $0.verdict == "accept" })
    func replaysAsEventlog(_ vector: Vectors.Case) throws {
        let path = "\(Vectors.root ?? "")/\(vector.inputs["log"]?.string ?? "")"
        let tool = try Self.registers(Self.run("tpm2_eventlog \(path)").output)
        #expect(!tool.sorted.isEmpty)
        #expect(try EventLog(parsing: vector.read("log")).replay() == tool)
    }
}
