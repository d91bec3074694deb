import Bytes
import Crypto
import TPM

/// An endorsement key whose certificate leads to a given root (TCG EK Credential Profile 2.6): a TPM of that vendor has
/// the key. Which attestation key is in the same TPM is not said here; activation shows it.
public struct EndorsementTrust: Sendable {
    public let certificate: EndorsementCertificate
    public let key: TPMPublic

    /// - Throws: `ek-chain`, `ek-expired`, `ek-not-yet-valid`, `ek-usage`, `ek-names`, `ek-attributes`, `ek-binding`,
    ///   `parse-…`.
    public init(
        _ endorsement: Evidence.EndorsementKey, roots: [Certificate], at time: Instant
    ) throws(Finding) {
        let chain: [Certificate]
        do throws(CryptoError) {
            var list = [try Certificate(der: endorsement.certificate)]
            for der in endorsement.chain { list.append(try Certificate(der: der)) }
            chain = list
        } catch { throw Finding("parse-form", claim: "evidence.tpm.endorsementKey", actual: error.message) }
        let trust: AttestationKeyTrust
        do throws(Finding) {
            trust = try AttestationKeyTrust(chain: chain, roots: roots, at: time, usage: .endorsement)
        } catch { throw error.family(["ak": "ek"]) }
        do {
            certificate = try EndorsementCertificate(trust.leaf.certificate)
        } catch { throw error.finding }
        do { key = try TPMPublic(parsing: endorsement.publicArea) } catch { throw error.finding }
        do { try key.checkEndorsement() } catch { throw error.finding }
        guard Self.isSame(key, certificate.certificate) else {
            throw Finding(
                "ek-binding", claim: "tpm endorsement key", expected: "the key of \(certificate.certificate.subject)",
                actual: "another key", source: "the endorsement key's certificate",
                next: "the certificate belongs to another TPM")
        }
    }

    static func isSame(_ key: TPMPublic, _ certificate: Certificate) -> Bool {
        guard let shown = try? key.publicKey(), let certified = try? certificate.publicKey() else { return false }
        return shown == certified
    }
}

extension Appraisal {
    /// Whether the policy trusts vendors of TPMs and the evidence brings an endorsement key of one.
    func endorsement(_ tpm: Evidence.TPMEvidence) -> Evidence.EndorsementKey? {
        policy.wantsActivation ? tpm.endorsementKey : nil
    }

    /// The endorsement key's certificate, and that the attestation key is in the TPM that it is for.
    ///
    /// - Returns: `false` where the certificate holds and nobody asked the TPM, which only a session with the node can.
    mutating func checkEndorsement(
        _ endorsement: Evidence.EndorsementKey, _ tpm: Evidence.TPMEvidence
    ) throws(Finding) -> Bool {
        let roots: [Certificate]
        do throws(CryptoError) {
            var list: [Certificate] = []
            for der in policy.endorsementRoots { list.append(try Certificate(der: der)) }
            roots = list
        } catch { throw Finding("parse-form", claim: "policy.endorsementRoots", actual: error.message) }
        let trust: EndorsementTrust
        do throws(Finding) {
            trust = try EndorsementTrust(endorsement, roots: roots, at: time)
        } catch { throw error.family(Self.families) }
        let certificate = trust.certificate
        held(
            "tpm endorsement key",
            "certified by \(certificate.certificate.issuer): \(certificate.vendor ?? certificate.manufacturer) "
                + certificate.model)
        claims["endorsement"] = certificate.json
        unchecked.append("tpm endorsement key: revocation by its vendor")
        guard let activation else { return false }
        guard activation.challenge.isAnswered(by: activation.proof, tpm, nonce: evidence.nonce) else {
            throw Finding(
                "key-activation", claim: "tpm attestation key",
                expected: "the answer that only the TPM of the endorsement key can give, for this nonce and key",
                actual: "another answer", source: "TPM 2.0 Part 1 §24",
                next: "the attestation key is not in that TPM, or the answer is of another session")
        }
        held("tpm attestation key", "activated: in the TPM of the endorsement key, in this session")
        return true
    }
}
