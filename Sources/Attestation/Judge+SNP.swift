import Bytes
import SEVSNP

extension Judge {
    /// Kind `snp`: `report`, `vek`, `chain`, `roots`, optional `crl`; policy keys of `SNPPolicy`.
    ///
    /// `auxblob` may stand in for `vek` and `chain`; without `chain` or `roots` AMD's shipped ones are used.
    static func snp(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let policy: SNPPolicy
        do { policy = try SNPPolicy(evidence.policy) } catch { throw error.finding }
        let report = try evidence.input("report")
        let inputs: SNPEvidence
        if evidence.inputs["vek"] == nil, let blob = evidence.inputs["auxblob"] {
            inputs = try SNPEvidence(
                report: report, table: try certificateTable(blob), roots: evidence.inputs["roots"],
                revocationList: evidence.inputs["crl"])
        } else {
            inputs = SNPEvidence(
                report: report, vek: try evidence.input("vek"), chain: evidence.inputs["chain"],
                roots: evidence.inputs["roots"], revocationList: evidence.inputs["crl"])
        }
        return try SNPAppraisal.appraise(inputs, policy: policy, at: evidence.time).verdict
    }
}
