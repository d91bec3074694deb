import Bytes
import Crypto
import TPM

extension Judge {
    /// Kind `tpmquote`: a TPM quote over register values, optionally with the logs that explain them and with
    /// certificates for the key.
    ///
    /// Inputs `attest`, `signature`, `ak`, `pcrs`; optional `log` (or `eventlog`), `userspace-log`, `ak_chain` with
    /// `ak_roots`. Policy as in `QuotePolicy`. Without certificates nobody vouches for the key: mark `development`.
    static func tpmQuote(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let policy = try evidence.readPolicy { (fields) throws(ParseError) in try QuotePolicy(&fields) }
        let quote = try quote(evidence)
        let ak: AttestationKey
        do {
            ak = try AttestationKey(parsing: try evidence.input("ak"))
        } catch let error as TPMError {
            throw error.finding
        } catch let finding as Finding {
            throw finding
        } catch {
            throw Finding("parse-form", claim: "ak", actual: "\(error)")
        }
        let pcrs = try evidence.parse("pcrs") { (bytes) throws(ParseError) in try PCRBank(parsing: bytes) }
        var appraisal = try QuoteAppraisal(
            quote, ak: ak, pcrs: pcrs, log: try evidence.eventLog(), userspace: try evidence.userspaceLog(),
            policy: policy)
        guard evidence.inputs["ak_chain"] != nil else {
            appraisal.claims["trust"] = "development"
            return .accept(claims: appraisal.claims, unchecked: appraisal.unchecked, marks: ["development"])
        }
        let trust = try trust(evidence, chain: "ak_chain", roots: "ak_roots")
        try trust.checkKey(ak.publicKey)
        appraisal.claims["trust"] = "certificate"
        appraisal.claims["ak"] = .object(trust.claims)
        return .accept(claims: appraisal.claims, unchecked: appraisal.unchecked)
    }

    /// The quote in inputs `attest` and `signature`.
    static func quote(_ evidence: EvidenceCase) throws(Finding) -> Quote {
        let (attest, signature) = (try evidence.input("attest"), try evidence.input("signature"))
        do { return try Quote(attest: attest, signature: signature) } catch { throw error.finding }
    }
}
