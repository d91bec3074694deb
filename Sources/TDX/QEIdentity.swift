import Bytes

/// Identity of Intel's TD quoting enclave (Intel PCS v4 `/tdx/certification/v4/qe/identity`, version 2, id TD_QE).
public struct QEIdentity: Sendable, Equatable {
    public let issueDate: Instant
    public let nextUpdate: Instant
    public let evaluationDataNumber: Int
    /// 4 bytes in the order of the report.
    let miscSelect: [UInt8]
    let miscSelectMask: [UInt8]
    /// 16 bytes.
    let attributes: [UInt8]
    let attributesMask: [UInt8]
    /// 32 bytes.
    let mrSigner: [UInt8]
    let isvProdID: Int
    /// In served order, newest first.
    let levels: [SVNLevel]

    init(parsing bytes: [UInt8]) throws(ParseError) {
        let json = try JSON(parsing: bytes, limit: Collateral.maximumSize)
        var fields = try JSONFields(json, path: "qe_identity")
        let (id, version) = (try fields.string("id"), try fields.integer("version"))
        guard id == "TD_QE", version == 2 else {
            throw ParseError(
                "version", field: "qe_identity.id", offset: 0, "must be TD_QE version 2, is \(id) version \(version)")
        }
        issueDate = try fields.date("issueDate")
        nextUpdate = try fields.date("nextUpdate")
        evaluationDataNumber = try fields.integer("tcbEvaluationDataNumber")
        miscSelect = try fields.hex("miscselect", count: 4)
        miscSelectMask = try fields.hex("miscselectMask", count: 4)
        attributes = try fields.hex("attributes", count: 16)
        attributesMask = try fields.hex("attributesMask", count: 16)
        mrSigner = try fields.hex("mrsigner", count: 32)
        isvProdID = try fields.integer("isvprodid")
        levels = try fields.list("tcbLevels", 1...TCBInfo.maximumLevels).map { json throws(ParseError) in
            try SVNLevel(json, path: "qe_identity.tcbLevels")
        }
    }

    /// The first field of `report` that is not this enclave's, with what was expected and found; `nil` when all agree.
    func mismatch(_ report: QEReport) -> (field: String, expected: String, actual: String)? {
        func masked(_ value: [UInt8], _ mask: [UInt8]) -> [UInt8] { zip(value, mask).map { $0 & $1 } }
        let misc = masked(report.miscSelect, miscSelectMask)
        if misc != miscSelect { return ("miscselect", Hex.encode(miscSelect), Hex.encode(misc)) }
        let flags = masked(report.attributes, attributesMask)
        if flags != attributes { return ("attributes", Hex.encode(attributes), Hex.encode(flags)) }
        if report.mrSigner != mrSigner { return ("mrsigner", Hex.encode(mrSigner), Hex.encode(report.mrSigner)) }
        if Int(report.isvProdID) != isvProdID { return ("isvprodid", "\(isvProdID)", "\(report.isvProdID)") }
        return nil
    }
}
