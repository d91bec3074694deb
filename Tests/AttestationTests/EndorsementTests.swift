import Bytes
import Crypto
import Manifest
import SyntheticNode
import TPM
import TestKit
import Testing

@testable import Attestation

/// Endorsement certificates and activation in the appraisal of a whole node.
@Suite struct EndorsementTests {
    static let time = Instant(seconds: 1_780_000_000)
    let root: TestAuthority
    let endorsement: SyntheticEndorsement
    let node: SyntheticNode

    init() throws {
        root = try TestAuthority(root: "vendor")
        endorsement = try SyntheticEndorsement()
        node = try SyntheticNode()
    }

    func certificate(
        _ extensions: [[UInt8]] = TestAuthority.endorsement, by authority: TestAuthority? = nil,
        until: String = "400101000000Z"
    ) throws -> Certificate {
        try (authority ?? root).issue("ek", endorsement.key.publicKey, extensions: extensions, until: until)
    }

    func evidence(_ certificate: Certificate, area: [UInt8]? = nil) throws -> Evidence {
        var evidence = try node.evidence()
        evidence.tpm?.endorsementKey = .init(
            certificate: certificate.der, chain: [], publicArea: area ?? endorsement.area())
        return evidence
    }

    func policy(_ root: AppraisalPolicy.TPMRoot = .certified, _ authority: TestAuthority? = nil) -> AppraisalPolicy {
        var policy = AppraisalPolicy(platforms: [.tpm], allowTPMRoot: root)
        policy.endorsementRoots = [(authority ?? self.root).certificate.der]
        return policy
    }

    func judge(
        _ evidence: Evidence, _ policy: AppraisalPolicy, _ activation: Activation? = nil
    ) throws -> Verdict {
        Appraisal.judge(
            evidence, nonce: node.nonce, reference: .pinned(try SyntheticNode.manifest()), policy: policy,
            activation: activation, at: Self.time
        ).verdict
    }

    /// The TPM's own answer.
    func activation(_ evidence: Evidence) throws -> Activation {
        let challenge = try ActivationChallenge(evidence, nonce: node.nonce)
        let key = evidence.tpm?.attestationKey ?? []
        return Activation(
            challenge: challenge, proof: try endorsement.activate(challenge.request, attestationKey: key))
    }

    @Test func certifiedByVendorAndActivation() throws {
        let evidence = try evidence(certificate())
        let verdict = try judge(evidence, policy(), activation(evidence))
        #expect(verdict.reason == "ok")
        #expect(verdict.marks.isEmpty)
        #expect(verdict.claims["tpmRoot"] == "certified")
        #expect(verdict.claims["endorsement"]?["vendor"] == "IBM")
        #expect(verdict.unchecked.contains("tpm endorsement key: revocation by its vendor"))
        // The same under rules that would take anybody's TPM: no mark either.
        #expect(try judge(evidence, policy(.development), activation(evidence)).marks.isEmpty)
        #expect(try Evidence(parsing: Array(evidence.json.compact.utf8)) == evidence)
    }

    @Test func savedEvidenceHasNoActivation() throws {
        let evidence = try evidence(certificate())
        #expect(try judge(evidence, policy()).reason == "key-activation")
        let lenient = try judge(evidence, policy(.development))
        #expect(lenient.reason == "ok" && lenient.marks == ["development"])
        #expect(lenient.unchecked.contains { $0.hasPrefix("tpm attestation key: activation") })
        // Without roots the key counts for nothing, and nothing is said of it.
        let anybody = try judge(evidence, AppraisalPolicy(platforms: [.tpm], allowTPMRoot: .development))
        #expect(anybody.marks == ["development"] && anybody.claims["endorsement"] == nil)
        #expect(try judge(evidence, AppraisalPolicy(platforms: [.tpm])).reason == "policy-tpm-root")
        #expect(try judge(node.evidence(), policy()).reason == "policy-tpm-root")
    }

