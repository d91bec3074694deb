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

    /// Most bytes of all inputs of one case together: with its header none is an allocation above 64 MiB.
    public static let maximumTotal = (64 << 20) - (1 << 12)

    /// Most bytes of an input, by what it is.
    private enum Limit {
        /// Reports, certificates, signatures, register values.
        static let document = 1 << 20
        /// Collateral, revocation lists.
        static let collateral = 8 << 20
        static let log = 16 << 20
        static let image = maximumTotal
    }

    private static let logs = ["log": Limit.log, "eventlog": Limit.log, "userspace-log": Limit.log]
    private static let endorsement = [
        "vek": Limit.document, "chain": Limit.document, "roots": Limit.document, "crl": Limit.collateral,
    ]
    private static let tdxInputs = [
        "quote": Limit.document, "collateral": Limit.collateral, "root": Limit.document,
    ]
    private static let quoted = [
        "attest": Limit.document, "signature": Limit.document, "pcrs": Limit.document, "ak_chain": Limit.document,
        "ak_roots": Limit.document,
    ]

    /// Each kind's inputs with the most bytes that are read of each; `dir` is a folder. The one list that options,
    /// batches and the reading of files go by.
    static let inputs: [String: [String: Int]] = [
        "akcert": ["chain": Limit.document, "roots": Limit.document],
        "azure": [logs, endorsement, tdxInputs, quoted, ["hcl": Limit.document]].reduce([:]) {
            $0.merging($1) { first, _ in first }
        },
        "ccel": [
            "log": Limit.log, "eventlog": Limit.log, "quote": Limit.document, "rtmrs": Limit.document,
        ],
        "certtable": ["auxblob": Limit.document],
        "evlog": logs.merging(["pcrs": Limit.document]) { first, _ in first },
        "mrtd": ["firmware": Limit.image],
        "nitrotpm": logs.merging(["document": Limit.document, "roots": Limit.document]) { first, _ in first },
        "pcr-predict": ["dir": Limit.image],
        "pcr11": ["dir": Limit.image],
        "snp": endorsement.merging(["report": Limit.document, "auxblob": Limit.document]) { first, _ in first },
        "snp-measure": [
            "ovmf": Limit.image, "kernel": Limit.image, "initrd": Limit.image, "svsm": Limit.image,
            "vars": Limit.image,
        ],
        "tdx": tdxInputs,
        "tpmquote": [logs, quoted, ["ak": Limit.document]].reduce([:]) { $0.merging($1) { first, _ in first } },
    ]

    /// The inputs of `kind` with the most bytes of each, or `nil` for a kind that this release does not know.
    public static func inputs(of kind: String) -> [String: Int]? { inputs[kind] }

    /// Whether the policy of `kind` has a `nonce`; `nil` for an unknown kind.
    public static func takesNonce(_ kind: String) -> Bool? {
        kinds[kind] == nil ? nil : ["azure", "nitrotpm", "tpmquote"].contains(kind)
    }

    /// The first of `names` that judging `kind` would ignore, and why; an input that nobody looks at proves nothing,
    /// whatever the caller believes. Of an unknown kind nothing is said: `judge` refuses it.
    public static func unused(_ names: Set<String>, of kind: String) -> (name: String, why: String)? {
        guard let known = inputs[kind] else { return nil }
        if let stray = names.sorted().first(where: { known[$0] == nil }) {
            return (stray, "kind \(kind) takes \(known.keys.sorted().joined(separator: ", "))")
        }
        let pairs: [(name: String, isUnused: Bool, why: String)] = [
            ("ak_roots", !names.contains("ak_chain"), "it goes with ak_chain"),
            ("eventlog", names.contains("log"), "log is given, another name for the same"),
            (
                "userspace-log", kind == "nitrotpm" && names.isDisjoint(with: ["log", "eventlog"]),
                "it goes with log"
            ),
            ("auxblob", names.contains("vek"), "vek is given and taken instead"),
            ("chain", names.contains("auxblob"), "auxblob brings the certificates"),
        ]
        return pairs.first { names.contains($0.name) && $0.isUnused }.map { ($0.name, $0.why) }
    }

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
