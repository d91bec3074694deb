import Attestation
import Bytes
import Crypto
import Manifest
import SyntheticNode
import TestKit
import Testing

/// Evidence → appraisal against a policy → verdict with a reason, for a whole node.
@Suite struct AppraisalTests {
    static let time = Instant(seconds: 1_800_000_000)

    static func judge(
        _ node: SyntheticNode, manifest: Manifest? = nil, policy: AppraisalPolicy = .development, nonce: [UInt8]? = nil,
        evidence change: (inout Evidence) -> Void = { _ in }
    ) throws -> Appraisal.Result {
        var evidence = try node.evidence()
        change(&evidence)
        let reference = Reference.pinned(try manifest ?? SyntheticNode.manifest())
        let result = Appraisal.judge(
            evidence, nonce: nonce ?? node.nonce, reference: reference, policy: policy, at: time)
        // Whoever wants the outcome only gets the same one, with the same finding.
        let outcome = Appraisal.judge(
            evidence, nonce: nonce ?? node.nonce, reference: reference, policy: policy, account: .outcome, at: time)
        #expect(outcome.verdict.finding == result.verdict.finding)
        #expect(outcome.verdict.marks == result.verdict.marks)
        return result
    }

    @Test func `a node that measures what the manifest predicts is accepted, marked development`() throws {
        let result = try Self.judge(SyntheticNode())
        #expect(result.verdict.isAccepted, "\(result.verdict)")
        #expect(result.verdict.marks == ["development"])
        #expect(result.steps.contains { $0.claim == "tpm registers" && $0.mark == .held })
        #expect(result.verdict.unchecked.contains { $0.hasPrefix("tpm attestation key: nobody vouches") })
    }

    // MARK: Policy

    @Test func `the production policy refuses a TPM by itself`() throws {
        #expect(try Self.judge(SyntheticNode(), policy: .production).verdict.reason == "policy-platform")
        let policy = AppraisalPolicy(platforms: [.tpm])
        #expect(try Self.judge(SyntheticNode(), policy: policy).verdict.reason == "policy-tpm-root")
    }

    @Test func `a policy that names nothing accepts nothing`() throws {
        let policy = try AppraisalPolicy(parsing: Array(#"{"schema":"nacre.policy.v1"}"#.utf8))
        #expect(try Self.judge(SyntheticNode(), policy: policy).verdict.reason == "policy-platform")
        #expect(throws: ParseError.self) { try AppraisalPolicy(parsing: Array("{}".utf8)) }
    }

    @Test func `debug images need a policy that lets them through`() throws {
        let manifest = try SyntheticNode.manifest(profile: .debug)
        var policy = AppraisalPolicy.development
        #expect(
            try Self.judge(SyntheticNode(), manifest: manifest, policy: policy).verdict.reason == "policy-debug-profile"
        )
        policy.allowDebugProfile = true
        #expect(
            try Self.judge(SyntheticNode(), manifest: manifest, policy: policy).verdict.marks == [
                "debug", "development",
            ])
        #expect(!AppraisalPolicy.production.allowDebugProfile)
    }

    @Test func `old releases and outdated manifests are refused`() throws {
        var policy = AppraisalPolicy.development
        policy.minimumRelease = 4
        #expect(try Self.judge(SyntheticNode(), policy: policy).verdict.reason == "manifest-rollback")
        let old = try SyntheticNode.manifest(notAfter: Instant(seconds: Self.time.seconds - 1))
        #expect(try Self.judge(SyntheticNode(), manifest: old).verdict.reason == "expired-manifest")
    }

    @Test func `a register that the policy leaves out is listed as unchecked`() throws {
        var policy = AppraisalPolicy.development
        policy.registers = [11]
        policy.banks = [.sha256]
        let verdict = try Self.judge(SyntheticNode(), policy: policy).verdict
        #expect(verdict.isAccepted)
        #expect(verdict.unchecked.contains("tpm/sha256/4"))
        #expect(verdict.unchecked.contains("tpm/sha384/11"))
        #expect(!verdict.unchecked.contains("tpm/sha256/11"))
    }