    @Test func answersOfOtherSessionsAndKeys() throws {
        let evidence = try evidence(certificate())
        let earlier = try activation(evidence)
        let now = try ActivationChallenge(evidence, nonce: node.nonce)
        #expect(
            try judge(evidence, policy(), Activation(challenge: now, proof: earlier.proof)).reason == "key-activation")
        #expect(try judge(evidence, policy(), Activation(challenge: now, proof: [])).reason == "key-activation")
        // A challenge for another nonce, another attestation key, another endorsement key.
        let old = try ActivationChallenge(evidence, nonce: [UInt8](repeating: 1, count: 32))
        #expect(
            try judge(evidence, policy(), Activation(challenge: old, proof: old.expected)).reason == "key-activation")
        var other = evidence
        other.tpm?.attestationKey = try SyntheticNode().attestationKey
        #expect(try judge(evidence, policy(), activation(other)).reason == "key-activation")
        other = try self.evidence(certificate(), area: SyntheticEndorsement().area())
        let elsewhere = try ActivationChallenge(other, nonce: node.nonce)
        let answer = Activation(challenge: elsewhere, proof: elsewhere.expected)
        #expect(try judge(evidence, policy(), answer).reason == "key-activation")
    }

    @Test func whereNobodyNeedsTheCertificateAStrangersIsAsGoodAsNone() throws {
        let stranger = try evidence(certificate(by: TestAuthority(root: "vendor")))
        let verdict = try judge(stranger, policy(.development))
        #expect(verdict.isAccepted && verdict.marks.contains("development"))
        #expect(verdict.unchecked.contains { $0.hasPrefix("tpm endorsement key: key-ek-chain") })
        // A wrong answer is never let through.
        let good = try evidence(certificate())
        let challenge = try ActivationChallenge(good, nonce: node.nonce)
        let wrong = Activation(challenge: challenge, proof: [UInt8](repeating: 0, count: 32))
        #expect(try judge(good, policy(.development), wrong).reason == "key-activation")
    }

    @Test func certificatesThatDoNotHold() throws {
        func reason(_ certificate: Certificate, area: [UInt8]? = nil, by root: TestAuthority? = nil) throws -> String {
            let good = try evidence(self.certificate())
            return try judge(evidence(certificate, area: area), policy(.certified, root), activation(good)).reason
        }
        let other = try TestAuthority(root: "vendor")
        #expect(try reason(certificate(), by: other) == "key-ek-chain")
        #expect(try reason(certificate(by: other)) == "key-ek-chain")
        #expect(try reason(certificate(until: "210101000000Z")) == "key-ek-expired")
        #expect(try reason(certificate([TestAuthority.keyAgreement, TestAuthority.tpmNames()])) == "key-ek-usage")
        #expect(
            try reason(certificate([TestAuthority.purpose(3), TestAuthority.keyAgreement, TestAuthority.tpmNames()]))
                == "key-ek-usage")
        #expect(try reason(certificate([TestAuthority.purpose(1), TestAuthority.tpmNames()])) == "key-ek-usage")
        let signing = TestAuthority.digitalSignature
        #expect(
            try reason(certificate([TestAuthority.purpose(1), signing, TestAuthority.tpmNames()])) == "key-ek-usage")
        #expect(try reason(certificate([TestAuthority.purpose(1), TestAuthority.keyAgreement])) == "key-ek-names")
        #expect(
            try reason(certificate([TestAuthority.purpose(1), TestAuthority.keyAgreement, TestAuthority.tpmNames(2)]))
                == "key-ek-names")
        #expect(
            try reason(certificate([TestAuthority.purpose(1), TestAuthority.keyAgreement, TestAuthority.tpmNames(4)]))
                == "parse-form")
        let unknown = TestAuthority.extensionDER([0x2A, 0x03, 0x04], critical: true, [5, 0])
        #expect(
            try reason(
                certificate([TestAuthority.purpose(1), TestAuthority.keyAgreement, TestAuthority.tpmNames(), unknown]))
                == "key-ek-chain")
        // Of another TPM; a key that signs; one that may leave the TPM.
        let stranger = try PrivateKey(generating: .p256).publicKey
        #expect(try reason(certificate(), area: endorsement.area(of: stranger)) == "key-ek-binding")
        let signer = endorsement.area(attributes: 0x0007_00B2)
        #expect(try reason(certificate(), area: signer) == "key-ek-attributes")
        #expect(try reason(certificate(), area: endorsement.area(attributes: 0x0003_00A0)) == "key-ek-attributes")
    }

    @Test func documentsAreStrict() throws {
        let evidence = try evidence(certificate())
        guard case .object(let fields) = evidence.json, case .object(var tpm)? = fields["tpm"],
            case .object(let endorsement)? = tpm["endorsementKey"]
        else {
            Issue.record("no endorsement key")
            return
        }
        func parses(_ change: (inout [String: JSON]) -> Void) -> Bool {
            var (fields, endorsement) = (fields, endorsement)
            change(&endorsement)
            tpm["endorsementKey"] = .object(endorsement)
            fields["tpm"] = .object(tpm)
            return (try? Evidence(json: .object(fields))) != nil
        }
        #expect(parses { _ in })
        for key in ["certificate", "chain", "public"] { #expect(!parses { $0[key] = nil }) }
        #expect(!parses { $0["other"] = 1 })
        #expect(!parses { $0["certificate"] = "" })
        #expect(!parses { $0["public"] = "AA" })
        #expect(!parses { $0["chain"] = .array([JSON](repeating: "AAAA", count: 9)) })
        // The policy names certificates, once each.
        var policy = policy()
        #expect(try AppraisalPolicy(json: policy.json) == policy)
        #expect(policy.outline(nil).contains { $0.claim == "tpm endorsement root" && $0.mark == .held })
        policy.endorsementRoots.append(policy.endorsementRoots[0])
        #expect(throws: ParseError.self) { try AppraisalPolicy(json: policy.json) }
        let explained = try EvidenceExplanation(Array(evidence.json.compact.utf8))
        #expect(explained.rows.contains { $0.claim == "tpm.endorsement.manufacturer" && $0.detail.contains("IBM") })
        #expect(explained.rows.contains { $0.claim == "tpm.endorsement.key" && $0.mark == .held })
    }

    /// Requests and answers: round trip, every truncation, unknown fields, random damage.
    @Test func requestsAreStrict() throws {
        let request = try ActivationChallenge(evidence(certificate()), nonce: node.nonce).request
        let bytes = Array(request.json.compact.utf8)
        #expect(try ActivationRequest(parsing: bytes) == request)
        for count in bytes.indices {
            #expect(throws: ParseError.self) { try ActivationRequest(parsing: Array(bytes.prefix(count))) }
        }
        for count in request.credential.blob.indices {
            #expect(throws: ParseError.self) {
                try Credential(blob: Array(request.credential.blob.prefix(count)), seed: request.credential.seed)
            }
        }
        for count in request.credential.seed.indices {
            #expect(throws: ParseError.self) {
                try Credential(blob: request.credential.blob, seed: Array(request.credential.seed.prefix(count)))
            }
        }
        for (key, value) in [("other", 1), ("nonce", "00"), ("schema", "nacre.activate.v2")] as [(String, JSON)] {
            var fields = request.json.object ?? [:]
            fields[key] = value
            #expect(throws: ParseError.self) {
                try ActivationRequest(parsing: Array(JSON.object(fields).compact.utf8))
            }
        }
        #expect(throws: ParseError.self) { try ActivationRequest(parsing: [UInt8](repeating: 0x20, count: 4097)) }
        let answer = ActivationRequest.answer([UInt8](repeating: 7, count: 32))
        #expect(try ActivationRequest.proof(parsing: Array(answer.compact.utf8)) == [UInt8](repeating: 7, count: 32))
        let short = ActivationRequest.answer([UInt8](repeating: 7, count: 31))
        #expect(throws: ParseError.self) { try ActivationRequest.proof(parsing: Array(short.compact.utf8)) }
    }

    /// Damage to an accepted endorsement key: never accepted, unless in bits that nothing reads.
    @Test func refusesMutations() throws {
        let good = try evidence(certificate())
        let activation = try activation(good)
        let original = try #require(good.tpm?.endorsementKey)
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<mutations(quick: 300) {
            var damaged = good
            let isCertificate = Bool.random(using: &generator)
            if isCertificate {
                damaged.tpm?.endorsementKey?.certificate = mutate(original.certificate, with: &generator)
            } else {
                damaged.tpm?.endorsementKey?.publicArea = mutate(original.publicArea, with: &generator)
            }
            if damaged == good { continue }
            #expect(try !judge(damaged, policy(), activation).isAccepted)
        }
    }
}
