import Bytes
import SEVSNP

/// What a relying party demands of a SEV-SNP report. Only what is set is enforced, except that debug, migration
/// agents, masked chip ids and reports that the host asked for are refused unless allowed.
///
/// The JSON keys are those of `vectors/README.md` and, for what it lacks, of `docs/snp-policy.md`; a key that is not one
/// of them is refused.
public struct SNPPolicy: Sendable, Equatable {
    /// Claims compared byte by byte with a set of values; raw values are the JSON keys.
    public enum ByteClaim: String, Sendable, CaseIterable, Hashable {
        case reportData = "report_data"
        case hostData = "host_data"
        case measurement
        case idKeyDigest = "id_key_digest"
        case authorKeyDigest = "author_key_digest"
        case familyID = "family_id"
        case imageID = "image_id"
        case chipID = "chip_id"
        case reportID = "report_id"
        case reportIDMA = "report_id_ma"
    }

    /// TCB versions of a report that can have a minimum; raw values are the JSON keys.
    public enum TCBClaim: String, Sendable, CaseIterable, Hashable {
        case reported = "min_tcb"
        case launch = "min_tcb_launch"
        case committed = "min_tcb_committed"
        case current = "min_tcb_current"
    }

    /// Bit fields with bits that must be set or clear; raw values are the JSON keys without their ending.
    public enum BitClaim: String, Sendable, CaseIterable, Hashable {
        case platformInfo = "platform_info"
        case guestPolicy = "guest_policy"
        case launchMitigations = "launch_mit_vector"
        case currentMitigations = "current_mit_vector"
    }

    /// Bits that must be set, and bits that must be clear.
    public struct Bits: Sendable, Equatable {
        public var required: UInt64 = 0
        public var forbidden: UInt64 = 0
        public init(required: UInt64 = 0, forbidden: UInt64 = 0) {
            self.required = required
            self.forbidden = forbidden
        }
    }

    /// Accepted values by claim (`measurement`: one or a list); an empty list accepts nothing.
    public var accepted: [ByteClaim: [[UInt8]]] = [:]
    /// Refused values by claim (`deny_chip_id`: one or a list), over the claim's whole length; eight bytes of a chip id
    /// refuse every chip whose id starts with them.
    public var denied: [ByteClaim: [[UInt8]]] = [:]
    /// `vmpl`: one level or a list.
    public var vmpl: [UInt32]?
    /// `min_report_version`.
    public var minimumReportVersion: UInt32?
    /// `min_guest_svn`.
    public var minimumGuestSVN: UInt32?
    /// `min_fw`, `min_fw_committed`: [major, minor, build].
    public var minimumFirmware: FirmwareVersion?
    public var minimumCommittedFirmware: FirmwareVersion?
    /// `min_abi`: [major, minor], of the guest policy.
    public var minimumABI: [UInt8]?
    /// `min_tcb…`: {bl, tee, snp, ucode, fmc}; components left out may be anything.
    public var minimumTCB: [TCBClaim: TCBVersion] = [:]
    /// Claims under whose key stands `true`: the minima of `min_tcb` and `min_tcb_by_product` hold for them too.
    public internal(set) var minimumTCBAsReported: Set<TCBClaim> = []
    /// `min_tcb_by_product`: minimum reported TCB by product; a product that is not named is refused.
    public var minimumTCBByProduct: [Product: TCBVersion]?
    /// `platform_info_required_bits`, `platform_info_forbidden_bits` and the same for the other fields.
    public var bits: [BitClaim: Bits] = [:]
    /// `product`, `deny_product`: one name or a list (Milan, Genoa, Turin).
    public var products: [Product]?
    public var deniedProducts: [Product] = []
    /// `signing_key`: `vcek`, `vlek` or a list.
    public var signingKeys: [EndorsementKey.Kind]?
    /// `csp_id`: cloud providers accepted under a VLEK.
    public var cspIDs: [String]?
    /// `allow_debug`, `allow_migrate_ma`, `allow_masked_chip_id`.
    public var allowsDebug = false
    public var allowsMigrationAgent = false
    public var allowsMaskedChipID = false
    /// `allow_smt`: false refuses guests that may run where SMT is on, and machines where it is.
    public var allowsSMT = true
    /// `require_single_socket`, `require_committed_eq_current`, `require_author_key`, `require_crl`.
    public var requiresSingleSocket = false
    public var requiresCommittedIsCurrent = false
    public var requiresAuthorKey = false
    public var requiresRevocationList = false

