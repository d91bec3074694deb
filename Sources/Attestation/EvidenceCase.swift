import Bytes

/// One case for `nacre evidence verify`: raw inputs by name, a policy, and the time to judge at.
///
/// Names and shapes are those of `vectors/README.md`, the same for options (`--report F`) and for batches.
public struct EvidenceCase: Sendable {
    public let kind: String
    /// Inputs by name (`report`, `vek`, …), already read; directories appear as `dir/<relative path>`.
    public let inputs: [String: [UInt8]]
    public let policy: JSON
    public let time: Instant
    /// Further fields of the case, such as `mode` of the kind `sigstore`.
    public let options: [String: JSON]

    public init(
        kind: String, inputs: [String: [UInt8]], policy: JSON = .object([:]), time: Instant,
        options: [String: JSON] = [:]
    ) {
        self.kind = kind
        self.inputs = inputs
        self.policy = policy
        self.time = time
        self.options = options
    }

    /// The bytes of `name`, or a `parse-missing` finding.
    public func input(_ name: String) throws(Finding) -> [UInt8] {
        guard let bytes = inputs[name] else {
            throw Finding(
                "parse-missing", claim: name, expected: "an input called \(name)", actual: "none",
                source: "kind \(kind)", next: "give --\(name) FILE")
        }
        return bytes
    }
}

/// Judges one case of any kind that this release knows.
public enum Judge {
    /// Each kind with the function that judges it; one file per kind, `Judge+<Kind>.swift`.
    static let kinds: [String: @Sendable (EvidenceCase) throws(Finding) -> Verdict] = [
        "akcert": akCertificate,
        "azure": azure,
        "ccel": ccel,
        "certtable": certtable,
        "evlog": eventLog,
        "mrtd": mrtd,
        "nitrotpm": nitroTPM,
        "pcr-predict": pcrPredict,
        "pcr11": pcr11,
        "snp": snp,
        "snp-measure": snpMeasure,
        "tdx": tdx,
        "tpmquote": tpmQuote,
    ]

    /// Never throws and never traps: what cannot be read is a rejection with family `parse`.
    public static func judge(_ evidence: EvidenceCase) -> Verdict {
        guard let kind = kinds[evidence.kind] else {
            return .reject(
                Finding(
                    "unsupported", claim: evidence.kind, expected: kinds.keys.sorted().joined(separator: ", "),
                    actual: evidence.kind, source: "this release", next: "use a newer nacre"))
        }
        do {
            return try kind(evidence)
        } catch {
            return .reject(error)
        }
    }
}
