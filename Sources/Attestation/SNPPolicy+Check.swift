import Bytes
import SEVSNP

extension SNPPolicy {
    /// The first demand that `verified` fails, or nothing. Reasons are `policy-<key>` with dashes, last `tcb-order`.
    func check(_ verified: VerifiedReport, chain: VerifiedChain) throws(Finding) {
        let report = verified.report
        try checkGuestPolicy(report)
        try checkLevels(report)
        for claim in ByteClaim.allCases { try checkBytes(claim, report) }
        for claim in TCBClaim.allCases { try checkTCB(claim, verified) }
        try checkProduct(verified)
        for claim in BitClaim.allCases { try checkBits(claim, report) }
        try checkFirmware(verified)
        try checkKey(chain)
        try verified.requireOrderedTCB()
    }

    private static func refuse(
        _ key: String, _ claim: String, _ expected: String, _ actual: String, next: String = ""
    ) -> Finding {
        Finding(
            "policy-" + String(key.map { $0 == "_" ? "-" : $0 }), claim: "report.\(claim)", expected: expected,
            actual: actual, source: "policy.\(key)", next: next)
    }

    private static func refuse(default detail: String, _ claim: String, _ actual: String, key: String) -> Finding {
        Finding(
            "policy-\(detail)", claim: "report.\(claim)", expected: "not \(detail)", actual: actual,
            source: "default of the policy", next: "do not trust this guest, or set \(key)")
    }

    private func checkGuestPolicy(_ report: AttestationReport) throws(Finding) {
        let policy = report.policy
        if policy.allowsDebug, !allowsDebug {
            throw Self.refuse(default: "debug", "policy", "the host may read the guest", key: "allow_debug")
        }
        if policy.allowsMigrationAgent, !allowsMigrationAgent {
            throw Self.refuse(
                default: "migrate-ma", "policy", "a migration agent may be associated", key: "allow_migrate_ma")
        }
        if !allowsSMT, policy.allowsSMT || report.platformInfo.smtEnabled {
            throw Finding(
                "policy-smt", claim: "report.policy", expected: "no SMT",
                actual: policy.allowsSMT ? "the guest policy allows SMT" : "SMT is on", source: "policy.allow_smt",
                next: "launch with SMT disallowed in the guest policy")
        }
        if requiresSingleSocket, !policy.requiresSingleSocket {
            throw Finding(
                "policy-single-socket", claim: "report.policy", expected: "one socket only",
                actual: "several sockets allowed", source: "policy.require_single_socket",
                next: "launch with the single-socket bit of the guest policy")
        }
        if let minimumABI, [policy.abiMajor, policy.abiMinor].lexicographicallyPrecedes(minimumABI) {
            throw Self.refuse(
                "min_abi", "policy", minimumABI.map(String.init).joined(separator: "."),
                "\(policy.abiMajor).\(policy.abiMinor)", next: "launch with a higher minimum ABI in the guest policy")
        }
        if requiresAuthorKey, !report.hasAuthorKey {
            throw Finding(
                "policy-author-key", claim: "report.author_key_en", expected: "an author key", actual: "none",
                source: "policy.require_author_key", next: "launch with an ID block signed through an author key")
        }
    }

    private func checkLevels(_ report: AttestationReport) throws(Finding) {
        if report.vmpl == AttestationReport.hostRequestedVMPL {
            throw Finding(
                "policy-vmpl", claim: "report.vmpl", expected: "0 to 3", actual: "asked for by the host",
                source: "default of the policy", next: "ask the guest itself for a report")
        }
        if let vmpl, !vmpl.contains(report.vmpl) {
            throw Self.refuse("vmpl", "vmpl", vmpl.map(String.init).joined(separator: " or "), "\(report.vmpl)")
        }
        if let minimum = minimumReportVersion, report.version < minimum {
            throw Self.refuse("min_report_version", "version", "at least \(minimum)", "\(report.version)")
        }
        if let minimum = minimumGuestSVN, report.guestSVN < minimum {
            throw Self.refuse(
                "min_guest_svn", "guest_svn", "at least \(minimum)", "\(report.guestSVN)",
                next: "launch a newer release of the guest")
        }
    }

