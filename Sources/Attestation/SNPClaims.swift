import Bytes
import SEVSNP

extension SNPAppraisal {
    /// The report decoded, by the names that policies use.
    public var claims: [String: JSON] {
        let report = verified.report
        let endorsement = chain.endorsement
        var claims: [String: JSON] = [
            "authentic": true,
            "product": .string(verified.product.rawValue),
            "product_name": .string(endorsement.productName),
            "signing_key": .string(endorsement.kind.rawValue),
            "revocation_checked": .bool(chain.checksRevocation),
            "version": .number(report.version),
            "guest_svn": .number(report.guestSVN),
            "policy": report.policy.json,
            "vmpl": .number(report.vmpl),
            "platform_info": report.platformInfo.json,
            "author_key_en": .bool(report.hasAuthorKey),
            "mask_chip_key": .bool(report.masksChipKey),
            "reported_tcb": verified.reportedTCB.json,
            "current_tcb": verified.currentTCB.json,
            "committed_tcb": verified.committedTCB.json,
            "launch_tcb": verified.launchTCB.json,
            "current_version": .string(report.currentFirmware.description),
            "committed_version": .string(report.committedFirmware.description),
        ]
        for claim in SNPPolicy.ByteClaim.allCases { claims[claim.rawValue] = .hex(claim.value(report)) }
        if let cspID = endorsement.cspID { claims["csp_id"] = .string(cspID) }
        if let processor = report.processor {
            claims["cpuid"] = [
                "family": .number(processor.family), "model": .number(processor.model),
                "stepping": .number(processor.stepping),
            ]
        }
        if report.version >= 5 {
            claims["launch_mit_vector"] = .number(report.launchMitigationVector)
            claims["current_mit_vector"] = .number(report.currentMitigationVector)
        }
        return claims
    }
}

extension SNPPolicy {
    /// Claims of the report that no set key of this policy looks at, by the names of `SNPAppraisal.claims`.
    public func unchecked(_ verified: VerifiedReport, chain: VerifiedChain) -> [String] {
        let report = verified.report
        var names: [String] = ByteClaim.allCases.filter { accepted[$0] == nil }.map(\.rawValue)
        func add(_ name: String, unless isChecked: Bool) { if !isChecked { names.append(name) } }
        add("vmpl", unless: vmpl != nil)
        add("guest_svn", unless: minimumGuestSVN != nil)
        add("version", unless: minimumReportVersion != nil)
        add("reported_tcb", unless: minimumTCB[.reported] != nil || minimumTCBByProduct != nil)
        add("launch_tcb", unless: minimumTCB[.launch] != nil)
        add("current_tcb", unless: minimumTCB[.current] != nil || requiresCommittedIsCurrent)
        add("committed_tcb", unless: minimumTCB[.committed] != nil || requiresCommittedIsCurrent)
        add("current_version", unless: minimumFirmware != nil || requiresCommittedIsCurrent)
        add("committed_version", unless: minimumCommittedFirmware != nil || requiresCommittedIsCurrent)
        add("policy.abi", unless: minimumABI != nil)
        add("policy.smt", unless: !allowsSMT)
        add("policy.single_socket", unless: requiresSingleSocket)
        add("platform_info", unless: bits[.platformInfo] != nil)
        add("product", unless: products != nil || minimumTCBByProduct != nil)
        add("signing_key", unless: signingKeys != nil)
        add("author_key_en", unless: requiresAuthorKey || accepted[.authorKeyDigest] != nil)
        add("csp_id", unless: cspIDs != nil || chain.endorsement.cspID == nil)
        add("launch_mit_vector", unless: bits[.launchMitigations] != nil || report.version < 5)
        add("current_mit_vector", unless: bits[.currentMitigations] != nil || report.version < 5)
        add("revocation", unless: chain.checksRevocation)
        return names
    }
}

extension JSON {
    fileprivate static func number(_ value: some BinaryInteger) -> JSON { .integer(Int128(value)) }
}

extension TCBVersion {
    fileprivate var json: JSON {
        .object(
            Dictionary(components.map { ($0.name, JSON.number($0.value)) }, uniquingKeysWith: { first, _ in first }))
    }
}

extension GuestPolicy {
    fileprivate var json: JSON {
        [
            "raw": .string("0x" + String(rawValue, radix: 16)), "abi": .string("\(abiMajor).\(abiMinor)"),
            "smt": .bool(allowsSMT), "migrate_ma": .bool(allowsMigrationAgent), "debug": .bool(allowsDebug),
            "single_socket": .bool(requiresSingleSocket), "cxl": .bool(allowsCXL),
            "mem_aes_256_xts": .bool(requiresAES256XTS), "rapl_dis": .bool(requiresRAPLDisabled),
            "ciphertext_hiding": .bool(requiresCiphertextHiding), "page_swap_disable": .bool(disablesPageSwap),
        ]
    }
}

extension PlatformInfo {
    fileprivate var json: JSON {
        [
            "raw": .string("0x" + String(rawValue, radix: 16)), "smt_en": .bool(smtEnabled),
            "tsme_en": .bool(tsmeEnabled), "ecc_en": .bool(eccEnabled), "rapl_dis": .bool(raplDisabled),
            "ciphertext_hiding_dram_en": .bool(ciphertextHidingEnabled),
            "alias_check_complete": .bool(aliasCheckComplete), "tio_en": .bool(tioEnabled),
            "unknown_bits": .string("0x" + String(unknownBits, radix: 16)),
        ]
    }
}