    /// Checks nothing but the defaults.
    public init() {}
}

extension SNPPolicy {
    /// Reads a policy object; unknown keys and values of another form are `parse-form`.
    public init(_ json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "policy")
        self.init()
        for claim in ByteClaim.allCases {
            if let value = fields.optional(claim.rawValue) {
                accepted[claim] = try Self.hexList(value, claim.rawValue)
            }
            if let value = fields.optional("deny_" + claim.rawValue) {
                let values = try Self.hexList(value, "deny_" + claim.rawValue)
                // A value of another length equals nothing: to accept it would deny nobody.
                guard values.allSatisfy({ claim.padded($0).count == claim.size }) else {
                    throw Self.error("deny_" + claim.rawValue, "must be \(claim.size) bytes each")
                }
                denied[claim] = values
            }
        }
        vmpl = try fields.optional("vmpl").map { value throws(ParseError) in
            try Self.list(value).map { item throws(ParseError) in try Self.number(item, "vmpl") }
        }
        minimumReportVersion = try Self.optionalNumber(&fields, "min_report_version")
        minimumGuestSVN = try Self.optionalNumber(&fields, "min_guest_svn")
        minimumFirmware = try Self.firmware(&fields, "min_fw")
        minimumCommittedFirmware = try Self.firmware(&fields, "min_fw_committed")
        minimumABI = try Self.bytes(&fields, "min_abi", ["major", "minor"])
        for claim in TCBClaim.allCases {
            guard let value = fields.optional(claim.rawValue) else { continue }
            if let isSame = value.bool, claim != .reported {
                if isSame { minimumTCBAsReported.insert(claim) }
            } else {
                minimumTCB[claim] = try Self.tcb(value, claim.rawValue)
            }
        }
        if let value = fields.optional("min_tcb_by_product") {
            minimumTCBByProduct = try Self.tcbByProduct(value)
        }
        for claim in TCBClaim.allCases where minimumTCBAsReported.contains(claim) {
            if let minimum = minimumTCB[.reported] {
                minimumTCB[claim] = minimum
            } else if minimumTCBByProduct != nil {
                // Zeros for now: the product's own minimum is checked once the product is known.
                minimumTCB[claim] = try Self.tcb(.object([:]), claim.rawValue)
            } else {
                throw Self.error(claim.rawValue, "true means the minimum of min_tcb or min_tcb_by_product: state one")
            }
        }
        for claim in BitClaim.allCases {
            let required: UInt64? = try Self.mask(&fields, claim.rawValue + "_required_bits")
            let forbidden: UInt64? = try Self.mask(&fields, claim.rawValue + "_forbidden_bits")
            if required == nil, forbidden == nil { continue }
            bits[claim] = Bits(required: required ?? 0, forbidden: forbidden ?? 0)
        }
        products = try Self.names(&fields, "product") { Product(rawValue: $0) }
        deniedProducts = try Self.names(&fields, "deny_product") { Product(rawValue: $0) } ?? []
        signingKeys = try Self.names(&fields, "signing_key") { EndorsementKey.Kind(rawValue: $0) }
        cspIDs = try Self.names(&fields, "csp_id") { $0.isEmpty ? nil : $0 }
        allowsDebug = try fields.bool("allow_debug", default: false)
        allowsMigrationAgent = try fields.bool("allow_migrate_ma", default: false)
        allowsMaskedChipID = try fields.bool("allow_masked_chip_id", default: false)
        allowsSMT = try fields.bool("allow_smt", default: true)
        requiresSingleSocket = try fields.bool("require_single_socket", default: false)
        requiresCommittedIsCurrent = try fields.bool("require_committed_eq_current", default: false)
        requiresAuthorKey = try fields.bool("require_author_key", default: false)
        requiresRevocationList = try fields.bool("require_crl", default: false)
        try fields.end()
    }

    private static func error(_ key: String, _ message: String) -> ParseError {
        ParseError("form", field: "policy.\(key)", offset: 0, message)
    }

    /// One value or a list of them.
    private static func list(_ value: JSON) -> [JSON] { value.array ?? [value] }

    /// Values of any length: an accepted value of another length than the claim's equals nothing.
    private static func hexList(_ value: JSON, _ key: String) throws(ParseError) -> [[UInt8]] {
        try list(value).map { item throws(ParseError) in try JSONFields.hex(item, path: "policy.\(key)") }
    }

    private static func number<T: FixedWidthInteger>(_ value: JSON, _ key: String) throws(ParseError) -> T {
        guard let number = value.unsigned.flatMap({ T(exactly: $0) }) else {
            throw error(key, "must be an integer from 0 to \(T.max)")
        }
        return number
    }

    private static func optionalNumber<T: FixedWidthInteger>(
        _ fields: inout JSONFields, _ key: String
    ) throws(ParseError) -> T? {
        guard let value = fields.optional(key) else { return nil }
        return try number(value, key)
    }

    /// A mask as a number or hexadecimal text, or the list of its bits' numbers.
    private static func mask(_ fields: inout JSONFields, _ key: String) throws(ParseError) -> UInt64? {
        guard let value = fields.optional(key) else { return nil }
        if let bits = value.array {
            var mask: UInt64 = 0
            for bit in bits {
                guard let index = bit.unsigned, index < 64 else { throw error(key, "bits are numbered 0 to 63") }
                mask |= 1 << index
            }
            return mask
        }
        if let text = value.string {
            let digits = text.hasPrefix("0x") ? text.dropFirst(2) : text[...]
            // Swift's own reading takes a sign too.
            guard digits.allSatisfy(\.isHexDigit), let mask = UInt64(digits, radix: 16) else {
                throw error(key, "must be a number, hexadecimal text or a list of bit numbers")
            }
            return mask
        }
        return try number(value, key)
    }

    /// A list of small numbers, or an object with a member for each.
    private static func bytes(
        _ fields: inout JSONFields, _ key: String, _ names: [String]
    ) throws(ParseError) -> [UInt8]? {
        guard let value = fields.optional(key) else { return nil }
        var items = value.array
        if items == nil {
            var members = try JSONFields(value, path: "policy.\(key)")
            items = try names.map { name throws(ParseError) in try members.required(name) }
            try members.end()
        }
        guard let items, items.count == names.count else {
            throw error(key, "must be [\(names.joined(separator: ", "))]")
        }
        return try items.map { item throws(ParseError) in try number(item, key) }
    }

    private static func firmware(
        _ fields: inout JSONFields, _ key: String
    ) throws(ParseError) -> FirmwareVersion? {
        guard let parts = try bytes(&fields, key, ["major", "minor", "build"]), parts.count == 3 else { return nil }
        return FirmwareVersion(major: parts[0], minor: parts[1], build: parts[2])
    }

    private static func tcb(_ value: JSON, _ key: String) throws(ParseError) -> TCBVersion {
        var fields = try JSONFields(value, path: "policy.\(key)")
        let minimum = TCBVersion(
            fmc: try optionalNumber(&fields, "fmc"), bootloader: try optionalNumber(&fields, "bl") ?? 0,
            tee: try optionalNumber(&fields, "tee") ?? 0, snp: try optionalNumber(&fields, "snp") ?? 0,
            microcode: try optionalNumber(&fields, "ucode") ?? 0)
        try fields.end()
        return minimum
    }

    private static func tcbByProduct(_ value: JSON) throws(ParseError) -> [Product: TCBVersion] {
        var fields = try JSONFields(value, path: "policy.min_tcb_by_product")
        var minima: [Product: TCBVersion] = [:]
        for product in Product.allCases {
            guard let value = fields.optional(product.rawValue) else { continue }
            minima[product] = try tcb(value, "min_tcb_by_product.\(product.rawValue)")
        }
        try fields.end()
        return minima
    }

    private static func names<T>(
        _ fields: inout JSONFields, _ key: String, _ named: (String) -> T?
    ) throws(ParseError) -> [T]? {
        guard let value = fields.optional(key) else { return nil }
        return try list(value).map { item throws(ParseError) in
            guard let text = item.string, let found = named(text) else {
                throw error(key, "has an unknown or empty name")
            }
            return found
        }
    }
}
