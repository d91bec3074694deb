import ArgumentParser
import Attestation
import Bytes
import Manifest
import Provisioning

/// What `nacre verify` and `nacre evidence verify --evidence` share: the manifest, the policy, the appraisal.
struct NodeJudgement {
    let reference: Reference
    let policy: AppraisalPolicy
    let policyName: String

    /// - Parameters:
    ///   - bundle: a bundle that carries its own manifest; used unless `manifest` names another.
    ///   - policy: a policy file, or `nil` for `fallback`.
    init(
        manifest: String?, bundle: String?, trustRoot: String?, embedded: EvidenceBundle?, policy: String?,
        fallback: (AppraisalPolicy, String), at time: Instant
    ) throws {
        let bytes: [UInt8]
        let signature: [UInt8]?
        switch (manifest, embedded) {
        case (let manifest?, _):
            guard (bundle == nil) == (trustRoot == nil) else {
                throw ValidationError("--bundle and --trust-root go together.")
            }
            bytes = try Input.read(manifest, limit: Manifest.maximumSize)
            signature = try bundle.map { try Input.read($0, limit: Bundle.maximumSize) }
        case (nil, let embedded?):
            guard bundle == nil else {
                throw ValidationError(
                    "This evidence brings its own manifest and signature: --bundle goes with --manifest.")
            }
            guard trustRoot != nil else {
                throw ValidationError(
                    "The bundle brings its own manifest: give --trust-root to say whose signature counts, or --manifest."
                )
            }
            bytes = embedded.manifest
            signature = embedded.signature
        case (nil, nil): throw ValidationError("--manifest is missing.")
        }
        if let trustRoot {
            let root = try Input.parse(trustRoot, limit: 1 << 20) { bytes in try TrustRoot(parsing: bytes) }
            guard let signature else { throw ValidationError("--trust-root needs --bundle.") }
            reference = .signed(
                try ManifestVerifier.verify(manifest: bytes, bundle: signature, trustRoot: root, at: time))
        } else {
            reference = .pinned(try Manifest(parsing: bytes))
        }
        if let path = policy {
            self.policy = try Input.policy(path)
            policyName = path
        } else {
            (self.policy, policyName) = fallback
        }
    }

    /// Has the node show that its attestation key is in the TPM of its endorsement key, where the policy cares.
    func activation(
        _ endpoint: EvidenceClient.Endpoint, _ evidence: Evidence, nonce: [UInt8], timeout: Int,
        _ output: OutputOptions
    ) throws(Finding) -> Activation? {
        guard policy.wantsActivation, evidence.tpm?.endorsementKey != nil else { return nil }
        do throws(Finding) {
            return try EvidenceClient.activate(
                endpoint, try ActivationChallenge(evidence, nonce: nonce), timeout: timeout)
        } catch {
            guard error.family != "connection" else { throw error }
            // Whether it matters is for the appraisal to say: hardware may cover the image without the TPM.
            output.note("nacre: \(error)")
            return nil
        }
    }

    /// Judges and prints; throws exit code 3 on a rejection.
    func judge(
        _ evidence: Evidence, nonce: [UInt8]?, cluster: ClusterExpectation = .unspecified,
        activation: Activation? = nil,
        at time: Instant, _ output: OutputOptions
    ) throws {
        output.detail("policy: \(policyName)")
        let result = Appraisal.judge(
            evidence, nonce: nonce, reference: reference, policy: policy, cluster: cluster, activation: activation,
            at: time)
        Report.verdict(result.verdict, steps: result.steps, output)
        guard result.verdict.isAccepted else { throw Exit.rejected }
    }

    private static let judged: Set = ["signature", "manifest", "expired", "key", "policy"]

    /// Runs `body`; a manifest that was judged and rejected is a verdict too.
    static func reporting(_ output: OutputOptions, _ body: () throws -> Void) throws {
        do {
            try body()
        } catch let finding as Finding where judged.contains(String(finding.family)) {
            Report.verdict(.reject(finding), output)
            throw Exit.rejected
        }
    }
}

/// Which policy judges a node when no file is given.
struct PolicyOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Policy (nacre.policy.v1); production by default.", valueName: "file"))
    var policy: String?

    @Flag(
        help: """
            Without a policy file: also accept a TPM that nobody vouches for and development keys, and mark the verdict.
            """)
    var allowDevelopment = false

    @Flag(help: "Without a policy file: also accept debug images, which let people in, and mark the verdict.")
    var allowDebug = false

    func validate() throws {
        guard policy == nil || !allowDevelopment && !allowDebug else {
            throw ValidationError("--allow-development and --allow-debug go without --policy.")
        }
    }

    /// The built-in policy as the options widen it, with words for where it comes from. Never by where a node answers.
    /// - Parameter cluster: the document of the directory that the node is one of.
    func fallback(_ cluster: ClusterDocument? = nil) throws -> (AppraisalPolicy, String) {
        if let cluster, cluster.attestation != nil {
            guard !allowDevelopment, !allowDebug else {
                throw ValidationError(
                    "This cluster has a policy of its own, which the options do not widen: use --policy.")
            }
            return cluster.judging
        }
        let rules = cluster?.rules ?? .production
        let isWidened = allowDevelopment && rules == .production
        var policy = isWidened ? AppraisalPolicy.development : rules.policy
        if allowDebug { policy.allowDebugProfile = true }
        let options = [isWidened ? "--allow-development" : nil, allowDebug ? "--allow-debug" : nil].compactMap(\.self)
        let name = "built-in for \(rules == .production ? "production" : "this directory's cluster: \(rules.rawValue)")"
        return (policy, ([name] + options).joined(separator: ", "))
    }
}
