import Bytes

/// A SEV-SNP attestation report (SEV-SNP ABI, ATTESTATION_REPORT), versions 2 to 5, 1184 bytes.
///
/// Every byte of a report is either a field here or checked to be zero, so that `serialize` gives back exactly the
/// bytes that were parsed and a signature over the fields is one over the bytes.
public struct AttestationReport: Sendable, Equatable {
    /// Length of a report, signature included.
    public static let size = 0x4A0
    /// Length of the part that is signed.
    public static let signedSize = 0x2A0
    public static let versions: ClosedRange<UInt32> = 2...5
    /// VMPL of a report that the host asked for; the guest had no part in it.
    public static let hostRequestedVMPL: UInt32 = 0xFFFF_FFFF

    public var version: UInt32
    /// Security version number of the guest, from the ID block.
    public var guestSVN: UInt32
    public var policy: GuestPolicy
    /// 16 bytes each, from the ID block.
    public var familyID: [UInt8]
    public var imageID: [UInt8]
    /// Privilege level that asked for the report, 0 to 3, or `hostRequestedVMPL`.
    public var vmpl: UInt32
    /// 1 (ECDSA P-384 with SHA-384); 0 only in a report that is not signed.
    public var signatureAlgorithm: UInt32
    public var currentTCB: RawTCBVersion
    public var platformInfo: PlatformInfo
    /// An author key signed the ID key; `authorKeyDigest` is its digest.
    public var hasAuthorKey: Bool
    /// The host masks the chip key: reports are not signed.
    public var masksChipKey: Bool
    public var signingKey: SigningKey
    /// 64 bytes from whoever asked for the report.
    public var reportData: [UInt8]
    /// Launch digest, 48 bytes.
    public var measurement: [UInt8]
    /// 32 bytes from the host.
    public var hostData: [UInt8]
    /// SHA-384, 48 bytes each.
    public var idKeyDigest: [UInt8]
    public var authorKeyDigest: [UInt8]
    /// 32 bytes each; `reportIDMA` is all ones without a migration agent.
    public var reportID: [UInt8]
    public var reportIDMA: [UInt8]
    /// The TCB that the signing key is derived from.
    public var reportedTCB: RawTCBVersion
    /// `nil` in version 2.
    public var processor: ProcessorID?
    /// 64 bytes; zero when the host masks it, and 8 bytes then zeros on Turin.
    public var chipID: [UInt8]
    public var committedTCB: RawTCBVersion
    public var currentFirmware: FirmwareVersion
    public var committedFirmware: FirmwareVersion
    public var launchTCB: RawTCBVersion
    /// Mitigations in force at launch and now; version 5, zero before.
    public var launchMitigationVector: UInt64
    public var currentMitigationVector: UInt64
    public var signature: ReportSignature

    /// Whether CHIP_ID says nothing: masked by the host.
    public var isChipIDMasked: Bool { chipID.allSatisfy { $0 == 0 } }