    private func checkBytes(_ claim: ByteClaim, _ report: AttestationReport) throws(Finding) {
        let actual = claim.value(report)
        func equals(_ value: [UInt8]) -> Bool { constantTimeEqual(claim.padded(value), actual) }
        if let values = accepted[claim], !values.contains(where: equals) {
            let expected =
                values.count == 1 ? Hex.encode(values[0]) : "one of \(values.count) values in the policy"
            throw Self.refuse(claim.rawValue, claim.rawValue, expected, Hex.encode(actual))
        }
        // Shorter values are beginnings: what they name is refused whatever follows.
        func isDenied(_ value: [UInt8]) -> Bool { constantTimeEqual(value, actual.prefix(value.count)) }
        if let values = denied[claim], values.contains(where: isDenied) {
            throw Finding(
                "policy-\(String(claim.rawValue.map { $0 == "_" ? "-" : $0 }))", claim: "report.\(claim.rawValue)",
                expected: "not on the deny list", actual: Hex.encode(actual), source: "policy.deny_\(claim.rawValue)")
        }
    }

    private func checkTCB(_ claim: TCBClaim, _ verified: VerifiedReport) throws(Finding) {
        guard let minimum = minimumTCB[claim] else { return }
        let actual = claim.value(verified)
        guard let component = actual.firstBelow(minimum) else { return }
        throw Self.refuse(
            claim.rawValue, claim.field, "\(component) of at least \(minimum)", "\(actual)",
            next: "have the host's firmware updated")
    }

    private func checkProduct(_ verified: VerifiedReport) throws(Finding) {
        let product = verified.product
        if deniedProducts.contains(product) {
            throw Self.refuse("product", "product", "not on the deny list", product.rawValue)
        }
        if let products, !products.contains(product) {
            throw Self.refuse(
                "product", "product", products.map(\.rawValue).joined(separator: " or "), product.rawValue)
        }
        guard let minimumTCBByProduct else { return }
        guard let minimum = minimumTCBByProduct[product] else {
            throw Finding(
                "policy-min-tcb", claim: "report.product",
                expected: minimumTCBByProduct.keys.map(\.rawValue).sorted().joined(separator: " or "),
                actual: product.rawValue, source: "policy.min_tcb_by_product",
                next: "state a minimum for \(product.rawValue) to accept it")
        }
        for claim in TCBClaim.allCases where claim == .reported || minimumTCBAsReported.contains(claim) {
            let actual = claim.value(verified)
            guard let component = actual.firstBelow(minimum) else { continue }
            throw Finding(
                "policy-" + String(claim.rawValue.map { $0 == "_" ? "-" : $0 }), claim: "report.\(claim.field)",
                expected: "\(component) of at least \(minimum)", actual: "\(actual)",
                source: "policy.min_tcb_by_product.\(product.rawValue)", next: "have the host's firmware updated")
        }
    }

    private func checkBits(_ claim: BitClaim, _ report: AttestationReport) throws(Finding) {
        guard let bits = bits[claim] else { return }
        let actual = claim.value(report)
        func hex(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }
        if actual & bits.required != bits.required {
            throw Self.refuse(
                claim.rawValue, claim.field, "bits \(hex(bits.required)) set", hex(actual))
        }
        if actual & bits.forbidden != 0 {
            throw Self.refuse(
                claim.rawValue, claim.field, "bits \(hex(bits.forbidden)) clear", hex(actual))
        }
    }