    @Test func `where no register is compared, nothing is accepted`() throws {
        var policy = AppraisalPolicy.development
        for banks: [HashAlgorithm] in [[.sha512], [.sha256, .sha512]] {
            policy.banks = banks
            let verdict = try Self.judge(SyntheticNode(), policy: policy).verdict
            #expect(verdict.reason == "register-missing")
            #expect(verdict.finding?.claim == "tpm/sha512")
        }
        let empty = try SyntheticNode.manifest { document in document["tpm"] = [:] }
        #expect(try Self.judge(SyntheticNode(), manifest: empty).verdict.reason == "register-missing")
        #expect(throws: Finding.self) {
            try SyntheticNode.manifest { document in document["tpm"] = ["sha256": [:]] }
        }
    }

    @Test func `a register that the policy wants and the manifest does not know is refused`() throws {
        var policy = AppraisalPolicy.development
        policy.registers = [2]
        #expect(try Self.judge(SyntheticNode(), policy: policy).verdict.reason == "policy-register")
    }

    @Test func `a certified key is accepted up to a named root, and no other`() throws {
        let node = try SyntheticNode()
        let root = try PrivateKey(generating: .p256)
        let certificate = try Certificate.selfSigned(
            key: node.key, commonName: "ak", notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1 << 33))
        var policy = AppraisalPolicy(platforms: [.tpm], allowTPMRoot: .certified, tpmRoots: [certificate.der])
        let accepted = try Self.judge(node, policy: policy) { $0.tpm?.certificates = [certificate.der] }.verdict
        #expect(accepted.isAccepted, "\(accepted)")
        #expect(accepted.marks.isEmpty)
        #expect(try Self.judge(node, policy: policy).verdict.reason == "policy-tpm-root")
        let other = try Certificate.selfSigned(
            key: root, commonName: "ak", notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1 << 33))
        let forged = try Self.judge(node, policy: policy) { $0.tpm?.certificates = [other.der] }.verdict
        #expect(forged.reason == "key-chain")
        policy.tpmRoots = [other.der]
        let bound = try Self.judge(node, policy: policy) { $0.tpm?.certificates = [other.der] }.verdict
        #expect(bound.reason == "key-binding")
    }

    // MARK: Registers

    @Test(arguments: [
        (13, "contents of section .linux"), (15, "contents of section .cmdline"), (11, "initrd"), (8, "UKI"),
        (9, "kernel"), (10, "kernel command line"),
    ])
    func `one changed event is found, and named by what it covers`(index: Int, what: String) throws {
        var node = try SyntheticNode()
        node.events[index].data += [0x21]
        let verdict = try Self.judge(node).verdict
        #expect(verdict.reason == "register-mismatch")
        #expect(verdict.finding?.claim == "tpm/sha256/\(node.events[index].register)")
        #expect(verdict.finding?.next.contains(what) == true, "\(verdict.finding?.next ?? "")")
        #expect(verdict.claims["explanations"]?.array?.first?["event"]?.integer != nil)
    }

    @Test func `an added, a missing and a later phase are told apart`() throws {
        var added = try SyntheticNode()
        added.events.append(.init(11, 0, "shutdown", "", phase: "shutdown"))
        let more = try Self.judge(added).verdict.finding
        #expect(more?.reason == "register-mismatch")
        #expect(more?.next.contains("the manifest lists no more") == true)
        var early = try SyntheticNode()
        early.events.removeLast()
        let less = try Self.judge(early).verdict.finding
        #expect(less?.next.contains("the node measured nothing more") == true)
    }

    @Test func `a host that extends registers 12 to 15 is noticed`() throws {
        for register in [12, 13, 15] {
            var node = try SyntheticNode()
            node.events.append(.init(register, 0x0D, "injected credential", "credential"))
            #expect(try Self.judge(node).verdict.finding?.claim == "tpm/sha256/\(register)")
        }
    }

    @Test func `a register or bank that the manifest names and the quote lacks is refused`() throws {
        var node = try SyntheticNode()
        node.quoted.removeAll { $0 == 12 }
        #expect(try Self.judge(node).verdict.reason == "register-missing")
        var bank = try SyntheticNode()
        bank.quotedBanks = [.sha256]
        #expect(try Self.judge(bank).verdict.finding?.claim == "tpm/sha384/0")
        #expect(try Self.judge(SyntheticNode()) { $0.tpm = nil }.verdict.reason == "register-missing")
    }

    // MARK: Quote and logs

    @Test func `another nonce is refused, also a prefix and a padded one`() throws {
        let node = try SyntheticNode()
        for nonce in [Array(node.nonce.prefix(31)), node.nonce + [0], [UInt8](repeating: 1, count: 32)] {
            #expect(try Self.judge(node, nonce: nonce).verdict.reason == "nonce")
        }
        // Evidence that claims the right nonce around an old quote.
        let replayed = try Self.judge(node, nonce: [UInt8](repeating: 7, count: 32)) {
            $0.nonce = [UInt8](repeating: 7, count: 32)
        }
        #expect(replayed.verdict.reason == "nonce")
        #expect(try Self.judge(node) { $0.nonce = [1, 2, 3] }.verdict.reason == "parse-range")
    }

    @Test func `saved evidence without the verifier's nonce says that freshness was not checked`() throws {
        let verdict = Appraisal.judge(
            try SyntheticNode().evidence(), nonce: nil, reference: .pinned(try SyntheticNode.manifest()),
            policy: .development, at: Self.time
        ).verdict
        #expect(verdict.isAccepted)
        #expect(verdict.unchecked.contains { $0.hasPrefix("freshness") })
    }

    @Test func `a key that could sign anything is refused`() throws {
        var node = try SyntheticNode()
        node.attributes &= ~(1 << 16)
        #expect(try Self.judge(node).verdict.reason == "key-attributes")
        let bare = try SyntheticNode()
        let pem = Array(bare.key.publicKey.pem.utf8)
        #expect(try Self.judge(bare) { $0.tpm?.attestationKey = pem }.verdict.reason == "key-attributes")
    }

    @Test func `values, logs and signatures that do not fit each other are refused`() throws {
        let node = try SyntheticNode()
        let zero = [UInt8](repeating: 0, count: 32)
        let cases: [(String, (inout Evidence) -> Void)] = [
            ("register-digest", { $0.tpm?.registers[.sha256]?[11] = zero }),
            ("register-missing", { $0.tpm?.registers[.sha256]?[11] = nil }),
            ("eventlog-mismatch", { $0.tpm?.userspaceLog = [] }),
            ("signature", { $0.tpm?.signature[20] ^= 1 }),
            ("signature", { $0.tpm?.attest[50] ^= 1 }),
        ]
        for (reason, change) in cases {
            #expect(try Self.judge(node, evidence: change).verdict.reason == reason)
        }
        var other = try SyntheticNode()
        other.events[12].data += [1]
        let log = other.eventLog
        #expect(try Self.judge(node) { $0.tpm?.eventLog = log }.verdict.reason == "eventlog-mismatch")
    }

    @Test func `a second separator is refused although it replays`() throws {
        var node = try SyntheticNode()
        node.events.append(.init(7, 0x04, "\0\0\0\0", "separator"))
        #expect(try Self.judge(node).verdict.finding?.family == "eventlog")
    }

    @Test func `the node's own word on its image does not replace a measurement, but contradicting it is refused`()
        throws
    {
        let other = try Self.judge(SyntheticNode()) { $0.imageDigest = [UInt8](repeating: 1, count: 32) }
        #expect(other.verdict.reason == "manifest-other-image")
    }

    // MARK: Hardware

    @Test func `SEV-SNP evidence is judged by its own kind, bound to nonce and key`() throws {
        let verdict = try Self.judge(SyntheticNode()) { evidence in
            evidence.platform = .snp
            evidence.tee = .init(report: [1, 2, 3], auxiliary: [], eventLog: [])
        }.verdict
        // This manifest predicts no launch digest: nothing to compare with.
        #expect(verdict.reason == "register-missing")
        #expect(verdict.finding?.claim == "snp.measurement")
        #expect(try Self.judge(SyntheticNode()) { $0.platform = .tdx }.verdict.reason == "parse-missing")
    }

    // MARK: Robustness

    @Test func `no mutation of genuine evidence is accepted unless it changes nothing`() throws {
        let node = try SyntheticNode()
        let genuine = try node.evidence()
        let bytes = Array(genuine.json.compact.utf8)
        let manifest = try SyntheticNode.manifest()
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<mutations(quick: 300) {
            guard let evidence = try? Evidence(parsing: mutate(bytes, with: &generator)) else { continue }
            let verdict = Appraisal.judge(
                evidence, nonce: node.nonce, reference: .pinned(manifest), policy: .development, at: Self.time
            ).verdict
            guard verdict.isAccepted else { continue }
            var unproved = evidence
            // Timings are for people, and the words of an event that binds no data are only words.
            unproved.stages = genuine.stages
            unproved.tpm?.eventLog = genuine.tpm?.eventLog ?? []
            unproved.tpm?.userspaceLog = genuine.tpm?.userspaceLog ?? []
            #expect(unproved == genuine)
        }
    }

    @Test func `a policy written is the policy read`() throws {
        var policy = AppraisalPolicy.development
        policy.banks = [.sha384]
        policy.registers = [4, 11]
        policy.minimumRelease = 9
        policy.snp = ["vmpl": 0]
        #expect(try AppraisalPolicy(json: policy.json) == policy)
        for text in [
            #"{"schema":"nacre.policy.v2"}"#, #"{"schema":"nacre.policy.v1","extra":1}"#,
            #"{"schema":"nacre.policy.v1","banks":["sha1"]}"#, #"{"schema":"nacre.policy.v1","banks":[]}"#,
            #"{"schema":"nacre.policy.v1","registers":[24]}"#, #"{"schema":"nacre.policy.v1","platforms":["sgx"]}"#,
            #"{"schema":"nacre.policy.v1","snp":{"measurement":["00"]}}"#,
            #"{"schema":"nacre.policy.v1","allowTPMRoot":"any"}"#,
        ] {
            #expect(throws: ParseError.self) { try AppraisalPolicy(parsing: Array(text.utf8)) }
        }
    }
}
