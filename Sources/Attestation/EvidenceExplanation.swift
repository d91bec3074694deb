import Bytes
import Crypto
import Manifest
import SEVSNP
import TDX
import TPM

/// A person's view of any input: what it is and what it claims. Nothing is believed here: a mark says `held` only where
/// the input proves the line by itself (a digest that fits), and `unchecked` everywhere else.
public struct EvidenceExplanation: Sendable {
    /// What the input is, e.g. `SEV-SNP report`.
    public let kind: String
    public let rows: [Appraisal.Step]

    init(_ kind: String, _ rows: [Appraisal.Step]) {
        self.kind = kind
        self.rows = rows
    }

    /// Recognises `bytes` by their own marks (magic numbers, lengths, schema names) and reads them strictly.
    ///
    /// - Throws: family `parse`, naming field and offset; `parse-unknown` for a form that no reader recognises.
    public init(_ bytes: [UInt8]) throws(Finding) {
        do {
            self = try Self.recognise(bytes)
        } catch let error as ParseError {
            throw error.finding
        } catch let error as Finding {
            throw error
        } catch let error as TPMError {
            throw error.finding
        } catch {
            throw Finding("parse-form", claim: "input", actual: "\(error)")
        }
    }

    public var json: JSON {
        [
            "schema": "nacre.explanation.v1", "kind": .string(kind),
            "claims": .array(
                rows.map {
                    ["claim": .string($0.claim), "mark": .string($0.mark.rawValue), "detail": .string($0.detail)]
                }),
        ]
    }

    private static func recognise(_ bytes: [UInt8]) throws -> EvidenceExplanation {
        if bytes.starts(with: [0xFF, 0x54, 0x43, 0x47]) { return try attest(bytes) }
        if bytes.starts(with: "HCLA".utf8) { return try hcl(bytes) }
        if bytes.starts(with: "-----BEGIN PUBLIC KEY".utf8) { return trustRoot(try TrustRoot(parsing: bytes)) }
        if bytes.starts(with: "-----BEGIN".utf8) {
            return certificates(try Certificate.chain(pem: bytes), "certificates, PEM")
        }
        if bytes.first == 0x1E {
            return EvidenceExplanation("userspace measurement log", events(try UserspaceLog(parsing: bytes).explain()))
        }
        if let first = bytes.first(where: { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }),
            first == UInt8(ascii: "{") || first == UInt8(ascii: "[")
        {
            return try document(try JSON(parsing: bytes, limit: EvidenceBundle.maximumSize))
        }
        // TCG_PCClientPCREvent: register 0 or 1 and EV_NO_ACTION, which every crypto-agile log starts with.
        if bytes.count >= 32, bytes[1...3].allSatisfy({ $0 == 0 }), bytes[4...7].elementsEqual([3, 0, 0, 0]) {
            return try log(bytes)
        }
        if bytes.starts(with: [4, 0, 2, 0, 0x81, 0, 0, 0]) || bytes.starts(with: [5, 0, 2, 0, 0x81, 0, 0, 0]) {
            return try quote(bytes)
        }
        if bytes.count == AttestationReport.size, bytes[1...3].allSatisfy({ $0 == 0 }) { return try report(bytes) }
        if bytes.first == 0x30, let certificate = try? Certificate(der: bytes) {
            return certificates([certificate], "certificate, DER")
        }
        if bytes.first == 0x30, let list = try? RevocationList(der: bytes) { return revocationList(list) }
        if bytes.count == TDReport.size, bytes.starts(with: [0x81, 0]) {
            return localReport(try TDReport(parsing: bytes))
        }
        // COSE_Sign1: an array of four, tagged 18 or not.
        if bytes.first == 0x84 || bytes.starts(with: [0xD2, 0x84]) {
            return try nitro(NitroTPMDocument(parsing: bytes))
        }
        if bytes.count >= 24, let table = try? CertificateTable(bytes), !table.entries.isEmpty {
            return self.table(table)
        }
        if let area = try? TPMPublic(parsing: bytes) { return publicArea(area) }
        if let signature = try? TPMSignature(parsing: bytes) { return self.signature(signature) }
        // A log without a header is the SHA-1 form.
        if let log = try? EventLog(parsing: bytes) { return EvidenceExplanation("event log", events(log.explain())) }
        throw Finding(
            "parse-unknown", claim: "input",
            expected:
                "an SEV-SNP report, TDX quote or TDREPORT, event log, TPM quote, key or signature, HCL report, NitroTPM "
                + "document, certificate, table or revocation list, or a JSON document of Nacre",
            actual: "\(bytes.count) bytes starting \(Hex.encode(bytes.prefix(8)))", source: "this release")
    }

    static func row(_ claim: String, _ detail: String, held: Bool = false) -> Appraisal.Step {
        Appraisal.Step(claim: claim, mark: held ? .held : .unchecked, detail: detail)
    }

