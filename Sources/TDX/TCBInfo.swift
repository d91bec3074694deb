import Bytes

/// TCB info of one platform type (Intel PCS v4 `/tdx/certification/v4/tcb`, version 3, id TDX), from its signed bytes.
///
/// Fields that this room does not use are ignored: the document is Intel's, its version is checked, and nothing that was
/// not signed reaches this parser. What is used is read strictly and bounded.
public struct TCBInfo: Sendable, Equatable {
    public let issueDate: Instant
    public let nextUpdate: Instant
    /// 6 bytes.
    public let fmspc: [UInt8]
    /// 2 bytes.
    public let pceID: [UInt8]
    /// Grows with every TCB recovery event that the levels take into account.
    public let evaluationDataNumber: Int
    /// The module of major version 0.
    let module: ModuleIdentity
    /// Modules of later major versions, by upper-case id `TDX_01`, …
    let modules: [String: ModuleIdentity]
    /// In served order, newest first.
    let levels: [Level]

    /// Signer and attributes of a TDX module, and its own TCB levels.
    struct ModuleIdentity: Sendable, Equatable {
        let mrSigner: [UInt8]
        let attributes: [UInt8]
        let attributesMask: [UInt8]
        let levels: [SVNLevel]
    }

    /// One platform TCB level.
    struct Level: Sendable, Equatable {
        let sgxComponents: [UInt8]
        let pceSVN: Int
        let tdxComponents: [UInt8]
        let date: Instant
        let status: TCBStatus
        let advisories: [String]
    }

    static let maximumLevels = 256
    static let maximumModules = 64

    init(parsing bytes: [UInt8]) throws(ParseError) {
        let json = try JSON(parsing: bytes, limit: Collateral.maximumSize)
        var fields = try JSONFields(json, path: "tcb_info")
        let (id, version) = (try fields.string("id"), try fields.integer("version"))
        guard id == "TDX", version == 3 else {
            throw ParseError(
                "version", field: "tcb_info.id", offset: 0, "must be TDX version 3, is \(id) version \(version)")
        }
        guard try fields.integer("tcbType") == 0 else {
            throw ParseError("version", field: "tcb_info.tcbType", offset: 0, "must be 0")
        }
        issueDate = try fields.date("issueDate")
        nextUpdate = try fields.date("nextUpdate")
        fmspc = try fields.hex("fmspc", count: 6)
        pceID = try fields.hex("pceId", count: 2)
        evaluationDataNumber = try fields.integer("tcbEvaluationDataNumber")
        module = try ModuleIdentity(try fields.required("tdxModule"), path: "tcb_info.tdxModule", levels: [])
        var modules: [String: ModuleIdentity] = [:]
        if fields.optional("tdxModuleIdentities") != nil {
            for item in try fields.list("tdxModuleIdentities", 0...Self.maximumModules) {
                var identity = try JSONFields(item, path: "tcb_info.tdxModuleIdentities")
                let id = try identity.string("id").uppercased()
                let levels = try identity.list("tcbLevels", 1...Self.maximumLevels).map { json throws(ParseError) in
                    try SVNLevel(json, path: "tcb_info.tdxModuleIdentities.tcbLevels")
                }
                let module = try ModuleIdentity(item, path: "tcb_info.tdxModuleIdentities", levels: levels)
                guard modules.updateValue(module, forKey: id) == nil else {
                    throw ParseError("form", field: "tcb_info.tdxModuleIdentities", offset: 0, "\(id) stands twice")
                }
            }
        }
        self.modules = modules
        levels = try fields.list("tcbLevels", 1...Self.maximumLevels).map { json throws(ParseError) in
            try Level(json)
        }
    }

    /// The identity that a module of this `tee_tcb_svn` must have; `nil` when Intel lists none.
    func module(for teeTCBSVN: [UInt8]) -> ModuleIdentity? {
        guard let major = teeTCBSVN.dropFirst().first else { return nil }
        return major == 0 ? module : modules["TDX_" + Hex.encode([major]).uppercased()]
    }
}

/// A level decided by one SVN alone: of a TDX module or of a quoting enclave.
struct SVNLevel: Sendable, Equatable {
    let isvSVN: Int
    let date: Instant
    let status: TCBStatus
    let advisories: [String]

    init(_ json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        var tcb = try JSONFields(try fields.required("tcb"), path: path + ".tcb")
        isvSVN = try tcb.integer("isvsvn")
        date = try fields.date("tcbDate")
        status = try fields.status("tcbStatus")
        advisories = try fields.advisories()
    }
}

extension TCBInfo.ModuleIdentity {
    init(_ json: JSON, path: String, levels: [SVNLevel]) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        mrSigner = try fields.hex("mrsigner", count: 48)
        attributes = try fields.hex("attributes", count: 8)
        attributesMask = try fields.hex("attributesMask", count: 8)
        self.levels = levels
    }
}

extension TCBInfo.Level {
    init(_ json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "tcb_info.tcbLevels")
        var tcb = try JSONFields(try fields.required("tcb"), path: "tcb_info.tcbLevels.tcb")
        sgxComponents = try tcb.components("sgxtcbcomponents")
        tdxComponents = try tcb.components("tdxtcbcomponents")
        pceSVN = try tcb.integer("pcesvn")
        date = try fields.date("tcbDate")
        status = try fields.status("tcbStatus")
        advisories = try fields.advisories()
    }
}

extension JSONFields {
    mutating func date(_ key: String) throws(ParseError) -> Instant {
        guard let date = Instant(try string(key)) else {
            throw ParseError("form", field: key, offset: 0, "must be a date of RFC 3339")
        }
        return date
    }

    mutating func list(_ key: String, _ counts: ClosedRange<Int>) throws(ParseError) -> [JSON] {
        let list = try array(key)
        guard counts.contains(list.count) else {
            throw ParseError("range", field: key, offset: 0, "\(list.count) entries, must be \(counts)")
        }
        return list
    }

    mutating func status(_ key: String) throws(ParseError) -> TCBStatus {
        let text = try string(key)
        guard let status = TCBStatus(served: text) else {
            throw ParseError("form", field: key, offset: 0, "unknown status \(text)")
        }
        return status
    }

    mutating func advisories() throws(ParseError) -> [String] {
        guard optional("advisoryIDs") != nil else { return [] }
        return try list("advisoryIDs", 0...1024).map { json throws(ParseError) in
            guard let text = json.string, text.utf8.count <= 64 else {
                throw ParseError("form", field: "advisoryIDs", offset: 0, "must be short strings")
            }
            return text
        }
    }

    /// Sixteen `{"svn": 0…255}`.
    mutating func components(_ key: String) throws(ParseError) -> [UInt8] {
        try list(key, 16...16).map { json throws(ParseError) in
            guard let value = json["svn"]?.integer, let svn = UInt8(exactly: value) else {
                throw ParseError("range", field: key, offset: 0, "svn must be 0…255")
            }
            return svn
        }
    }
}
