import Bytes
import Crypto
import TPM
import TestKit
import Testing

@testable import Attestation

/// Chains for attestation keys beyond the recorded ones.
@Suite struct AttestationKeyTests {
    static let time = Instant(seconds: 1_780_000_000)

    func judge(_ chain: [Certificate], _ roots: [Certificate], _ policy: JSON = .object([:])) -> String {
        func pem(_ list: [Certificate]) -> [UInt8] { Array(list.map(\.pem).joined().utf8) }
        let evidence = EvidenceCase(
            kind: "akcert", inputs: ["chain": pem(chain), "roots": pem(roots)], policy: policy, time: Self.time)
        return Judge.judge(evidence).reason
    }

    @Test func judgesOwnChains() throws {
        let root = try TestAuthority(root: "root")
        let other = try TestAuthority(root: "root")
        let key = try PrivateKey(generating: .p256).publicKey
        let good = try root.issue("ak", key, extensions: [TestAuthority.digitalSignature, TestAuthority.purpose(3)])
        #expect(judge([good], [root.certificate]) == "ok")
        #expect(judge([good, root.certificate], [root.certificate]) == "ok")
        // Same name, another key.
        #expect(judge([good], [other.certificate]) == "ak-chain")
        #expect(judge([good, root.certificate], [other.certificate]) == "ak-chain")
        // An endorsement key's certificate, one for another use of the key, and an authority are no attestation key's.
        let endorsement = try root.issue("ek", key, extensions: [TestAuthority.purpose(1)])
        #expect(judge([endorsement], [root.certificate]) == "ak-usage")
        let vendor = [root.certificate]
        _ = try AttestationKeyTrust(chain: [endorsement], roots: vendor, at: Self.time, usage: .endorsement)
        #expect(throws: Finding.self) {
            try AttestationKeyTrust(chain: [good], roots: vendor, at: Self.time, usage: .endorsement)
        }
        let issuing = try root.issue("ca key", key, extensions: [TestAuthority.certificateSigning])
        #expect(judge([issuing], [root.certificate]) == "ak-usage")
        #expect(judge([root.certificate], [root.certificate]) == "ak-usage")
        // A leaf does not issue.
        let rogue = try PrivateKey(generating: .p384)
        let leaf = try root.issue("leaf", rogue.publicKey, extensions: [TestAuthority.digitalSignature])
        #expect(judge([leaf], [root.certificate]) == "ok")
        // Dates.
        let early = try root.issue("ak", key, from: "390101000000Z")
        #expect(judge([early], [root.certificate]) == "ak-not-yet-valid")
        let late = try root.issue("ak", key, until: "210101000000Z")
        #expect(judge([late], [root.certificate]) == "ak-expired")
        // A policy about Google's machines is not met by a certificate that names none.
        #expect(judge([good], [root.certificate], ["instance": ["zone": "x"]]) == "ak-instance")
        #expect(judge([good], [root.certificate], ["zone": "x"]) == "parse-form")
    }

    @Test(arguments: ["zone", "project_number", "project_id", "instance_id", "instance_name", "production", "region"])
    func refusesAnotherMachine(_ field: String) throws {
        guard let vector = Vectors.cases("akcert").first(where: { $0.id == "ak-gce" }) else { return }
        var instance = vector.policy["instance"]?.object ?? [:]
        instance[field] = instance[field]?.string != nil ? "other" : field == "production" ? false : 1
        let evidence = EvidenceCase(
            kind: "akcert", inputs: ["chain": try vector.read("chain"), "roots": try vector.read("roots")],
            policy: .object(["instance": .object(instance)]), time: vector.time)
        #expect(Judge.judge(evidence).reason == (field == "region" ? "parse-form" : "ak-instance"))
    }

    /// As read from a TPM's NV index: DER and zeros; anything else behind it is refused.
    @Test func readsPaddedCertificates() throws {
        let root = try TestAuthority(root: "root")
        let leaf = try root.issue("ak", PrivateKey(generating: .p256).publicKey)
        let roots = Array(root.certificate.pem.utf8)
        for (padding, reason) in [([], "ok"), ([0, 0, 0], "ok"), ([0, 1], "parse-reserved")] as [([UInt8], String)] {
            let evidence = EvidenceCase(
                kind: "akcert", inputs: ["chain": leaf.der + padding, "roots": roots], time: Self.time)
            #expect(Judge.judge(evidence).reason == reason)
        }
    }

    /// Damage to a genuine leaf: none is accepted.
    @Test(arguments: Vectors.cases("akcert").filter { $0.verdict == "accept" })
    func refusesMutations(_ vector: Vectors.Case) throws {
        let chain = try AttestationKeyCertificate.chain(vector.read("chain"))
        let roots = try AttestationKeyCertificate.chain(vector.read("roots"))
        let leaf = try #require(chain.first)
        var generator = SeededGenerator(seed: 3)
        for _ in 0..<mutations(quick: 500) {
            let changed = mutate(leaf.der, with: &generator)
            guard changed != leaf.der, let certificate = try? Certificate(der: changed) else { continue }
            #expect(throws: Finding.self) {
                try AttestationKeyTrust(chain: [certificate] + chain.dropFirst(), roots: roots, at: vector.time)
            }
        }
    }

    /// A quote by a key that a certificate vouches for is not a development quote; another key's certificate is refused.
    @Test func certificatesLiftTheDevelopmentMark() throws {
        guard let vector = Vectors.cases("tpmquote").first(where: { $0.id == "tpm-ok-rsassa" }) else { return }
        let root = try TestAuthority(root: "root")
        var inputs: [String: [UInt8]] = [:]
        for name in vector.inputs.keys { inputs[name] = try vector.read(name) }
        func judge() -> Verdict {
            Judge.judge(EvidenceCase(kind: "tpmquote", inputs: inputs, policy: vector.policy, time: Self.time))
        }
        #expect(judge().marks == ["development"])
        inputs["ak_roots"] = root.certificate.der
        let key = try AttestationKey(parsing: vector.read("ak")).publicKey
        inputs["ak_chain"] = try root.issue("ak", key).der
        #expect(judge().isAccepted)
        #expect(judge().marks == [])
        inputs["ak_chain"] = try root.issue("ak", PrivateKey(generating: .p256).publicKey).der
        #expect(judge().reason == "ak-binding")
    }
}
