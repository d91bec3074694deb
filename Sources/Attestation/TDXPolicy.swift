import Bytes
import TDX

/// What a relying party wants of a verified TDX quote; the keys are those of the kind `tdx` in `vectors/README.md`.
///
/// Only what is set is enforced, except three defaults that fail closed: no TD under debug, SEPT_VE_DISABLE set, no
/// service TD. Status Revoked is never accepted. Unknown keys, lengths and statuses are refused when read.
public struct TDXPolicy: Sendable, Equatable {
    /// A field of the TD report that a policy can pin.
    public enum Register: String, Sendable, CaseIterable {
        case reportData = "report_data"
        case mrTD = "mr_td"
        case mrConfigID = "mr_config_id"
        case mrOwner = "mr_owner"
        case mrOwnerConfig = "mr_owner_config"
        case rtmr0, rtmr1, rtmr2, rtmr3
        case xfam
        case attributes = "td_attributes"
        case mrSEAM = "mr_seam"
        /// Only TD report 1.5 has it.
        case mrServiceTD = "mr_service_td"

        /// Bytes of the field.
        public var size: Int {
            switch self {
            case .reportData: 64
            case .xfam, .attributes: 8
            default: 48
            }
        }

        /// The field's value; `nil` where the report has none.
        public func value(in body: TDBody) -> [UInt8]? {
            switch self {
            case .reportData: body.reportData
            case .mrTD: body.mrTD
            case .mrConfigID: body.mrConfigID
            case .mrOwner: body.mrOwner
            case .mrOwnerConfig: body.mrOwnerConfig
            case .rtmr0: body.rtmrs[0]
            case .rtmr1: body.rtmrs[1]
            case .rtmr2: body.rtmrs[2]
            case .rtmr3: body.rtmrs[3]
            case .xfam: body.xfam
            case .attributes: body.attributes.bytes
            case .mrSEAM: body.mrSEAM
            case .mrServiceTD: body.extended?.mrServiceTD
            }
        }
    }

    /// Something that names the platform, from its PCK certificate.
    public enum PlatformID: String, Sendable, CaseIterable {
        /// Platform instance id, 16 bytes; only multi-package platforms under the Platform CA have one.
        case piid
        /// 16 bytes.
        case ppid
        /// 6 bytes.
        case fmspc

        public var size: Int { self == .fmspc ? 6 : 16 }

        public func value(in platform: PCKExtension) -> [UInt8]? {
            switch self {
            case .piid: platform.platformInstanceID
            case .ppid: platform.ppid
            case .fmspc: platform.fmspc
            }
        }
    }

    /// Accepted values by field; a field that is not here is not checked.
    public var registers: [Register: Set<[UInt8]>] = [:]
    /// Accepted platforms; every kind of id that is here must match.
    public var platforms: [PlatformID: Set<[UInt8]>] = [:]
    /// Accepted converged statuses. Revoked has no effect here.
    public var allowedStatuses: Set<TCBStatus> = [.upToDate]
    /// Lowest accepted tcbEvaluationDataNumber, of TCB info and QE identity alike.
    public var minimumEvaluationNumber: Int?
    /// Advisories that reject whatever the status.
    public var forbiddenAdvisories: Set<String> = []
    /// Lowest accepted SVNs, component by component, 16 bytes.
    public var minimumTEETCBSVN: [UInt8]?
    /// Lowest accepted SVN of the quoting enclave.
    public var minimumQESVN: Int?
    /// Lowest accepted SVN of the provisioning certification enclave.
    public var minimumPCESVN: Int?
    public var allowDebug = false
    public var allowServiceTD = false
    /// `nil` leaves it unchecked.
    public var allowPerfmon: Bool?
    /// `nil` leaves it unchecked.
    public var allowMigratable: Bool?
    public var requireSEPTVEDisable = true

    public init() {}

