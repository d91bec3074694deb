import Bytes
import Crypto

/// A TPMS_ATTEST of type quote (TPM 2.0 Part 2 §10.12.8): what the TPM signs.
public struct Attest: Equatable, Sendable {
    /// Name of the signing key qualified by its ancestors.
    public let qualifiedSigner: [UInt8]
    /// The caller's qualifying data, whole.
    public let extraData: [UInt8]
    /// Milliseconds that the TPM has been powered.
    public let clock: UInt64
    /// TPM resets since the owner's hierarchy was last cleared; grows with every boot.
    public let resetCount: UInt32
    /// Resumes since the last reset.
    public let restartCount: UInt32
    /// `clock` never ran ahead of what was saved.
    public let isClockSafe: Bool
    /// The TPM vendor's firmware version.
    public let firmwareVersion: UInt64
    public let selections: [PCRSelection]
    /// Digest of the selected PCRs' concatenation by the signature's hash.
    public let pcrDigest: [UInt8]

    static let magic: UInt32 = 0xFF54_4347
    static let quoteType: UInt16 = 0x8018

    /// Names of TPM_ST_ATTEST_* values, for messages.
    private static let types: [UInt16: String] = [
        0x8014: "NV", 0x8015: "COMMAND_AUDIT", 0x8016: "SESSION_AUDIT", 0x8017: "CERTIFY", 0x8018: "QUOTE",
        0x8019: "TIME", 0x801A: "CREATION", 0x801C: "NV_DIGEST",
    ]

    public init(
        qualifiedSigner: [UInt8], extraData: [UInt8], clock: UInt64, resetCount: UInt32, restartCount: UInt32,
        isClockSafe: Bool, firmwareVersion: UInt64, selections: [PCRSelection], pcrDigest: [UInt8]
    ) {
        self.qualifiedSigner = qualifiedSigner
        self.extraData = extraData
        self.clock = clock
        self.resetCount = resetCount
        self.restartCount = restartCount
        self.isClockSafe = isClockSafe
        self.firmwareVersion = firmwareVersion
        self.selections = selections
        self.pcrDigest = pcrDigest
    }

    /// - Throws: `ParseError`; detail `magic` when this is no TPM's statement, `type` when it is one of another kind.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = ByteReader(bytes)
        let magic = try reader.be(UInt32.self, "TPMS_ATTEST.magic")
        guard magic == Self.magic else {
            throw ParseError("magic", field: "TPMS_ATTEST.magic", offset: 0, "0x\(Hex.encode(magic)), not 0xff544347")
        }
        let type = try reader.be(UInt16.self, "TPMS_ATTEST.type")
        guard type == Self.quoteType else {
            let name = Self.types[type].map { "TPM_ST_ATTEST_\($0)" } ?? "unknown"
            throw ParseError(
                "type", field: "TPMS_ATTEST.type", offset: 4,
                "0x\(Hex.encode(type)) (\(name)), not 0x8018 (TPM_ST_ATTEST_QUOTE)")
        }
        qualifiedSigner = try reader.sized("TPMS_ATTEST.qualifiedSigner", limit: 66)
        extraData = try reader.sized("TPMS_ATTEST.extraData", limit: 66)
        clock = try reader.be(UInt64.self, "TPMS_ATTEST.clockInfo.clock")
        resetCount = try reader.be(UInt32.self, "TPMS_ATTEST.clockInfo.resetCount")
        restartCount = try reader.be(UInt32.self, "TPMS_ATTEST.clockInfo.restartCount")
        let safe = try reader.u8("TPMS_ATTEST.clockInfo.safe")
        guard safe <= 1 else {
            throw ParseError(
                "range", field: "TPMS_ATTEST.clockInfo.safe", offset: reader.offset - 1, "\(safe) is neither 0 nor 1")
        }
        isClockSafe = safe == 1
        firmwareVersion = try reader.be(UInt64.self, "TPMS_ATTEST.firmwareVersion")
        selections = try PCRSelection.list(&reader, "TPMS_ATTEST.pcrSelect")
        pcrDigest = try reader.sized("TPMS_ATTEST.pcrDigest", limit: 64)
        try reader.end("TPMS_ATTEST")
    }

    /// The statement as the TPM writes it.
    public var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.be(Self.magic)
        writer.be(Self.quoteType)
        writer.be(UInt16(truncatingIfNeeded: qualifiedSigner.count))
        writer.append(qualifiedSigner)
        writer.be(UInt16(truncatingIfNeeded: extraData.count))
        writer.append(extraData)
        writer.be(clock)
        writer.be(resetCount)
        writer.be(restartCount)
        writer.u8(isClockSafe ? 1 : 0)
        writer.be(firmwareVersion)
        PCRSelection.write(selections, into: &writer)
        writer.be(UInt16(truncatingIfNeeded: pcrDigest.count))
        writer.append(pcrDigest)
        return writer.bytes
    }

    /// Whether the quote covers PCR `index` of bank `hash`.
    public func selects(_ hash: HashAlgorithm, _ index: Int) -> Bool {
        selections.contains { $0.hash == hash && $0.indices.contains(index) }
    }
}
