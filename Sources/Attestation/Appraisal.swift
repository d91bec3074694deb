import Bytes
import Crypto
import Manifest

/// The reference values of an appraisal and who vouches for them.
public enum Reference: Sendable {
    /// Signature checked against pinned keys.
    case signed(VerifiedManifest)
    /// The relying party names the file itself and nobody's signature was checked.
    case pinned(Manifest)

    public var manifest: Manifest {
        switch self {
        case .signed(let verified): verified.manifest
        case .pinned(let manifest): manifest
        }
    }
}

/// Evidence of a whole node judged against a manifest and a policy.
///
/// The steps in order; the first that fails is the reason: manifest against policy, platform, the hardware report, the
/// TPM's key, signature and nonce, register values shown, both logs replayed to them, registers against the manifest.
public struct Appraisal {
    let evidence: Evidence
    let reference: Reference
    let policy: AppraisalPolicy
    let time: Instant
    /// The nonce that the verifier chose; `nil` when it judges saved evidence and can say nothing about freshness.
    let nonce: [UInt8]?
    let cluster: ClusterExpectation
    /// What the node answered to a challenge of this session; `nil` when it judges saved evidence or did not ask.
    let activation: Activation?
    let account: Account

    /// A register that shows the cluster was compared.
    var isClusterProved = false
    var claims: [String: JSON] = [:]
    var unchecked: [String] = []
    var marks: [String] = []
    /// Whether the hardware report by itself establishes which image runs, kernel, command line and root hash included:
    /// then what the image says of its TPM is believed.
    var hardwareCoversImage = false
    /// Steps done, for people: claim and whether it held.
    private(set) var steps: [Step] = []

    /// How much of a judgement is told beside its outcome. The checks, their order and their findings are the same.
    public enum Account: Sendable {
        /// Steps, claims and what nobody checked, for people and for records.
        case full
        /// Marks and the reason for a rejection: for whoever acts on the outcome and shows the rest to nobody.
        case outcome
    }

    /// One line of the chain of trust.
    public struct Step: Sendable, Equatable {
        public enum Mark: String, Sendable {
            case held, failed, unchecked
        }
        public let claim: String
        public let mark: Mark
        public let detail: String

        public init(claim: String, mark: Mark, detail: String) {
            self.claim = claim
            self.mark = mark
            self.detail = detail
        }
    }

    /// A verdict with the steps that led to it.
    public struct Result: Sendable {
        public let verdict: Verdict
        public let steps: [Step]

        public init(verdict: Verdict, steps: [Step]) {
            self.verdict = verdict
            self.steps = steps
        }
    }

    /// Judges `evidence` at `time`; never throws, never traps, reads no clock and no file.
    public static func judge(
        _ evidence: Evidence, nonce: [UInt8]?, reference: Reference, policy: AppraisalPolicy,
        cluster: ClusterExpectation = .unspecified, activation: Activation? = nil, account: Account = .full,
        at time: Instant
    ) -> Result {
        var appraisal = Appraisal(
            evidence: evidence, reference: reference, policy: policy, time: time, nonce: nonce, cluster: cluster,
            activation: activation, account: account)
        do {
            try appraisal.run()
            appraisal.listUnchecked()
            return Result(
                verdict: .accept(
                    claims: appraisal.claims, unchecked: appraisal.unchecked, marks: appraisal.marks),
                steps: appraisal.steps)
        } catch {
            appraisal.steps.append(Step(claim: error.claim, mark: .failed, detail: error.reason))
            appraisal.listUnchecked()
            return Result(
                verdict: .reject(
                    error, claims: appraisal.claims, unchecked: appraisal.unchecked, marks: appraisal.marks),
                steps: appraisal.steps)
        }
    }

    private init(
        evidence: Evidence, reference: Reference, policy: AppraisalPolicy, time: Instant, nonce: [UInt8]?,
        cluster: ClusterExpectation, activation: Activation?, account: Account
    ) {
        self.evidence = evidence
        self.reference = reference
        self.policy = policy
        self.time = time
        self.nonce = nonce
        self.cluster = cluster
        self.activation = activation
        self.account = account
    }

    mutating func held(_ claim: String, _ detail: @autoclosure () -> String) {
        guard account == .full else { return }
        let detail = detail()
        steps.append(Step(claim: claim, mark: .held, detail: detail))
    }

    mutating func mark(_ word: String) { if !marks.contains(word) { marks.append(word) } }

    /// Nothing that follows proves anything.
    mutating func markSimulated() {
        mark("simulated")
        claims["protection"] = "simulated"
    }

    private mutating func listUnchecked() {
        guard account == .full else {
            unchecked = []
            return
        }
        for item in unchecked { steps.append(Step(claim: item, mark: .unchecked, detail: "not checked")) }
    }

