import Bytes
import Crypto

/// TDREPORT_STRUCT as the module hands it to a guest (Intel TDX module specification; `TDX_CMD_GET_REPORT0`), 1024 bytes.
///
/// REPORTMACSTRUCT @0: type 4 · reserved 12 · cpusvn 16 @16 · tee_tcb_info_hash 48 @32 · tee_info_hash 48 @80 ·
/// report_data 64 @128 · reserved 32 · mac 32 @224. TEE_TCB_INFO 239 @256, reserved 17. TDINFO 512 @512. The MAC can only
/// be checked on the machine that made it; the two hashes are checked here, so that the parts belong together.
public struct TDReport: Sendable, Equatable {
    /// 1 when TDINFO names service TDs, else 0.
    public var version: UInt8
    public var cpuSVN: [UInt8]
    public var mac: [UInt8]
    /// The same claims as in a quote; `extended` is `nil` where the module says that TEE_TCB_SVN2 is not valid.
    public var body: TDBody

    public static let size = 1024
    static let typeTDX: UInt8 = 0x81
    /// TEE_TCB_INFO.VALID has one bit for every eight bytes of the structure: VALID itself, TEE_TCB_SVN and MRSEAM are
    /// bits 0–8, TEE_TCB_SVN2 is bits 16 and 17.
    static let validBase: UInt64 = 0x1FF
    static let validSVN2: UInt64 = 3 << 16

    public init(version: UInt8, cpuSVN: [UInt8], mac: [UInt8], body: TDBody) {
        self.version = version
        self.cpuSVN = cpuSVN
        self.mac = mac
        self.body = body
    }

    /// Reads exactly 1024 bytes; reserved bytes must be zero and both hashes must be those of the parts.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = ByteReader(bytes)
        let type = try reader.take(3, "tdreport.type")
        guard type[0] == Self.typeTDX, type[1] == 0, type[2] <= 1 else {
            throw ParseError(
                "version", field: "tdreport.type", offset: 0, "must be 8100, version 0 or 1, is \(Hex.encode(type))")
        }
        version = type[2]
        try reader.zeros(13, "tdreport.reserved1")
        cpuSVN = try reader.take(16, "tdreport.cpusvn")
        let tcbHash = try reader.take(48, "tdreport.tee_tcb_info_hash")
        let infoHash = try reader.take(48, "tdreport.tee_info_hash")
        let reportData = try reader.take(64, "tdreport.report_data")
        try reader.zeros(32, "tdreport.reserved2")
        mac = try reader.take(32, "tdreport.mac")
        var tcb = try reader.sub(239, "tee_tcb_info")
        let tcbBytes = tcb.rest
        try reader.zeros(17, "tdreport.reserved3")
        var info = try reader.sub(512, "td_info")
        let infoBytes = info.rest
        try reader.end("tdreport")
        guard HashAlgorithm.sha384.hash(tcbBytes) == tcbHash else {
            throw ParseError("hash", field: "tdreport.tee_tcb_info_hash", offset: 32, "is not that of TEE_TCB_INFO")
        }
        guard HashAlgorithm.sha384.hash(infoBytes) == infoHash else {
            throw ParseError("hash", field: "tdreport.tee_info_hash", offset: 80, "is not that of TDINFO")
        }
        body = try TDBody(tcbInfo: &tcb, info: &info, reportData: reportData)
    }

    /// The 1024 bytes, hashes computed.
    public func serialize() -> [UInt8] {
        var tcb = ByteWriter()
        tcb.le(body.extended == nil ? Self.validBase : Self.validBase | Self.validSVN2)
        for field in [body.teeTCBSVN, body.mrSEAM, body.mrSignerSEAM, body.seamAttributes] { tcb.append(field) }
        tcb.append(body.extended?.teeTCBSVN2 ?? [UInt8](repeating: 0, count: 16))
        tcb.zeros(95)
        var info = ByteWriter()
        info.append(body.attributes.bytes)
        for field in [body.xfam, body.mrTD, body.mrConfigID, body.mrOwner, body.mrOwnerConfig] + body.rtmrs {
            info.append(field)
        }
        info.append(body.extended?.mrServiceTD ?? [UInt8](repeating: 0, count: 48))
        info.zeros(64)
        var writer = ByteWriter()
        writer.append([Self.typeTDX, 0, version])
        writer.zeros(13)
        writer.append(cpuSVN)
        writer.append(HashAlgorithm.sha384.hash(tcb.bytes))
        writer.append(HashAlgorithm.sha384.hash(info.bytes))
        writer.append(body.reportData)
        writer.zeros(32)
        writer.append(mac)
        writer.append(tcb.bytes)
        writer.zeros(17)
        writer.append(info.bytes)
        return writer.bytes
    }

    /// Whether a quote's body makes the same claims. A quote with a TD 1.0 body says nothing about the 1.5 fields.
    public func matches(_ quoted: TDBody) -> Bool {
        var expected = body
        if quoted.extended == nil { expected.extended = nil }
        return expected == quoted
    }
}

extension TDBody {
    /// TEE_TCB_INFO (239 bytes) and TDINFO (512 bytes) of a TDREPORT.
    init(tcbInfo: inout ByteReader, info: inout ByteReader, reportData: [UInt8]) throws(ParseError) {
        self.init()
        let valid = try tcbInfo.le(UInt64.self, "tee_tcb_info.valid")
        teeTCBSVN = try tcbInfo.take(16, "tee_tcb_info.tee_tcb_svn")
        mrSEAM = try tcbInfo.take(48, "tee_tcb_info.mr_seam")
        mrSignerSEAM = try tcbInfo.take(48, "tee_tcb_info.mr_signer_seam")
        seamAttributes = try tcbInfo.take(8, "tee_tcb_info.attributes")
        let svn2 = try tcbInfo.take(16, "tee_tcb_info.tee_tcb_svn2")
        try tcbInfo.zeros(95, "tee_tcb_info.reserved")
        attributes = TDAttributes(rawValue: try info.le(UInt64.self, "td_info.attributes"))
        xfam = try info.take(8, "td_info.xfam")
        mrTD = try info.take(48, "td_info.mr_td")
        mrConfigID = try info.take(48, "td_info.mr_config_id")
        mrOwner = try info.take(48, "td_info.mr_owner")
        mrOwnerConfig = try info.take(48, "td_info.mr_owner_config")
        for index in 0..<4 { rtmrs[index] = try info.take(48, "td_info.rtmr\(index)") }
        let serviceTD = try info.take(48, "td_info.servtd_hash")
        try info.zeros(64, "td_info.reserved")
        if valid & TDReport.validSVN2 == TDReport.validSVN2 {
            extended = Extension(teeTCBSVN2: svn2, mrServiceTD: serviceTD)
        }
        self.reportData = reportData
    }
}
