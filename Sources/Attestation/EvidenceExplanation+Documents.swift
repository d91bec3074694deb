import Bytes
import Crypto
import Manifest
import SEVSNP
import TDX
import TPM

extension EvidenceExplanation {
    /// A JSON document of Nacre, or one of the JSON inputs of raw kinds.
    static func document(_ json: JSON) throws -> EvidenceExplanation {
        switch json["schema"]?.string {
        case EvidenceBundle.schema:
            let bundle = try EvidenceBundle(json: json)
            let manifest = try self.manifest(Manifest(parsing: bundle.manifest))
            return EvidenceExplanation(
                "evidence bundle", manifest.map { row("manifest.\($0.claim)", $0.detail) } + (try node(bundle.evidence))
            )
        case Evidence.schema: return EvidenceExplanation("node evidence", try node(Evidence(json: json)))
        case Manifest.schema:
            return EvidenceExplanation("manifest", manifest(try Manifest(parsing: Array(json.compact.utf8))))
        case Measurements.schema:
            let document = try Measurements(json)
            return EvidenceExplanation(
                "measurements",
                [row("imageDigest", Hex.encode(document.imageDigest), held: true)] + events(document))
        case CollateralBundle.schema:
            return EvidenceExplanation("collateral", try collateral(CollateralBundle(json: json)))
        case TrustRoot.schema: return trustRoot(try TrustRoot(parsing: Array(json.compact.utf8)))
        case AppraisalPolicy.schema:
            return EvidenceExplanation("policy", try AppraisalPolicy(json: json).outline(nil))
        case let schema?:
            throw Finding(
                "parse-version", claim: "schema", expected: "a document of Nacre", actual: schema,
                source: "this release")
        case nil: break
        }
        if json["tcb_info"] != nil {
            return EvidenceExplanation("Intel's collateral", try collateral(Collateral(json)))
        }
        if json["mediaType"] != nil { return signature(try Bundle(parsing: Array(json.compact.utf8))) }
        if let rtmrs = try? RTMRPolicy.values(json, path: "rtmrs"), !rtmrs.isEmpty {
            return EvidenceExplanation(
                "runtime register values",
                rtmrs.sorted { $0.key < $1.key }.map { row("rtmr\($0.key)", Hex.encode($0.value)) })
        }
        if let pcrs = try? PCRBank(json: json), !pcrs.sorted.isEmpty {
            return EvidenceExplanation(
                "register values",
                pcrs.sorted.map { row(PCRBank.claim($0.hash, $0.index), Hex.encode($0.digest)) })
        }
        throw Finding(
            "parse-version", claim: "schema", expected: "a document of Nacre", actual: "no field schema",
            source: "this release")
    }

    private static func manifest(_ manifest: Manifest) -> [Appraisal.Step] {
        [
            row("product", "\(manifest.product) \(manifest.version), \(manifest.profile.rawValue)"),
            row("imageDigest", Hex.encode(manifest.imageDigest), held: true),
            row("notAfter", manifest.notAfter.description),
        ] + events(manifest.measurements)
    }

    private static func events(_ document: Measurements) -> [Appraisal.Step] {
        document.events.map { row($0.register, "\($0.type): \($0.what)") }
    }

    /// Every part of a node's evidence in turn; a part that does not parse is a failed line, not the end.
    private static func node(_ evidence: Evidence) throws -> [Appraisal.Step] {
        var rows = [
            row("platform", evidence.platform.rawValue), row("nonce", Hex.encode(evidence.nonce)),
            row("imageDigest", evidence.imageDigest.map { Hex.encode($0) } ?? "not stated"),
        ]
        func part(_ name: String, _ body: () throws -> [Appraisal.Step]) {
            do {
                rows += try body().map { .init(claim: "\(name).\($0.claim)", mark: $0.mark, detail: $0.detail) }
            } catch {
                rows.append(.init(claim: name, mark: .failed, detail: "\(error)"))
            }
        }
        if let tee = evidence.tee {
            rows += binding(evidence, tee)
            switch evidence.platform {
            case .snp:
                part("snp") { try report(tee.report).rows }
                if !tee.auxiliary.isEmpty {
                    part("snp.certificates") { table(try CertificateTable(tee.auxiliary)).rows }
                }
            case .tdx: part("tdx") { try quote(tee.report).rows }
            case .tpm: rows.append(row("tee", "\(tee.report.count) bytes that this platform does not have"))
            }
            if !tee.eventLog.isEmpty {
                part("ccel") {
                    events(try EventLog(parsing: tee.eventLog, registers: .confidentialComputing).explain())
                }
            }
        }
        if let json = evidence.collateral { part("collateral") { try collateral(CollateralBundle(json: json)) } }
        if let tpm = evidence.tpm { part("tpm") { try self.tpm(tpm, nonce: evidence.nonce) } }
        for stage in evidence.stages { rows.append(row("stage \(stage.name)", "\(stage.milliseconds) ms")) }
        return rows
    }

