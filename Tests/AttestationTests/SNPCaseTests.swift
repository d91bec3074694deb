import Bytes
import Crypto
import SEVSNP
import TestKit
import Testing

@testable import Attestation

/// Inputs of the kind `snp` in their other forms, and the cache of verified chains.
@Suite(.enabled(if: SNPTestPKI.shared != nil)) struct SNPCaseTests {
    let pki: SNPTestPKI
    /// 2026-02-01T00:00:00Z.
    let time = Instant(seconds: 1_769_904_000)

    init() throws { pki = try #require(SNPTestPKI.shared) }

    private func judge(_ inputs: [String: [UInt8]], at: Instant? = nil) -> String {
        Judge.judge(EvidenceCase(kind: "snp", inputs: inputs, time: at ?? time)).reason
    }

    private func inputs() throws -> [String: [UInt8]] {
        let made = try pki.hierarchy()
        return [
            "report": try pki.report().serialize(), "vek": made.vek.der, "chain": made.chainPEM,
            "roots": made.rootsPEM,
        ]
    }

    @Test func missingAndUnreadableInputs() throws {
        let good = try inputs()
        #expect(judge(good) == "ok")
        for name in ["report", "vek"] {
            var inputs = good
            inputs[name] = nil
            #expect(judge(inputs) == "parse-missing", "\(name)")
        }
        for name in ["report", "vek", "chain", "roots", "crl"] {
            for garbage in [
                [], [0x30], Array("-----BEGIN CERTIFICATE-----\n".utf8), [UInt8](repeating: 0x30, count: 70_000),
            ] {
                var inputs = good
                inputs[name] = garbage
                #expect(judge(inputs).hasPrefix("parse-"), "\(name), \(garbage.count) bytes")
            }
        }
        var otherRoots = good
        otherRoots["roots"] = nil
        #expect(judge(otherRoots) == "chain-root", "AMD's own roots stand in")
        var otherChain = good
        otherChain["chain"] = nil
        #expect(judge(otherChain) == "chain-root", "AMD's own chain stands in")
    }

    /// `auxblob` stands in for `vek` and `chain`, with contents DER or PEM.
    @Test func certificatesFromTheTable() throws {
        let made = try pki.hierarchy()
        let report = try pki.report().serialize()
        func table(_ entries: [CertificateTable.Entry]) -> [String: [UInt8]] {
            ["report": report, "auxblob": CertificateTable(entries: entries).serialize(), "roots": made.rootsPEM]
        }
        let der: [CertificateTable.Entry] = [
            .init(name: .vcek, contents: made.vek.der), .init(name: .ask, contents: made.ask.der),
            .init(name: .ark, contents: made.ark.der),
        ]
        #expect(judge(table(der)) == "ok")
        let pem = [made.vek, made.ask, made.ark].map { Array($0.pem.utf8) }
        let names: [CertificateTable.Name] = [.vcek, .ask, .ark]
        #expect(judge(table(zip(names, pem).map { .init(name: $0, contents: $1) })) == "ok")
        #expect(judge(table([.init(name: .vlek, contents: made.vek.der)])) == "parse-missing")
        #expect(judge(table([der[0], .init(name: .ask, contents: [1]), der[2]])) == "parse-certificate")
        var broken = table(der)
        broken["auxblob"] = [UInt8](repeating: 1, count: 24) + [UInt8](repeating: 0, count: 24)
        #expect(judge(broken) == "range")
        #expect(judge(table([der[0]])) == "chain-root", "AMD's own chain stands in for a missing one")
    }

    /// A warm cache changes no verdict: time, report, roots and list still decide.
    @Test func warmChainsAreStillJudged() throws {
        let good = try inputs()
        for _ in 0..<3 { #expect(judge(good) == "ok") }
        #expect(judge(good, at: Instant(seconds: 1_000_000_000)) == "cert-not-yet-valid")
        #expect(judge(good, at: Instant(seconds: 4_000_000_000)) == "cert-expired")
        var flipped = good
        flipped["report"]?[0x90] ^= 1
        #expect(judge(flipped) == "signature")
        var roots = good
        roots["roots"] = Array(AMDAnchors.rootsPEM.utf8)
        #expect(judge(roots) == "chain-root")
        var revoked = good
        revoked["crl"] = try pki.revocationList(revoked: [[1, 1]]).der
        for _ in 0..<2 { #expect(judge(revoked) == "crl-revoked") }
        var current = good
        current["crl"] = try pki.revocationList { $0.notAfter = "20260301000000Z" }.der
        #expect(judge(current) == "ok")
        #expect(judge(current, at: Instant(seconds: 1_780_000_000)) == "crl-expired")
        #expect(judge(good, at: Instant(seconds: 1_780_000_000)) == "ok")
    }

    @Test func cacheIsBoundedAndForgetsTheOldest() throws {
        let made = try pki.hierarchy()
        let chain = try VerifiedChain(
            endorsement: try EndorsementKey(made.vek.der), chain: made.chain, roots: [made.ark], revocationList: nil)
        let cache = SNPChainCache(capacity: 4)
        func key(_ index: Int, size: Int = 8) -> SNPChainCache.Key {
            SNPChainCache.Key(SNPEvidence(report: [], vek: [UInt8](repeating: UInt8(index), count: size)))
        }
        for index in 0..<4 { cache[key(index)] = chain }
        #expect(cache[key(0)] != nil, "used again, so not the oldest")
        cache[key(4)] = chain
        #expect(cache.count == 4 && cache[key(0)] != nil && cache[key(1)] == nil && cache[key(4)] != nil)
        cache[key(5, size: SNPChainCache.maximumKeySize + 1)] = chain
        #expect(cache.count == 4, "large inputs are not kept")
    }

    @Test func manyThreadsShareTheCache() async throws {
        let good = try inputs()
        var bad = good
        bad["report"]?[0x90] ^= 1
        let (accepted, refused, time) = (good, bad, time)
        let isRight = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<100 {
                group.addTask {
                    let inputs = index % 2 == 0 ? accepted : refused
                    let verdict = Judge.judge(EvidenceCase(kind: "snp", inputs: inputs, time: time))
                    return verdict.reason == (index % 2 == 0 ? "ok" : "signature")
                }
            }
            return await group.reduce(true) { $0 && $1 }
        }
        #expect(isRight)
    }
}
