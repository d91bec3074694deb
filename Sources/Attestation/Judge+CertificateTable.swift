import Bytes
import Crypto
import SEVSNP

extension Judge {
    /// Kind `certtable`: `auxblob`, an extended report's certificate table. Form only; nothing in it is trusted.
    ///
    /// `claims.entries` has length and SHA-256 of the raw contents by name (`vcek`, `vlek`, `ask`, `ark`, `crl`, else
    /// the GUID).
    static func certtable(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let policy: JSONFields
        do {
            policy = try JSONFields(evidence.policy, path: "policy")
            try policy.end()
        } catch { throw error.finding }
        let table = try certificateTable(try evidence.input("auxblob"))
        var entries: [String: JSON] = [:]
        for entry in table.entries {
            entries[entry.name.description] = [
                "length": .integer(Int128(entry.contents.count)),
                "sha256": .hex(HashAlgorithm.sha256.hash(entry.contents)),
            ]
        }
        return .accept(claims: ["entries": .object(entries)], unchecked: ["entries"])
    }

    /// The table, or why it is none: `range` where contents lie outside of the blob, else family `parse`.
    static func certificateTable(_ blob: [UInt8]) throws(Finding) -> CertificateTable {
        do { return try CertificateTable(blob) } catch {
            guard error.detail == "range" else { throw error.finding }
            throw Finding(
                "range", claim: error.field, expected: "contents behind the table and within the blob",
                actual: error.message, source: "GHCB specification, SNP Extended Guest Request",
                next: "the host's table is broken; give the certificates yourself")
        }
    }
}
