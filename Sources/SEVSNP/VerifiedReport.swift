import Bytes

/// A report whose signature holds and that agrees with the certificate of its key: what a policy may be asked about.
public struct VerifiedReport: Sendable {
    public let report: AttestationReport
    public let product: Product
    /// The report's TCB versions in the product's layout.
    public let reportedTCB: TCBVersion
    public let currentTCB: TCBVersion
    public let committedTCB: TCBVersion
    public let launchTCB: TCBVersion

    init(_ report: AttestationReport, chain: VerifiedChain, allowMaskedChipID: Bool) throws(Finding) {
        self.report = report
        product = chain.product
        try Self.product(report, chain)
        do {
            reportedTCB = try TCBVersion(report.reportedTCB, product: product, "report.reported_tcb")
            currentTCB = try TCBVersion(report.currentTCB, product: product, "report.current_tcb")
            committedTCB = try TCBVersion(report.committedTCB, product: product, "report.committed_tcb")
            launchTCB = try TCBVersion(report.launchTCB, product: product, "report.launch_tcb")
        } catch {
            throw Finding(
                "tcb-reserved", claim: error.field, actual: error.message, source: "SEV-SNP ABI, TCB_VERSION",
                next: "use a release that knows this firmware")
        }
        try tcb(chain.endorsement)
        try chip(chain.endorsement, allowMasked: allowMaskedChipID)
    }

    /// The processor that the report names belongs to the chain's product. Version 2 names none.
    private static func product(_ report: AttestationReport, _ chain: VerifiedChain) throws(Finding) {
        guard let processor = report.processor else { return }
        let cpuid =
            "family 0x\(Hex.encode([processor.family])) model 0x\(Hex.encode([processor.model]))"
        guard let product = processor.product else {
            throw Finding(
                "product-unknown", claim: "report.cpuid",
                expected: Product.allCases.map(\.rawValue).joined(separator: ", "), actual: cpuid,
                source: "this release", next: "use a release that knows this processor")
        }
        guard product == chain.product else {
            throw Finding(
                "product-mismatch", claim: "report.cpuid", expected: chain.product.rawValue,
                actual: "\(product.rawValue) (\(cpuid))", source: "the certificate chain",
                next: "give the certificates of this machine")
        }
    }

    /// A VEK is derived for one TCB exactly: higher or lower is another key.
    private func tcb(_ endorsement: EndorsementKey) throws(Finding) {
        guard reportedTCB == endorsement.tcb else {
            throw Finding(
                "tcb-mismatch", claim: "report.reported_tcb", expected: "\(endorsement.tcb)", actual: "\(reportedTCB)",
                source: "the certificate's extensions", next: "fetch the certificate for the reported TCB")
        }
    }

    /// No firmware reports more than it runs, or has committed to more than it runs: `tcb-order` where one says so.
    ///
    /// Policies ask this last: genuine firmware keeps the order, so that a more telling objection should come first.
    public func requireOrderedTCB() throws(Finding) {
        func refuse(_ claim: String, _ expected: String, _ actual: String, _ source: String) -> Finding {
            Finding(
                "tcb-order", claim: "report.\(claim)", expected: expected, actual: actual, source: "report.\(source)",
                next: "do not trust this machine's firmware")
        }
        for (claim, lower) in [("reported_tcb", reportedTCB), ("committed_tcb", committedTCB)] {
            if let component = currentTCB.firstBelow(lower) {
                throw refuse(claim, "\(component) at most that of \(currentTCB)", "\(lower)", "current_tcb")
            }
        }
        guard report.committedFirmware <= report.currentFirmware else {
            throw refuse(
                "committed_version", "at most \(report.currentFirmware)", "\(report.committedFirmware)",
                "current_version")
        }
    }

    /// The chip that the certificate was issued for made the report. A VLEK is of no chip in particular.
    private func chip(_ endorsement: EndorsementKey, allowMasked: Bool) throws(Finding) {
        guard let hardwareID = endorsement.hardwareID else { return }
        if report.isChipIDMasked {
            guard allowMasked else {
                throw Finding(
                    "hwid-masked", claim: "report.chip_id", expected: Hex.encode(hardwareID),
                    actual: "all zero: the host masks the chip id", source: "the certificate's hwID",
                    next: "have MASK_CHIP_ID switched off, or set allow_masked_chip_id")
            }
            return
        }
        let expected = hardwareID + [UInt8](repeating: 0, count: max(0, 64 - hardwareID.count))
        guard report.chipID == expected else {
            throw Finding(
                "hwid-mismatch", claim: "report.chip_id", expected: Hex.encode(expected),
                actual: Hex.encode(report.chipID), source: "the certificate's hwID",
                next: "give the VCEK of the chip that made the report")
        }
    }
}
