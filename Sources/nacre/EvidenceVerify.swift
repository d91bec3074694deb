import ArgumentParser
import Attestation
import Bytes

struct EvidenceVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Judge raw evidence of one kind, a batch of cases, or a node's whole evidence.",
        discussion: """
            Raw:    --kind snp --report F --vek F --chain F --roots F [--crl F] [--policy F] [--at T]
                    --kind tdx --quote F --collateral F --root F [--policy F] [--at T]
                    --kind tpmquote --attest F --signature F --ak F --pcrs F --nonce HEX [--eventlog F] [--policy F]
                    An option that the kind would not look at is refused.
            Batch:  --batch INDEX.json -o json      one line per case; files relative to the index's folder
            Node:   --evidence F --manifest F [--bundle F --trust-root F] [--policy F] [--nonce HEX] [--at T]
                    [--collateral-cache DIR] [--fetch]
            """)

    @Option(
        help: ArgumentHelp("Kind of raw evidence; its inputs are the options of the same names.", valueName: "kind"))
    var kind: String?

    @Option(help: ArgumentHelp("Index of cases to judge one after the other.", valueName: "file"))
    var batch: String?

    @Option(help: ArgumentHelp("A node's evidence: nacre.evidence.v1, or a bundle.", valueName: "file"))
    var evidence: String?

    @Option(help: ArgumentHelp("Manifest to judge --evidence by.", valueName: "file"))
    var manifest: String?

    @Option(help: ArgumentHelp("Keys that may sign the manifest.", valueName: "file"))
    var trustRoot: String?

    @Option(help: ArgumentHelp("The nonce that the verifier chose.", valueName: "hex"))
    var nonce: HexArgument?

    @OptionGroup(title: "Inputs") var inputs: RawInputs
    @OptionGroup(title: "Collateral") var sources: CollateralOptions
    @OptionGroup var policy: PolicyOptions
    @OptionGroup var time: TimeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard [kind, batch, evidence].count(where: { $0 != nil }) == 1 else {
            throw ValidationError("Give one of --kind, --batch and --evidence.")
        }
        if evidence == nil, manifest != nil || trustRoot != nil {
            throw ValidationError("--manifest and --trust-root go with --evidence.")
        }
        if evidence == nil, sources.fetch || sources.collateralCache != nil {
            throw ValidationError("--fetch and --collateral-cache go with --evidence.")
        }
        if evidence == nil, policy.allowDevelopment || policy.allowDebug {
            throw ValidationError("--allow-development and --allow-debug go with --evidence.")
        }
        if batch != nil {
            let own = [("at", time.at != nil), ("nonce", nonce != nil), ("policy", policy.policy != nil)]
            if let stray = own.first(where: { $0.1 }) {
                throw ValidationError("--\(stray.0) does not go with --batch: each case has its own.")
            }
        }
        if let kind {
            try inputs.check(kind)
            guard nonce == nil || Judge.takesNonce(Batch.aliases[kind] ?? kind) != false else {
                throw ValidationError("--nonce is not used by --kind \(kind).")
            }
        }
        if kind == nil, let stray = inputs.names.first(where: { !(evidence != nil && $0 == "bundle") }) {
            throw ValidationError("--\(stray) goes with --kind.")
        }
    }

    func run() throws {
        if let batch {
            try Batch(index: batch).run(output)
        } else if let kind {
            try judgeRaw(kind)
        } else if let evidence {
            try judgeNode(evidence)
        }
    }

    private func judgeRaw(_ kind: String) throws {
        var policyJSON: JSON = .object([:])
        if let path = policy.policy {
            policyJSON = try Input.parse(path, limit: 1 << 20) { bytes in try JSON(parsing: bytes) }
        }
        if let nonce {
            guard case .object(var fields) = policyJSON, fields["nonce"] == nil else {
                throw ValidationError("The nonce stands in --policy already.")
            }
            fields["nonce"] = .hex(nonce.bytes)
            policyJSON = .object(fields)
        }
        let known = Batch.aliases[kind] ?? kind
        let verdict = Judge.judge(
            EvidenceCase(
                kind: known, inputs: try inputs.read(kind: known), policy: policyJSON, time: time.instant,
                options: inputs.mode.map { ["mode": .string($0)] } ?? [:]))
        // An input that was not given is a mistake of the caller, not of the evidence.
        if let finding = verdict.finding, finding.reason == "parse-missing", inputs.lacks(finding.claim) {
            throw finding
        }
        Report.verdict(verdict, output)
        guard verdict.isAccepted else { throw Exit.rejected }
    }

    private func judgeNode(_ path: String) throws {
        try NodeJudgement.reporting(output) {
            let document = try Input.parse(path, limit: EvidenceBundle.maximumSize) { bytes in
                try EvidenceBundle.Document(parsing: bytes)
            }
            var embedded: EvidenceBundle?
            if case .bundled(let bundle) = document { embedded = bundle }
            let judgement = try NodeJudgement(
                manifest: manifest, bundle: inputs.bundle, trustRoot: trustRoot, embedded: embedded,
                policy: policy.policy, fallback: try policy.fallback(), at: time.instant)
            let evidence = try sources.complete(document.evidence, at: time.instant, output)
            try judgement.judge(evidence, nonce: nonce?.bytes, at: time.instant, output)
        }
    }
}
