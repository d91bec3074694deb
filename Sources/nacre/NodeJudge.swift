import Attestation
import Bytes
import Provisioning

/// Asks a node of a local cluster for evidence and judges it as `nacre verify` does.
struct NodeJudge {
    init(manifestPath: String) throws(Finding) {}

    func ask(_ node: ClusterDocument.Node) -> NodeAnswer { .silent("not asked") }
}