    /// Parses exactly 1184 bytes.
    ///
    /// Errors: `parse-length`, `parse-version` (not 2 to 5), `parse-reserved` (a reserved byte or bit is set, or one
    /// that must be one is not), `parse-range` (a VMPL, signature algorithm or signing key that does not exist).
    /// Unknown bits of PLATFORM_INFO are kept.
    public init(_ bytes: [UInt8]) throws(ParseError) {
        guard bytes.count == Self.size else {
            throw ParseError(
                "length", field: "report", offset: min(bytes.count, Self.size),
                "a report is \(Self.size) bytes, this is \(bytes.count)")
        }
        var reader = ByteReader(bytes)
        version = try reader.le(UInt32.self, "report.version")
        guard Self.versions.contains(version) else {
            throw ParseError("version", field: "report.version", offset: 0, "\(version) is not 2, 3, 4 or 5")
        }
        guestSVN = try reader.le(UInt32.self, "report.guest_svn")
        policy = try Self.policy(&reader)
        familyID = try reader.take(16, "report.family_id")
        imageID = try reader.take(16, "report.image_id")
        vmpl = try Self.value(&reader, "report.vmpl") { $0 <= 3 || $0 == Self.hostRequestedVMPL }
        signatureAlgorithm = try Self.value(&reader, "report.signature_algo") { $0 <= 1 }
        currentTCB = RawTCBVersion(try reader.le(UInt64.self, "report.current_tcb"))
        platformInfo = PlatformInfo(rawValue: try reader.le(UInt64.self, "report.platform_info"))
        let flags: UInt32 = try Self.value(&reader, "report.flags") { $0 >> 5 == 0 }
        guard let key = SigningKey(rawValue: flags >> 2 & 7) else {
            throw ParseError("range", field: "report.signing_key", offset: 0x48, "\(flags >> 2 & 7) is no key")
        }
        guard signatureAlgorithm == 1 || key == .none else {
            throw ParseError("range", field: "report.signature_algo", offset: 0x34, "0 in a report that is signed")
        }
        hasAuthorKey = flags & 1 == 1
        masksChipKey = flags & 2 == 2
        signingKey = key
        try reader.zeros(4, "report.reserved[0x4C]")
        reportData = try reader.take(64, "report.report_data")
        measurement = try reader.take(48, "report.measurement")
        hostData = try reader.take(32, "report.host_data")
        idKeyDigest = try reader.take(48, "report.id_key_digest")
        authorKeyDigest = try reader.take(48, "report.author_key_digest")
        reportID = try reader.take(32, "report.report_id")
        reportIDMA = try reader.take(32, "report.report_id_ma")
        reportedTCB = RawTCBVersion(try reader.le(UInt64.self, "report.reported_tcb"))
        if version >= 3 {
            processor = ProcessorID(
                family: try reader.u8("report.cpuid_fam_id"), model: try reader.u8("report.cpuid_mod_id"),
                stepping: try reader.u8("report.cpuid_step"))
        } else {
            processor = nil
            try reader.zeros(3, "report.reserved[0x188]")
        }
        try reader.zeros(21, "report.reserved[0x18B]")
        chipID = try reader.take(64, "report.chip_id")
        committedTCB = RawTCBVersion(try reader.le(UInt64.self, "report.committed_tcb"))
        currentFirmware = try Self.firmware(&reader, "report.current_version")
        committedFirmware = try Self.firmware(&reader, "report.committed_version")
        launchTCB = RawTCBVersion(try reader.le(UInt64.self, "report.launch_tcb"))
        if version >= 5 {
            launchMitigationVector = try reader.le(UInt64.self, "report.launch_mit_vector")
            currentMitigationVector = try reader.le(UInt64.self, "report.current_mit_vector")
        } else {
            launchMitigationVector = 0
            currentMitigationVector = 0
            try reader.zeros(16, "report.reserved[0x1F8]")
        }
        try reader.zeros(152, "report.reserved[0x208]")
        signature = ReportSignature(
            r: try reader.take(72, "report.signature.r"), s: try reader.take(72, "report.signature.s"))
        try reader.zeros(368, "report.signature.reserved")
        try reader.end("report")
    }

    private static func policy(_ reader: inout ByteReader) throws(ParseError) -> GuestPolicy {
        let offset = reader.offset
        let policy = GuestPolicy(rawValue: try reader.le(UInt64.self, "report.policy"))
        guard policy.rawValue & GuestPolicy.mustBeOne != 0 else {
            throw ParseError("reserved", field: "report.policy", offset: offset, "bit 17 must be one")
        }
        guard policy.rawValue & GuestPolicy.mustBeZero == 0 else {
            throw ParseError("reserved", field: "report.policy", offset: offset, "bits 26 to 63 must be zero")
        }
        return policy
    }

    private static func value(
        _ reader: inout ByteReader, _ field: String, _ isKnown: (UInt32) -> Bool
    ) throws(ParseError) -> UInt32 {
        let offset = reader.offset
        let value: UInt32 = try reader.le(UInt32.self, field)
        guard isKnown(value) else {
            throw ParseError("range", field: field, offset: offset, "0x\(String(value, radix: 16)) is not defined")
        }
        return value
    }

    private static func firmware(_ reader: inout ByteReader, _ field: String) throws(ParseError) -> FirmwareVersion {
        let build = try reader.u8(field)
        let minor = try reader.u8(field)
        let major = try reader.u8(field)
        try reader.zeros(1, "\(field).reserved")
        return FirmwareVersion(major: major, minor: minor, build: build)
    }
}