    static func events(_ events: [Explanation]) -> [Appraisal.Step] {
        events.map { event in
            row(event.register, "\(event.type): \(event.what)", held: event.isProved)
        }
    }

    private static func log(_ bytes: [UInt8]) throws -> EvidenceExplanation {
        let log: EventLog
        do {
            log = try EventLog(parsing: bytes)
        } catch let error {
            // A CC area is padded, which a TPM's log never is.
            guard let other = try? EventLog(parsing: bytes, registers: .confidentialComputing) else { throw error }
            log = other
        }
        return EvidenceExplanation(
            "event log (\(log.algorithms.map(\.rawValue).joined(separator: ", ")))", events(log.explain()))
    }

    private static func attest(_ bytes: [UInt8]) throws -> EvidenceExplanation {
        let attest = try Attest(parsing: bytes)
        var rows = [
            row("nonce", Hex.encode(attest.extraData)), row("signer", Hex.encode(attest.qualifiedSigner)),
            row("clock", "\(attest.clock) ms, safe: \(attest.isClockSafe)"),
            row("resets", "\(attest.resetCount), restarts \(attest.restartCount)"),
            row("firmware", "0x" + String(attest.firmwareVersion, radix: 16)),
            row("pcr digest", Hex.encode(attest.pcrDigest)),
        ]
        for selection in attest.selections {
            rows.append(
                row("covers \(selection.hash.rawValue)", selection.indices.map(String.init).joined(separator: ",")))
        }
        return EvidenceExplanation("TPM quote (TPMS_ATTEST)", rows)
    }

    private static func publicArea(_ area: TPMPublic) -> EvidenceExplanation {
        EvidenceExplanation(
            "TPM key (TPM2B_PUBLIC)",
            [
                row("name", Hex.encode(area.name), held: true),
                row("attributes", area.attributes.names.joined(separator: " ")),
            ])
    }

    private static func hcl(_ bytes: [UInt8]) throws -> EvidenceExplanation {
        let report = try HCLReport(parsing: bytes)
        var rows: [Appraisal.Step] = []
        switch report.hardware {
        case .snp(let bytes): rows += try self.report(bytes).rows.map { row("snp.\($0.claim)", $0.detail) }
        case .tdx: rows.append(row("hardware", "TDREPORT: only its own CPU can check it"))
        }
        rows.append(
            row(
                "runtime data", "\(report.runtimeData.count) bytes, \(report.hash.rawValue)",
                held: constantTimeEqual(report.reportData, report.expectedReportData)))
        let runtime = try report.decodeRuntimeData()
        rows.append(row("vTPM key", "\(runtime.attestationKey.kind)"))
        for (key, value) in (runtime.configuration.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            rows.append(row("vm.\(key)", value.string ?? value.compact))
        }
        return EvidenceExplanation("Azure HCL report", rows)
    }

    static func report(_ bytes: [UInt8]) throws -> EvidenceExplanation {
        let report = try AttestationReport(bytes)
        let flags: [(String, Bool)] = [
            ("debug", report.policy.allowsDebug), ("migration agent", report.policy.allowsMigrationAgent),
            ("SMT", report.policy.allowsSMT), ("single socket", report.policy.requiresSingleSocket),
        ]
        var rows = [
            row("version", "\(report.version)"), row("measurement", Hex.encode(report.measurement)),
            row("report_data", Hex.encode(report.reportData)), row("host_data", Hex.encode(report.hostData)),
            row("policy", flags.filter(\.1).map(\.0).joined(separator: ", ") + " (allowed or required)"),
            row("vmpl", "\(report.vmpl)"), row("guest_svn", "\(report.guestSVN)"),
            row("id_key_digest", Hex.encode(report.idKeyDigest)),
            row("chip_id", report.isChipIDMasked ? "masked" : Hex.encode(report.chipID)),
            row("signing_key", "\(report.signingKey)"),
            row("firmware", "\(report.currentFirmware), committed \(report.committedFirmware)"),
        ]
        if let processor = report.processor {
            let product = processor.product.map { $0.rawValue } ?? "unknown product"
            rows.append(row("processor", "\(product), family \(processor.family) model \(processor.model)"))
        }
        return EvidenceExplanation("SEV-SNP report", rows)
    }

    static func quote(_ bytes: [UInt8]) throws -> EvidenceExplanation {
        let quote = try TDX.Quote(parsing: bytes)
        var claims: [String: JSON] = [:]
        quote.addClaims(to: &claims)
        return EvidenceExplanation(
            "TDX quote", claims.sorted { $0.key < $1.key }.map { row($0.key, $0.value.string ?? $0.value.compact) })
    }

    static func table(_ table: CertificateTable) -> EvidenceExplanation {
        EvidenceExplanation(
            "SEV-SNP certificate table",
            table.entries.map { entry in
                let certificate = try? Certificate.read(entry.contents)
                return row(entry.name.description, certificate.map(describe) ?? "\(entry.contents.count) bytes")
            })
    }
}