    private mutating func run() throws(Finding) {
        try checkManifest()
        guard policy.platforms.contains(evidence.platform) else {
            throw Finding(
                "policy-platform", claim: "platform",
                expected: policy.platforms.isEmpty
                    ? "a platform that the policy names"
                    : policy.platforms.map(\.rawValue).sorted().joined(separator: ", "),
                actual: evidence.platform.rawValue, source: "policy.platforms",
                next: evidence.platform == .tpm
                    ? "a TPM alone is a development root: only a policy that says so accepts it" : "")
        }
        if account == .full { claims["platform"] = .string(evidence.platform.rawValue) }
        guard (16...32).contains(evidence.nonce.count) else {
            throw Finding(
                "parse-range", claim: "evidence.nonce", expected: "16 to 32 bytes",
                actual: "\(evidence.nonce.count) bytes", source: Evidence.schema)
        }
        if let nonce {
            guard constantTimeEqual(nonce, evidence.nonce) else {
                throw Finding(
                    "nonce", claim: "evidence.nonce", expected: Hex.encode(nonce), actual: Hex.encode(evidence.nonce),
                    source: "the verifier's own choice", next: "evidence for another nonce is a replay: collect it anew"
                )
            }
        } else {
            unchecked.append("freshness: the verifier chose no nonce")
        }
        try checkCluster()
        switch evidence.platform {
        case .tpm: break
        case .snp: try checkSNP()
        case .tdx: try checkTDX()
        }
        try checkTPM()
        try concludeCluster()
        if let claimed = evidence.imageDigest, !constantTimeEqual(claimed, reference.manifest.imageDigest) {
            throw Finding(
                "manifest-other-image", claim: "evidence.imageDigest",
                expected: Hex.encode(reference.manifest.imageDigest), actual: Hex.encode(claimed),
                source: "the manifest", next: "the node says it runs another image: judge it by that image's manifest")
        }
        guard account == .full else { return }
        claims["imageDigest"] = .hex(reference.manifest.imageDigest)
        claims["version"] = .string(reference.manifest.version)
        if claims["protection"] == nil {
            claims["protection"] =
                switch evidence.platform {
                case .tpm: "none-local-tpm"
                case .snp: "sev-snp"
                case .tdx: "tdx"
                }
        }
    }

    /// The manifest itself under the policy: signer, profile, age, rollback floor.
    private mutating func checkManifest() throws(Finding) {
        let manifest = reference.manifest
        switch reference {
        case .signed(let verified):
            if verified.role == .development {
                guard policy.allowDevelopmentKey else {
                    throw Finding(
                        "policy-development-key", claim: "manifest signature", expected: "a signature by an owner key",
                        actual: "development key \(verified.signer)", source: "policy.allowDevelopmentKey",
                        next: "have the owner sign the manifest")
                }
                mark("development")
            }
            unchecked += verified.unchecked
            held("manifest signature", "\(verified.role.rawValue) key \(verified.signer.prefix(16))…")
        case .pinned:
            unchecked.append("manifest signature: no bundle and trust root given, the file itself is trusted")
        }
        try policy.checkProfile(of: manifest)
        if manifest.profile == .debug { mark("debug") }
        if manifest.profile == .simulated { markSimulated() }
        guard time <= manifest.notAfter else {
            throw Finding(
                "expired-manifest", claim: "manifest notAfter", expected: "not after \(manifest.notAfter)",
                actual: time.description, source: "the manifest", next: "upgrade to a current release")
        }
        guard manifest.releaseCounter >= policy.minimumRelease else {
            throw Finding(
                "manifest-rollback", claim: "manifest releaseCounter", expected: "\(policy.minimumRelease) or more",
                actual: "\(manifest.releaseCounter)", source: "policy.minimumRelease", next: "upgrade the node")
        }
        held(
            "manifest", "\(manifest.product) \(manifest.version), image \(Hex.encode(manifest.imageDigest).prefix(16))…"
        )
    }
}

extension AppraisalPolicy {
    /// A debug image lets people in, and one with a simulated TEE proves nothing: only a policy that says so accepts them.
    public func checkProfile(of manifest: Manifest) throws(Finding) {
        func refusal(_ reason: String, _ source: String, _ next: String) -> Finding {
            Finding(
                reason, claim: "manifest profile", expected: Manifest.Profile.production.rawValue,
                actual: manifest.profile.rawValue, source: source, next: "run the production image: \(next)")
        }
        switch manifest.profile {
        case .production: break
        case .debug:
            guard allowDebugProfile else {
                throw refusal("policy-debug-profile", "policy.allowDebugProfile", "a debug image lets people in")
            }
        case .simulated:
            guard !simulatedRoots.isEmpty else {
                throw refusal("policy-simulated-profile", "policy.simulatedRoots", "this one only plays a TEE")
            }
        }
    }
}

extension Finding {
    /// The same finding with more to do next.
    public func adding(next more: String) -> Finding {
        Finding(
            reason, claim: claim, expected: expected, actual: actual, source: source,
            next: next.isEmpty ? more : "\(next); \(more)")
    }

    /// The same finding under the family that node verdicts use: formats name theirs after what they parse.
    func family(_ families: [String: String]) -> Finding {
        guard let other = families[String(family)] else { return self }
        let detail = reason.dropFirst(family.count)
        return Finding(other + detail, claim: claim, expected: expected, actual: actual, source: source, next: next)
    }
}
