import Bytes
import Crypto
import TPM

extension Judge {
    /// Kind `evlog`: a firmware event log against register values.
    ///
    /// Inputs `log` (or `eventlog`), `pcrs`, optional `userspace-log`. Policy `secure_boot`: the state that PCR 7 must
    /// prove. A log of SHA-1 only is marked so: it explains, but SHA-1 no longer proves.
    static func eventLog(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let secureBoot = try evidence.readPolicy { (fields) throws(ParseError) -> Bool? in
            guard let value = fields.optional("secure_boot") else { return nil }
            guard let bool = value.bool else {
                throw ParseError("form", field: "policy.secure_boot", offset: 0, "must be true or false")
            }
            return bool
        }
        let log = try evidence.requiredEventLog()
        let pcrs = try evidence.parse("pcrs") { (bytes) throws(ParseError) in try PCRBank(parsing: bytes) }
        let appraisal = try LogAppraisal(log, pcrs: pcrs, userspace: try evidence.userspaceLog())
        var unchecked = appraisal.unchecked
        if let secureBoot {
            guard appraisal.claims["secureBoot"] == .bool(secureBoot) else {
                throw Finding(
                    "policy-secure-boot", claim: "secureBoot", expected: secureBoot ? "on" : "off",
                    actual: appraisal.claims["secureBoot"]?.compact ?? "not proved by PCR 7",
                    source: "policy.secure_boot")
            }
        } else {
            unchecked.append("secureBoot")
        }
        return .accept(
            claims: appraisal.claims, unchecked: unchecked, marks: pcrs.banks == [.sha1] ? ["sha1"] : [])
    }
}
