import Bytes
import SEVSNP

extension SNPPolicy {
    /// The policy as a document, with every key that is set and every default that refuses; reading it gives the same
    /// policy.
    public var json: JSON {
        var object: [String: JSON] = [
            "allow_debug": .bool(allowsDebug), "allow_migrate_ma": .bool(allowsMigrationAgent),
            "allow_masked_chip_id": .bool(allowsMaskedChipID), "allow_smt": .bool(allowsSMT),
            "require_single_socket": .bool(requiresSingleSocket),
            "require_committed_eq_current": .bool(requiresCommittedIsCurrent),
            "require_author_key": .bool(requiresAuthorKey), "require_crl": .bool(requiresRevocationList),
        ]
        func number(_ value: some BinaryInteger) -> JSON { .integer(Int128(value)) }
        func texts(_ values: [String]) -> JSON { .array(values.map { .string($0) }) }
        for (claim, values) in accepted { object[claim.rawValue] = texts(values.map { Hex.encode($0) }) }
        for (claim, values) in denied { object["deny_" + claim.rawValue] = texts(values.map { Hex.encode($0) }) }
        object["vmpl"] = vmpl.map { .array($0.map { number($0) }) }
        object["min_report_version"] = minimumReportVersion.map { number($0) }
        object["min_guest_svn"] = minimumGuestSVN.map { number($0) }
        for (key, version) in [("min_fw", minimumFirmware), ("min_fw_committed", minimumCommittedFirmware)] {
            object[key] = version.map { [number($0.major), number($0.minor), number($0.build)] }
        }
        object["min_abi"] = minimumABI.map { .array($0.map { number($0) }) }
        func minimum(_ tcb: TCBVersion) -> JSON {
            .object(
                Dictionary(tcb.components.map { ($0.name, number($0.value)) }, uniquingKeysWith: { first, _ in first }))
        }
        for (claim, tcb) in minimumTCB {
            object[claim.rawValue] = minimumTCBAsReported.contains(claim) ? .bool(true) : minimum(tcb)
        }
        object["min_tcb_by_product"] = minimumTCBByProduct.map { minima in
            .object(
                Dictionary(minima.map { ($0.key.rawValue, minimum($0.value)) }, uniquingKeysWith: { first, _ in first })
            )
        }
        for (claim, bits) in bits {
            object[claim.rawValue + "_required_bits"] = number(bits.required)
            object[claim.rawValue + "_forbidden_bits"] = number(bits.forbidden)
        }
        object["product"] = products.map { texts($0.map(\.rawValue)) }
        object["deny_product"] = deniedProducts.isEmpty ? nil : texts(deniedProducts.map(\.rawValue))
        object["signing_key"] = signingKeys.map { texts($0.map(\.rawValue)) }
        object["csp_id"] = cspIDs.map { texts($0) }
        return .object(object)
    }
}