    /// Whether the hardware report names this nonce and this TPM key.
    private static func binding(_ evidence: Evidence, _ tee: Evidence.TEEEvidence) -> [Appraisal.Step] {
        let found: [UInt8]? =
            switch evidence.platform {
            case .tpm: nil
            case .snp: (try? AttestationReport(tee.report))?.reportData
            case .tdx: (try? TDX.Quote(parsing: tee.report))?.body.reportData
            }
        guard let found else { return [] }
        let wanted = Evidence.reportData(
            nonce: evidence.nonce, attestationKey: evidence.tpm?.attestationKey ?? [])
        let isBound = constantTimeEqual(found, wanted)
        return [
            .init(
                claim: "binding", mark: isBound ? .held : .failed,
                detail: isBound
                    ? "the report names this nonce and TPM key" : "the report names another nonce or TPM key")
        ]
    }

    /// Quote, registers and logs, with marks for what they prove of each other.
    private static func tpm(_ tpm: Evidence.TPMEvidence, nonce: [UInt8]) throws -> [Appraisal.Step] {
        var rows: [Appraisal.Step] = []
        let key = try AttestationKey(parsing: tpm.attestationKey)
        rows.append(row("key", "\(key.publicKey.kind), name \(Hex.encode(key.area?.name ?? []))"))
        if let endorsement = tpm.endorsementKey { rows += try self.endorsement(endorsement) }
        let quote = try TPM.Quote(attest: tpm.attest, signature: tpm.signature)
        let shown = try PCRBank(values: tpm.registers)
        let covered = try? quote.verify(ak: key, nonce: nonce, pcrs: shown)
        let state = covered == nil ? "does not verify" : "by this key, over this nonce and these values"
        rows.append(.init(claim: "quote", mark: covered == nil ? .failed : .held, detail: state))
        let log = try EventLog(parsing: tpm.eventLog)
        let userspace = tpm.userspaceLog.isEmpty ? nil : try UserspaceLog(parsing: tpm.userspaceLog)
        let replayed = log.replay(userspace: userspace)
        for (bank, index, value) in shown.sorted {
            let isReplayed = constantTimeEqual(replayed[bank, index] ?? log.start(bank, index), value)
            rows.append(
                .init(
                    claim: "\(bank.rawValue)/\(index)", mark: isReplayed ? .held : .failed,
                    detail: Hex.encode(value)
                        + (isReplayed ? ", explained by the log" : ", not what the log extends to")))
        }
        rows += events(log.explain()) + events(userspace?.explain() ?? [])
        return rows
    }

    /// The endorsement key's certificate: whose it says the TPM is, and whether it is for the key shown.
    private static func endorsement(_ endorsement: Evidence.EndorsementKey) throws -> [Appraisal.Step] {
        let key = try TPMPublic(parsing: endorsement.publicArea)
        let certificate = try Certificate(der: endorsement.certificate)
        let isSame = EndorsementTrust.isSame(key, certificate)
        var rows = [
            row("endorsement.certificate", describe(certificate)),
            Appraisal.Step(
                claim: "endorsement.key", mark: isSame ? .held : .failed,
                detail: "\(try key.publicKey().kind), "
                    + (isSame ? "the certificate's" : "not the one of the certificate")),
        ]
        do {
            let facts = try EndorsementCertificate(certificate)
            rows += [
                row("endorsement.manufacturer", "\(facts.manufacturer) (\(facts.vendor ?? "unknown"))"),
                row("endorsement.model", facts.model), row("endorsement.version", facts.version),
            ]
        } catch {
            rows.append(.init(claim: "endorsement.certificate", mark: .failed, detail: "\(error)"))
        }
        for der in endorsement.chain { rows.append(row("endorsement.chain", describe(try Certificate(der: der)))) }
        rows.append(
            row("endorsement.activation", "only a session with the node shows that the key above is in this TPM"))
        return rows
    }
}
