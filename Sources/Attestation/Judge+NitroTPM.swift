import Bytes
import Crypto
import TPM

extension Judge {
    /// Kind `nitrotpm`: an attestation document of AWS's NitroTPM.
    ///
    /// Inputs `document`, optional `log`, `userspace-log`, `roots` (instead of AWS's root: marks `simulated`). Policy
    /// `nonce`, `user_data`, `public_key` (hex), `expected_pcrs`, `module_id`. Always marked `development`.
    static func nitroTPM(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let policy = try evidence.readPolicy { (fields) throws(ParseError) in try NitroTPMPolicy(&fields) }
        let roots =
            evidence.inputs["roots"] == nil
            ? []
            : try evidence.parse("roots") { (bytes) throws(ParseError) in
                try AttestationKeyCertificate.chain(bytes)
            }
        let trust = try NitroTPMTrust(try evidence.input("document"), roots: roots, at: evidence.time)
        let document = trust.document
        var unchecked = try policy.check(document)
        var claims: [String: JSON] = [
            "moduleID": .string(document.moduleID), "timestamp": .integer(Int128(document.timestamp)),
            "pcrs": document.pcrs.json,
        ]
        claims["nonce"] = document.nonce.map { .hex($0) }
        claims["userData"] = document.userData.map { .hex($0) }
        claims["publicKey"] = document.publicKey.map { .hex($0) }
        if let log = try evidence.eventLog() {
            let appraisal = try LogAppraisal(log, pcrs: document.pcrs, userspace: try evidence.userspaceLog())
            unchecked += appraisal.unchecked
            claims.merge(appraisal.claims) { first, _ in first }
        }
        return .accept(
            claims: claims, unchecked: unchecked, marks: ["development"] + (trust.isGenuineRoot ? [] : ["simulated"]))
    }
}

/// What a policy asks of a NitroTPM document.
private struct NitroTPMPolicy {
    let nonce: [UInt8]?
    let userData: [UInt8]?
    let publicKey: [UInt8]?
    let moduleID: String?
    let expected: PCRBank

    init(_ fields: inout JSONFields) throws(ParseError) {
        nonce = try fields.optionalHex("nonce")
        userData = try fields.optionalHex("user_data")
        publicKey = try fields.optionalHex("public_key")
        moduleID = try fields.optionalString("module_id")
        expected =
            if let value = fields.optional("expected_pcrs") {
                try PCRBank(json: value, path: "policy.expected_pcrs")
            } else { PCRBank() }
    }

    /// - Returns: claims that the policy says nothing about.
    func check(_ document: NitroTPMDocument) throws(Finding) -> [String] {
        var unchecked: [String] = []
        func compare(_ reason: String, _ claim: String, _ wanted: [UInt8]?, _ actual: [UInt8]?) throws(Finding) {
            guard let wanted else {
                unchecked.append(claim)
                return
            }
            guard let actual, constantTimeEqual(actual, wanted) else {
                throw Finding(
                    reason, claim: "nitrotpm.\(claim)", expected: Hex.encode(wanted),
                    actual: actual.map { Hex.encode($0) } ?? "none", source: "policy.\(claim)")
            }
        }
        try compare("nonce", "nonce", nonce, document.nonce)
        try compare("policy-user-data", "user_data", userData, document.userData)
        try compare("policy-public-key", "public_key", publicKey, document.publicKey)
        try compare(
            "policy-module-id", "module_id", moduleID.map { Array($0.utf8) }, Array(document.moduleID.utf8))
        for (hash, index, value) in expected.sorted {
            guard let actual = document.pcrs[hash, index] else {
                throw Finding(
                    "pcr-not-quoted", claim: PCRBank.claim(hash, index), expected: Hex.encode(value),
                    actual: "not in the document", source: "policy.expected_pcrs")
            }
            guard constantTimeEqual(actual, value) else {
                throw Finding(
                    "pcr-value", claim: PCRBank.claim(hash, index), expected: Hex.encode(value),
                    actual: Hex.encode(actual), source: "policy.expected_pcrs")
            }
        }
        return unchecked
            + document.pcrs.sorted.filter { expected[$0.hash, $0.index] == nil }.map {
                PCRBank.claim($0.hash, $0.index)
            }
    }
}
