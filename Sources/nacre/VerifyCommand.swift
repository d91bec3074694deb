import ArgumentParser
import Attestation
import Bytes
import Crypto
import Manifest
import Provisioning

struct VerifyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Fetch a node's evidence for a fresh nonce, judge it, and print the chain of trust.",
        discussion: """
            Without an endpoint, every node of the cluster in --dir is verified, by its own manifest and by the policy or \
            the rules that its cluster.json names; for a cluster of 'nacre up' these accept a TPM that the host provides, and the \
            verdict is marked 'development'. For an endpoint or saved evidence the rules are those of production, \
            whatever the address, unless a policy or --allow-development says otherwise: they demand hardware reports \
            that cover the whole image: TDX, or SEV-SNP that boots the UKI directly. Where the policy names \
            endorsementRoots, a node whose TPM has an endorsement certificate is also asked to activate a credential: \
            that its attestation key is in that TPM. Saved evidence cannot show this.
            """)

    @Argument(help: ArgumentHelp("The node, host:port; port 9000 by default.", valueName: "endpoint"))
    var endpoint: EvidenceClient.Endpoint?

    @Option(help: ArgumentHelp("Judge saved evidence instead.", valueName: "file"))
    var evidence: String?

    @Option(help: ArgumentHelp("The manifest.", valueName: "file"))
    var manifest: String?

    @Option(help: ArgumentHelp("Its signature, a Sigstore bundle.", valueName: "file"))
    var bundle: String?

    @Option(help: ArgumentHelp("Keys that may sign it: nacre.trustroot.v1 or one PEM public key.", valueName: "file"))
    var trustRoot: String?

    @Option(help: ArgumentHelp("The nonce that the saved evidence was asked for.", valueName: "hex"))
    var nonce: HexArgument?

    @Option(
        help: ArgumentHelp(
            "The cluster that the node must be in, 32 bytes; known from cluster.json with --dir.", valueName: "hex"))
    var clusterID: HexArgument?

    @Option(help: ArgumentHelp("Seconds to wait for the node.", valueName: "seconds"))
    var timeout = EvidenceClient.timeout

    @OptionGroup var directory: DirectoryOption
    @OptionGroup(title: "Collateral") var sources: CollateralOptions
    @OptionGroup var policy: PolicyOptions
    @OptionGroup var time: TimeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard endpoint == nil || evidence == nil else {
            throw ValidationError("Give an endpoint or --evidence, not both.")
        }
        if let clusterID, clusterID.bytes.count != 32 { throw ValidationError("--cluster-id must be 32 bytes") }
        guard endpoint == nil && evidence == nil || bundle == nil || manifest != nil else {
            throw ValidationError("--bundle goes with --manifest.")
        }
    }

    func run() throws {
        try NodeJudgement.reporting(output) {
            if let endpoint {
                // Files first: a mistake in them should not cost the node a quote.
                let judgement = try judgement(nil)
                let nonce = try EvidenceClient.nonce(nonce)
                output.detail("asking \(endpoint.description) for nonce \(Hex.encode(nonce))")
                let evidence = try fetch(endpoint, nonce: nonce)
                let complete = try sources.complete(evidence, at: time.instant, output)
                let activation = try judgement.activation(endpoint, evidence, nonce: nonce, timeout: timeout, output)
                try judgement.judge(
                    complete, nonce: nonce, cluster: expectation, activation: activation, at: time.instant, output)
            } else if let evidence {
                let document = try Input.parse(evidence, limit: EvidenceBundle.maximumSize) { bytes in
                    try EvidenceBundle.Document(parsing: bytes)
                }
                var embedded: EvidenceBundle?
                if case .bundled(let bundle) = document { embedded = bundle }
                let complete = try sources.complete(document.evidence, at: time.instant, output)
                try judgement(embedded).judge(
                    complete, nonce: nonce?.bytes, cluster: expectation, at: time.instant, output)
            } else {
                try verifyCluster()
            }
        }
    }

    /// An answer that is no evidence is judged, as it is with --dir.
    private func fetch(_ endpoint: EvidenceClient.Endpoint, nonce: [UInt8]) throws -> Evidence {
        do {
            return try EvidenceClient.fetch(endpoint, nonce: nonce, timeout: timeout).1
        } catch {
            guard error.family == "parse" else { throw error }
            Report.verdict(.reject(error), output)
            throw Exit.rejected
        }
    }

    /// Every node of the directory's cluster, the worst result deciding the exit code.
    private func verifyCluster() throws {
        guard let cluster = try directory.cluster().document() else {
            throw ValidationError("Give an endpoint or --evidence, or --dir with a cluster.")
        }
        guard !cluster.nodes.isEmpty else {
            throw ValidationError("The cluster in --dir has no nodes: there is nothing to verify.")
        }
        if manifest == nil, let path = cluster.manifest, let expected = cluster.manifestDigest {
            let actual = HashAlgorithm.sha256.hash(try Input.read(path, limit: Manifest.maximumSize))
            guard actual == expected else {
                throw Finding(
                    "manifest-digest", claim: path, expected: Hex.encode(expected), actual: Hex.encode(actual),
                    source: "cluster.json",
                    next: "the manifest has changed since the nodes were made: name it with --manifest")
            }
        }
        var rejected = false
        var isSilent = false
        for node in cluster.nodes {
            guard let endpoint = EvidenceClient.Endpoint(argument: node.endpoint) else {
                throw ValidationError("\(node.name) in cluster.json has no endpoint: \(node.endpoint)")
            }
            output.note("\(node.name) at \(node.endpoint):")
            let judgement = try NodeJudgement(
                manifest: manifest ?? cluster.manifest, bundle: bundle ?? (manifest == nil ? cluster.bundle : nil),
                trustRoot: trustRoot ?? (manifest == nil ? cluster.trustRoot : nil), embedded: nil,
                policy: policy.policy,
                fallback: try policy.fallback(cluster), at: time.instant)
            let nonce = try EvidenceClient.nonce(nonce)
            do {
                let (_, evidence) = try EvidenceClient.fetch(endpoint, nonce: nonce, timeout: timeout)
                let complete = try sources.complete(evidence, at: time.instant, output)
                let expected = clusterID == nil ? cluster.identity.map { .member($0) } ?? expectation : expectation
                let activation = try judgement.activation(endpoint, evidence, nonce: nonce, timeout: timeout, output)
                try judgement.judge(
                    complete, nonce: nonce, cluster: expected, activation: activation, at: time.instant, output)
            } catch let code as ExitCode where code == Exit.rejected {
                rejected = true
            } catch let finding as Finding {
                output.note("nacre: \(node.name): \(finding)")
                // An answer that is no evidence is judged; no answer is a failure.
                if finding.family == "connection" {
                    isSilent = true
                } else {
                    Report.verdict(.reject(finding), output)
                    rejected = true
                }
            }
        }
        if rejected { throw Exit.rejected }
        if isSilent { throw Exit.failed }
    }

    private var expectation: ClusterExpectation { clusterID.map { .cluster($0.bytes) } ?? .unspecified }

    private func judgement(_ embedded: EvidenceBundle?) throws -> NodeJudgement {
        try NodeJudgement(
            manifest: manifest, bundle: bundle, trustRoot: trustRoot, embedded: embedded, policy: policy.policy,
            fallback: try policy.fallback(), at: time.instant)
    }
}