    /// - Throws: a parse error that names the key that is unknown, or not of its form.
    public init(_ json: JSON, path: String = "policy") throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        for register in Register.allCases {
            registers[register] = try Self.values(&fields, register.rawValue, register.size, path)
        }
        for id in PlatformID.allCases { platforms[id] = try Self.values(&fields, id.rawValue, id.size, path) }
        if let names = try Self.strings(&fields, "allow_statuses", path) {
            allowedStatuses = []
            for name in names {
                guard let status = TCBStatus(rawValue: name) else {
                    throw ParseError("form", field: "\(path).allow_statuses", offset: 0, "unknown status \(name)")
                }
                allowedStatuses.insert(status)
            }
        }
        forbiddenAdvisories = Set(try Self.strings(&fields, "forbidden_advisories", path) ?? [])
        minimumEvaluationNumber = try Self.counter(&fields, "min_tcb_eval", path)
        minimumTEETCBSVN = try fields.optionalHex("min_tee_tcb_svn", count: 16)
        minimumQESVN = try Self.counter(&fields, "min_qe_svn", path)
        minimumPCESVN = try Self.counter(&fields, "min_pce_svn", path)
        allowDebug = try fields.bool("allow_debug", default: false)
        allowServiceTD = try fields.bool("allow_service_td", default: false)
        requireSEPTVEDisable = try fields.bool("require_sept_ve_disable", default: true)
        if fields.optional("allow_perfmon") != nil { allowPerfmon = try fields.bool("allow_perfmon", default: false) }
        if fields.optional("allow_migratable") != nil {
            allowMigratable = try fields.bool("allow_migratable", default: false)
        }
        try fields.end()
    }

    /// Hex text or a list of it; an empty list is refused, it could only mean a mistake.
    private static func values(
        _ fields: inout JSONFields, _ key: String, _ size: Int, _ path: String
    ) throws(ParseError) -> Set<[UInt8]>? {
        guard let json = fields.optional(key) else { return nil }
        var values: Set<[UInt8]> = []
        for item in json.array ?? [json] {
            values.insert(try JSONFields.hex(item, path: "\(path).\(key)", count: size))
        }
        guard !values.isEmpty else {
            throw ParseError("form", field: "\(path).\(key)", offset: 0, "an empty list accepts nothing")
        }
        return values
    }

    /// A floor below zero would be none.
    private static func counter(
        _ fields: inout JSONFields, _ key: String, _ path: String
    ) throws(ParseError) -> Int? {
        guard let value = try fields.optionalInteger(key) else { return nil }
        guard value >= 0 else {
            throw ParseError("form", field: "\(path).\(key)", offset: 0, "must not be negative, is \(value)")
        }
        return value
    }

    private static func strings(
        _ fields: inout JSONFields, _ key: String, _ path: String
    ) throws(ParseError) -> [String]? {
        guard fields.optional(key) != nil else { return nil }
        var texts: [String] = []
        for item in try fields.array(key) {
            guard let text = item.string else {
                throw ParseError("form", field: "\(path).\(key)", offset: 0, "must be a list of strings")
            }
            texts.append(text)
        }
        return texts
    }

    /// The policy as a document; reading it gives the same policy.
    public var json: JSON {
        var object: [String: JSON] = [
            "allow_statuses": .array(allowedStatuses.map(\.rawValue).sorted().map { .string($0) }),
            "allow_debug": .bool(allowDebug),
            "allow_service_td": .bool(allowServiceTD),
            "require_sept_ve_disable": .bool(requireSEPTVEDisable),
        ]
        func list(_ values: Set<[UInt8]>) -> JSON { .array(values.map { Hex.encode($0) }.sorted().map { .string($0) }) }
        for (register, values) in registers { object[register.rawValue] = list(values) }
        for (id, values) in platforms { object[id.rawValue] = list(values) }
        if !forbiddenAdvisories.isEmpty {
            object["forbidden_advisories"] = .array(forbiddenAdvisories.sorted().map { .string($0) })
        }
        object["min_tcb_eval"] = minimumEvaluationNumber.map { .integer(Int128($0)) }
        object["min_tee_tcb_svn"] = minimumTEETCBSVN.map { .hex($0) }
        object["min_qe_svn"] = minimumQESVN.map { .integer(Int128($0)) }
        object["min_pce_svn"] = minimumPCESVN.map { .integer(Int128($0)) }
        object["allow_perfmon"] = allowPerfmon.map { .bool($0) }
        object["allow_migratable"] = allowMigratable.map { .bool($0) }
        return .object(object)
    }
}
