import Attestation
import Bytes
import Crypto
import Manifest
import Provisioning

/// Asks nodes of a local cluster for evidence and judges it, as `nacre verify` does for an endpoint of this machine.
final class NodeJudge {
    private let judgement: NodeJudgement
    /// What nodes may be in.
    var cluster = ClusterExpectation.unspecified
    /// The last appraisal of each node, for a report with every step.
    private(set) var appraisals: [String: Appraisal.Result] = [:]

    /// - Throws: for a manifest, bundle or trust root that cannot be used, before any machine is started.
    init(manifest: String?, bundle: String?, trustRoot: String?) throws {
        judgement = try NodeJudgement(
            manifest: manifest, bundle: bundle, trustRoot: trustRoot, embedded: nil, policy: nil,
            fallback: (.local, "built-in for machines of this host"), at: .now)
    }

    convenience init(_ document: ClusterDocument) throws {
        try self.init(manifest: document.manifest, bundle: document.bundle, trustRoot: document.trustRoot)
        if let identity = document.identity { cluster = .noneOr(identity) }
    }

    func ask(_ node: ClusterDocument.Node, within limit: Duration) -> NodeAnswer {
        guard let endpoint = EvidenceClient.Endpoint(argument: node.endpoint) else {
            return .silent("\(node.endpoint) is no endpoint")
        }
        let nonce = randomBytes(32)
        do throws(Finding) {
            let seconds = max(1, Int(limit.components.seconds))
            let evidence = try EvidenceClient.fetch(endpoint, nonce: nonce, timeout: seconds).evidence
            return .judged(judge(evidence, nonce: nonce, of: node))
        } catch {
            if error.family == "connection" { return .silent(error.actual.isEmpty ? error.reason : error.actual) }
            // It answered, and not with evidence.
            return .judged(NodeVerdict(verdict: .reject(error), protection: nil, imageDigest: nil, stages: []))
        }
    }

    private func judge(_ evidence: Evidence, nonce: [UInt8], of node: ClusterDocument.Node) -> NodeVerdict {
        let result = Appraisal.judge(
            evidence, nonce: nonce, reference: judgement.reference, policy: judgement.policy, cluster: cluster,
            at: .now)
        appraisals[node.name] = result
        return NodeVerdict(
            verdict: result.verdict,
            protection: result.verdict.isAccepted ? Self.protection(evidence.platform, result.verdict) : nil,
            imageDigest: result.verdict.isAccepted ? judgement.reference.manifest.imageDigest : evidence.imageDigest,
            stages: evidence.stages.map { BootStage(name: $0.name, milliseconds: $0.milliseconds) })
    }

    /// What accepted evidence of this platform protects against.
    static func protection(_ platform: Evidence.Platform, _ verdict: Verdict) -> Protection {
        if verdict.marks.contains("simulated") { return .simulated }
        return switch platform {
        case .tpm: .noneLocalTPM
        case .snp: .snp
        case .tdx: .tdx
        }
    }

    /// Every step of a node's appraisal, on standard output.
    func report(_ node: String, _ output: OutputOptions) {
        guard let result = appraisals[node] else { return }
        Report.verdict(result.verdict, steps: result.steps, output)
    }
}
