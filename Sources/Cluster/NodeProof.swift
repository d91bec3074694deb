import Attestation
import AttestedTLS
import Bytes

/// A node's proof on the channel: `nacre.evidence.v1` whose nonce is the first 32 bytes of the sender's binding, so that
/// TPM quote and hardware report speak for this session and no other.
public enum NodeProof {
    public static let nonceSize = 32

    /// The nonce that evidence for the session with this binding carries.
    public static func nonce(_ binding: [UInt8]) -> [UInt8] { Array(binding.prefix(nonceSize)) }

    /// Judges evidence for a nonce by whatever the relying party goes by; never throws.
    public typealias Judge =
        @Sendable (
            _ evidence: Evidence, _ nonce: [UInt8], _ cluster: ClusterExpectation
        ) -> Appraisal.Result

    /// Parses and judges a peer's proof.
    ///
    /// - Throws: a refusal with the verdict's reason; its explanation is the whole finding.
    public static func judge(
        _ proof: [UInt8], binding: [UInt8], cluster: ClusterExpectation, by judge: Judge
    ) throws(ChannelRefusal) -> (evidence: Evidence, result: Appraisal.Result) {
        let evidence: Evidence
        do { evidence = try Evidence(parsing: proof) } catch {
            throw ChannelRefusal("parse-\(error.detail)", explanation: "\(error)")
        }
        let result = judge(evidence, nonce(binding), cluster)
        if let finding = result.verdict.finding {
            throw ChannelRefusal(finding.reason.lowercased(), explanation: "\(finding)")
        }
        return (evidence, result)
    }
}
