import Attestation
import Bytes
import Crypto
import Manifest
import Provisioning

/// Asks nodes of a local cluster for evidence and judges it, as `nacre verify --dir` does.
final class NodeJudge {
    private let judgement: NodeJudgement
    /// What nodes may be in.
    var cluster = ClusterExpectation.unspecified
    /// The last appraisal of each node, for a report with every step.
    private(set) var appraisals: [String: Appraisal.Result] = [:]

    /// - Throws: for a manifest, bundle or trust root that cannot be used, before any machine is started.
    init(
        manifest: String?, bundle: String?, trustRoot: String?, judging: (policy: AppraisalPolicy, name: String)
    ) throws {
        judgement = try NodeJudgement(
            manifest: manifest, bundle: bundle, trustRoot: trustRoot, embedded: nil, policy: nil,
            fallback: judging, at: .now)
        // Said now rather than after a boot whose verdict is certain.
        do throws(Finding) {
            try judgement.policy.checkProfile(of: judgement.reference.manifest)
        } catch {
            let isDebug = judgement.reference.manifest.profile == .debug
            throw isDebug ? error.adding(next: "or start it with --allow-debug") : error
        }
    }

    convenience init(_ document: ClusterDocument) throws {
        try self.init(
            manifest: document.manifest, bundle: document.bundle, trustRoot: document.trustRoot,
            judging: document.judging)
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
            protection: result.verdict.isAccepted
                ? result.verdict.claims["protection"]?.string.flatMap(Protection.init(rawValue:)) : nil,
            imageDigest: result.verdict.isAccepted ? judgement.reference.manifest.imageDigest : evidence.imageDigest,
            stages: evidence.stages.map { BootStage(name: $0.name, milliseconds: $0.milliseconds) })
    }

    /// Every step of a node's appraisal, on standard output.
    func report(_ node: String, _ output: OutputOptions) {
        guard let result = appraisals[node] else { return }
        Report.verdict(result.verdict, steps: result.steps, output)
    }
}
