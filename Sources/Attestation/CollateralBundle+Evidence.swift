import Bytes
import SEVSNP
import TDX

/// Collateral beside evidence (`collateral` of `nacre.evidence.v1`), so that it can be judged with no network.
extension CollateralBundle {
    /// What is held for a hardware report, by the names of the judge's inputs: `vek`, `chain`, `crl` of the kind `snp`,
    /// `collateral` of the kind `tdx`. Reports that cannot be read get nothing; the judge says why.
    public func inputs(for tee: Evidence.TEEEvidence, _ platform: Evidence.Platform) -> [String: [UInt8]] {
        switch platform {
        case .tpm: return [:]
        case .tdx:
            guard let source = try? Quote(parsing: tee.report).collateralSource() else { return [:] }
            return intel(source).map { ["collateral": $0] } ?? [:]
        case .snp:
            guard let report = try? AttestationReport(tee.report) else { return [:] }
            var inputs: [String: [UInt8]] = [:]
            inputs["vek"] = endorsement(for: report)
            let brought = inputs["vek"] ?? Self.endorsement(in: tee.auxiliary, for: report)
            guard let key = brought.flatMap({ try? EndorsementKey($0) }) else { return inputs }
            if case .chain(_, _, let pem) = items[CollateralItem.key("chain", key.product, key.kind)] {
                inputs["chain"] = pem
            }
            inputs["crl"] = revocationList(key.product, key.kind)
            return inputs
        }
    }

    /// The certificate of the key that signed `report`: by chip and TCB where the report tells them, else the only one
    /// that is here. A wrong one would be found out by its signature.
    private func endorsement(for report: AttestationReport) -> [UInt8]? {
        if let product = report.processor?.product, report.signingKey == .vcek, !report.isChipIDMasked,
            let tcb = try? TCBVersion(report.reportedTCB, product: product, "report.reported_tcb"),
            let der = vcek(product, chipID: report.chipID, tcb: tcb)
        {
            return der
        }
        let all = items.values.compactMap { item -> [UInt8]? in
            if case .endorsement(let der) = item { der } else { nil }
        }
        return all.count == 1 ? all.first : nil
    }

    /// The certificate that the host put into the table of an extended report.
    static func endorsement(in table: [UInt8], for report: AttestationReport) -> [UInt8]? {
        guard let table = try? CertificateTable(table) else { return nil }
        return table[report.signingKey == .vlek ? .vlek : .vcek]
    }

    /// Adds a file that somebody brings for `tee`: `nacre.collateral.v1`, or what one of the judge's inputs holds. Only
    /// its form is checked here.
    ///
    /// - Parameter name: `vek`, `chain`, `crl` (SEV-SNP) or `collateral` (TDX).
    public mutating func add(_ name: String, _ bytes: [UInt8], for tee: Evidence.TEEEvidence) throws(Finding) {
        switch name {
        case "collateral":
            let json = try Self.parsed { () throws(ParseError) in
                try JSON(parsing: bytes, limit: Collateral.maximumSize)
            }
            guard json["schema"] == nil else { return try add(contentsOf: CollateralBundle(json: json)) }
            let quote = try Self.parsed { () throws(ParseError) in try Quote(parsing: tee.report) }
            let collateral = try Self.parsed { () throws(ParseError) in try Collateral(json) }
            try add(.intel(quote.collateralSource(), collateral))
        case "vek": try add(.endorsement(EndorsementKey(bytes).certificate.der))
        default:
            let report = try Self.parsed { () throws(ParseError) in try AttestationReport(tee.report) }
            guard let vek = endorsement(for: report) ?? Self.endorsement(in: tee.auxiliary, for: report) else {
                throw Finding(
                    "parse-missing", claim: "vek", expected: "the VCEK or VLEK, which tells the product",
                    actual: "neither given nor in the evidence", next: "give --vek too")
            }
            let key = try EndorsementKey(vek)
            try add(
                name == "chain"
                    ? .chain(key.product, key.kind, bytes) : .revocationList(key.product, key.kind, bytes))
        }
    }

    /// Adds every item of `other`, in place of those with the same keys.
    public mutating func add(contentsOf other: CollateralBundle) throws(Finding) {
        for item in other.items.values { try add(item) }
    }

    private static func parsed<T>(_ body: () throws(ParseError) -> T) throws(Finding) -> T {
        do throws(ParseError) { return try body() } catch { throw error.finding }
    }
}

extension CollateralClient {
    /// What `evidence` needs and does not bring: Intel's collateral for a quote, or the endorsement certificate and the
    /// revocation list of a report. AMD's intermediate certificates are part of Nacre.
    ///
    /// - Returns: `nil` for a machine without a hardware report.
    public func completing(
        _ evidence: Evidence, _ held: CollateralBundle, at time: Instant
    ) throws(Finding) -> CollateralBundle? {
        guard let tee = evidence.tee else { return nil }
        var bundle = held
        switch evidence.platform {
        case .tpm: return nil
        case .tdx:
            let quote: Quote
            do throws(ParseError) { quote = try Quote(parsing: tee.report) } catch { throw error.finding }
            if held.inputs(for: tee, .tdx)["collateral"] == nil { try bundle.add(collateral(for: quote, at: time)) }
        case .snp:
            let report: AttestationReport
            do throws(ParseError) { report = try AttestationReport(tee.report) } catch { throw error.finding }
            let brought =
                held.inputs(for: tee, .snp)["vek"] ?? CollateralBundle.endorsement(in: tee.auxiliary, for: report)
            if brought == nil { try bundle.add(vcek(for: report, at: time)) }
            guard let vek = brought ?? bundle.inputs(for: tee, .snp)["vek"] else { return bundle }
            let key = try EndorsementKey(vek)
            if held.revocationList(key.product, key.kind) == nil {
                try bundle.add(revocationList(key.product, key.kind, at: time))
            }
        }
        return bundle
    }
}