    private func checkFirmware(_ verified: VerifiedReport) throws(Finding) {
        let report = verified.report
        if let minimumFirmware, report.currentFirmware < minimumFirmware {
            throw Self.refuse(
                "min_fw", "current_version", "at least \(minimumFirmware)", "\(report.currentFirmware)",
                next: "have the host's SEV firmware updated")
        }
        if let minimum = minimumCommittedFirmware, report.committedFirmware < minimum {
            throw Self.refuse(
                "min_fw_committed", "committed_version", "at least \(minimum)", "\(report.committedFirmware)",
                next: "have the host commit its firmware")
        }
        if requiresCommittedIsCurrent,
            verified.committedTCB != verified.currentTCB || report.committedFirmware != report.currentFirmware
        {
            throw Finding(
                "policy-committed", claim: "report.committed_tcb",
                expected: "\(verified.currentTCB), firmware \(report.currentFirmware)",
                actual: "\(verified.committedTCB), firmware \(report.committedFirmware)",
                source: "policy.require_committed_eq_current", next: "have the host commit its firmware")
        }
    }

    private func checkKey(_ chain: VerifiedChain) throws(Finding) {
        let key = chain.endorsement
        if let signingKeys, !signingKeys.contains(key.kind) {
            throw Self.refuse(
                "signing_key", "signing_key", signingKeys.map(\.rawValue).joined(separator: " or "), key.kind.rawValue)
        }
        if let cspIDs, !cspIDs.contains(where: { $0 == key.cspID }) {
            throw Self.refuse("csp_id", "csp_id", cspIDs.joined(separator: " or "), key.cspID ?? "none")
        }
        if requiresRevocationList, !chain.checksRevocation {
            throw Finding(
                "policy-crl", claim: "crl", expected: "a revocation list", actual: "none given",
                source: "policy.require_crl",
                next: "fetch \(KeyDistributionService.revocationListURL(chain.product, key.kind))")
        }
    }
}

extension SNPPolicy.ByteClaim {
    func value(_ report: AttestationReport) -> [UInt8] {
        switch self {
        case .reportData: report.reportData
        case .hostData: report.hostData
        case .measurement: report.measurement
        case .idKeyDigest: report.idKeyDigest
        case .authorKeyDigest: report.authorKeyDigest
        case .familyID: report.familyID
        case .imageID: report.imageID
        case .chipID: report.chipID
        case .reportID: report.reportID
        case .reportIDMA: report.reportIDMA
        }
    }

    /// Bytes of the claim (SEV-SNP firmware ABI, ATTESTATION_REPORT).
    var size: Int {
        switch self {
        case .reportData, .chipID: 64
        case .measurement, .idKeyDigest, .authorKeyDigest: 48
        case .hostData, .reportID, .reportIDMA: 32
        case .familyID, .imageID: 16
        }
    }

    /// Chip ids of Turin may be given by their 8 significant bytes; nothing else is padded.
    func padded(_ value: [UInt8]) -> [UInt8] {
        self == .chipID && value.count == 8 ? value + [UInt8](repeating: 0, count: 56) : value
    }
}

extension SNPPolicy.TCBClaim {
    var field: String {
        switch self {
        case .reported: "reported_tcb"
        case .launch: "launch_tcb"
        case .committed: "committed_tcb"
        case .current: "current_tcb"
        }
    }

    func value(_ verified: VerifiedReport) -> TCBVersion {
        switch self {
        case .reported: verified.reportedTCB
        case .launch: verified.launchTCB
        case .committed: verified.committedTCB
        case .current: verified.currentTCB
        }
    }
}

extension SNPPolicy.BitClaim {
    /// The report's field.
    var field: String { self == .guestPolicy ? "policy" : rawValue }

    func value(_ report: AttestationReport) -> UInt64 {
        switch self {
        case .platformInfo: report.platformInfo.rawValue
        case .guestPolicy: report.policy.rawValue
        case .launchMitigations: report.launchMitigationVector
        case .currentMitigations: report.currentMitigationVector
        }
    }
}
