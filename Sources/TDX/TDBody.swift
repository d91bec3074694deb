import Bytes

/// What the TDX module reports about a trust domain: TD report body 1.0 (584 bytes) or 1.5 (648 bytes).
///
/// Layout of Intel's "TDX DCAP Quoting Library API" §A.3.2, little-endian, offsets from the start of the body:
/// tee_tcb_svn 16 @0 · mr_seam 48 @16 · mr_signer_seam 48 @64 · seam_attributes 8 @112 · td_attributes 8 @120 · xfam 8
/// @128 · mr_td 48 @136 · mr_config_id 48 @184 · mr_owner 48 @232 · mr_owner_config 48 @280 · rtmr0…3 48 @328…472 ·
/// report_data 64 @520 · from 1.5: tee_tcb_svn2 16 @584, mr_service_td 48 @600. Every field is covered by the quote's
/// signature. Byte fields are arrays of exactly the length given here.
public struct TDBody: Sendable, Equatable {
    /// Security versions of the TDX module ([0] its SVN, [1] its major version) and of the platform.
    public var teeTCBSVN: [UInt8]
    /// SHA-384 of the TDX module.
    public var mrSEAM: [UInt8]
    /// Signer of the TDX module; zero for Intel's own.
    public var mrSignerSEAM: [UInt8]
    public var seamAttributes: [UInt8]
    public var attributes: TDAttributes
    /// Extended features the TD may use, as in XCR0 and IA32_XSS.
    public var xfam: [UInt8]
    /// Measurement of the TD's initial contents.
    public var mrTD: [UInt8]
    public var mrConfigID: [UInt8]
    public var mrOwner: [UInt8]
    public var mrOwnerConfig: [UInt8]
    /// RTMR 0–3, always four registers of 48 bytes.
    public var rtmrs: [[UInt8]]
    public var reportData: [UInt8]
    /// Present in TD report 1.5 only.
    public var extended: Extension?

    /// The fields that TD report 1.5 adds.
    public struct Extension: Sendable, Equatable {
        /// What `teeTCBSVN` would be were the TD launched now.
        public var teeTCBSVN2: [UInt8]
        /// Measurement of the bound service TD (migration TD); zero when there is none.
        public var mrServiceTD: [UInt8]

        public init(teeTCBSVN2: [UInt8], mrServiceTD: [UInt8]) {
            self.teeTCBSVN2 = teeTCBSVN2
            self.mrServiceTD = mrServiceTD
        }
    }

    /// Bytes of a body of TD report 1.0.
    public static let size10 = 584
    /// Bytes of a body of TD report 1.5.
    public static let size15 = 648

    /// A body of zeros, to be filled in by whoever makes test evidence.
    public init(extended: Extension? = nil) {
        func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }
        teeTCBSVN = zeros(16)
        mrSEAM = zeros(48)
        mrSignerSEAM = zeros(48)
        seamAttributes = zeros(8)
        attributes = TDAttributes(rawValue: 0)
        xfam = zeros(8)
        mrTD = zeros(48)
        mrConfigID = zeros(48)
        mrOwner = zeros(48)
        mrOwnerConfig = zeros(48)
        rtmrs = (0..<4).map { _ in zeros(48) }
        reportData = zeros(64)
        self.extended = extended
    }

    /// Reads one body; `is15` says whether the 64 bytes of TD report 1.5 follow.
    init(parsing reader: inout ByteReader, is15: Bool) throws(ParseError) {
        teeTCBSVN = try reader.take(16, "td_report.tee_tcb_svn")
        mrSEAM = try reader.take(48, "td_report.mr_seam")
        mrSignerSEAM = try reader.take(48, "td_report.mr_signer_seam")
        seamAttributes = try reader.take(8, "td_report.seam_attributes")
        attributes = TDAttributes(rawValue: try reader.le(UInt64.self, "td_report.td_attributes"))
        xfam = try reader.take(8, "td_report.xfam")
        mrTD = try reader.take(48, "td_report.mr_td")
        mrConfigID = try reader.take(48, "td_report.mr_config_id")
        mrOwner = try reader.take(48, "td_report.mr_owner")
        mrOwnerConfig = try reader.take(48, "td_report.mr_owner_config")
        rtmrs = []
        for index in 0..<4 { rtmrs.append(try reader.take(48, "td_report.rtmr\(index)")) }
        reportData = try reader.take(64, "td_report.report_data")
        if is15 {
            extended = Extension(
                teeTCBSVN2: try reader.take(16, "td_report.tee_tcb_svn2"),
                mrServiceTD: try reader.take(48, "td_report.mr_service_td"))
        }
    }

    /// The bytes this body was, or would be, read from.
    public func serialize() -> [UInt8] {
        var writer = ByteWriter()
        for field in [teeTCBSVN, mrSEAM, mrSignerSEAM, seamAttributes] { writer.append(field) }
        writer.le(attributes.rawValue)
        for field in [xfam, mrTD, mrConfigID, mrOwner, mrOwnerConfig] + rtmrs + [reportData] { writer.append(field) }
        if let extended {
            writer.append(extended.teeTCBSVN2)
            writer.append(extended.mrServiceTD)
        }
        return writer.bytes
    }
}

/// TDATTRIBUTES (Intel TDX module specification, "ATTRIBUTES"), read little-endian.
public struct TDAttributes: OptionSet, Sendable, Hashable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Bits 0–7, group TUD: any of them puts the TD under debug; its memory is not protected from the host.
    public static let underDebug = TDAttributes(rawValue: 0xFF)
    /// Bit 0 of the group: the host may read and change the TD's state.
    public static let debug = TDAttributes(rawValue: 1)
    /// Bit 28: EPT violations on private pages never reach the guest as #VE.
    public static let septVEDisable = TDAttributes(rawValue: 1 << 28)
    /// Bit 29: a migration TD may move this TD to another machine.
    public static let migratable = TDAttributes(rawValue: 1 << 29)
    /// Bit 30: supervisor protection keys.
    public static let pks = TDAttributes(rawValue: 1 << 30)
    /// Bit 31: key locker.
    public static let keyLocker = TDAttributes(rawValue: 1 << 31)
    /// Bit 63: performance counters.
    public static let perfmon = TDAttributes(rawValue: 1 << 63)

    /// The eight bytes as they stand in a report.
    public var bytes: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: rawValue >> (8 * UInt64($0))) } }
}
