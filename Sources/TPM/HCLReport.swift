import Bytes
import Crypto

/// Azure's HCL report (NV index 0x01400001 of a confidential VM's vTPM): a hardware report whose report data is the
/// hash of runtime data, which holds the vTPM's keys.
public struct HCLReport: Equatable, Sendable {
    public enum Hardware: Equatable, Sendable {
        /// The bare SEV-SNP attestation report, 1184 bytes.
        case snp([UInt8])
        /// The TDREPORT, 1024 bytes. Only its own CPU can check it; a quote over the same report data stands in.
        case tdx([UInt8])
    }

    public let hardware: Hardware
    /// The JSON bytes that the hardware vouches for.
    public let runtimeData: [UInt8]
    /// Hash of the runtime data in the report data.
    public let hash: HashAlgorithm

    static let areaSize = 1184
    public static let maximumSize = 1 << 16

    /// - Throws: `ParseError`, also for sizes that do not agree and for anything but zeros after the runtime data.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        guard bytes.count <= Self.maximumSize else {
            throw ParseError("length", field: "HCL", offset: 0, "\(bytes.count) bytes")
        }
        var reader = ByteReader(bytes)
        guard try reader.take(4, "HCL.signature") == Array("HCLA".utf8) else {
            throw ParseError("form", field: "HCL.signature", offset: 0, "not \"HCLA\"")
        }
        let version = try reader.le(UInt32.self, "HCL.version")
        guard (1...2).contains(version) else {
            throw ParseError("version", field: "HCL.version", offset: 4, "\(version), known are 1 and 2")
        }
        let size = try reader.le(UInt32.self, "HCL.reportSize")
        let request = try reader.le(UInt32.self, "HCL.requestType")
        let status = try reader.le(UInt32.self, "HCL.status")
        guard request == 2, status == 0 else {
            throw ParseError("range", field: "HCL.requestType", offset: 12, "request \(request), status \(status)")
        }
        try reader.zeros(12, "HCL.reserved")
        var area = try reader.sub(Self.areaSize, "HCL.hardwareReport")
        let dataSize = try reader.le(UInt32.self, "IgvmRequestData.dataSize")
        let dataVersion = try reader.le(UInt32.self, "IgvmRequestData.version")
        let type = try reader.le(UInt32.self, "IgvmRequestData.reportType")
        let hashType = try reader.le(UInt32.self, "IgvmRequestData.hashType")
        let length = try reader.le(UInt32.self, "IgvmRequestData.variableDataSize")
        guard dataVersion == 1 else {
            throw ParseError("version", field: "IgvmRequestData.version", offset: 1220, "\(dataVersion), known is 1")
        }
        guard length >= 2, Int(length) <= reader.remaining else {
            throw ParseError(
                "length", field: "IgvmRequestData.variableDataSize", offset: 1232,
                "\(length) bytes, \(reader.remaining) left")
        }
        guard dataSize == 20 + length, size == 32 + UInt32(Self.areaSize) + dataSize else {
            throw ParseError("length", field: "HCL.reportSize", offset: 8, "\(size) and \(dataSize) do not add up")
        }
        guard let hash: HashAlgorithm = [1: .sha256, 2: .sha384, 3: .sha512][hashType] else {
            throw ParseError("range", field: "IgvmRequestData.hashType", offset: 1228, "\(hashType)")
        }
        self.hash = hash
        runtimeData = try reader.take(Int(length), "IgvmRequestData.variableData")
        try reader.zeros(reader.remaining, "HCL padding")
        switch type {
        case 2: hardware = .snp(try area.take(Self.areaSize, "HCL.snpReport"))
        case 4:
            hardware = .tdx(try area.take(1024, "HCL.tdReport"))
            try area.zeros(area.remaining, "HCL.hardwareReport padding")
        default:
            throw ParseError("range", field: "IgvmRequestData.reportType", offset: 1224, "\(type) is not SNP or TDX")
        }
    }

    /// The report data that vouches for the runtime data: its hash, then zeros, 64 bytes.
    public var expectedReportData: [UInt8] {
        let digest = hash.hash(runtimeData)
        return digest + [UInt8](repeating: 0, count: 64 - digest.count)
    }

    /// The report data in the hardware report: SNP report at 0x50, TDREPORT at 128.
    public var reportData: [UInt8] {
        switch hardware {
        case .snp(let report): Array(report.dropFirst(0x50).prefix(64))
        case .tdx(let report): Array(report.dropFirst(128).prefix(64))
        }
    }

    /// The runtime data, decoded.
    public struct RuntimeData: Sendable {
        /// The vTPM's attestation key.
        public let attestationKey: PublicKey
        /// `vm-configuration`: Secure Boot, console, unique id as the paravisor sees them.
        public let configuration: JSON
        /// 64 bytes that the guest wrote to NV index 0x01400002 before reading the report, as hex text.
        public let userData: String?
    }

    /// - Throws: `ParseError` unless the runtime data holds exactly one RSA key `HCLAkPub`.
    public func decodeRuntimeData() throws(ParseError) -> RuntimeData {
        let json = try JSON(parsing: runtimeData, limit: Self.maximumSize)
        guard let keys = json["keys"]?.array, keys.count <= 16 else {
            throw ParseError("form", field: "runtime data.keys", offset: 0, "missing")
        }
        let matches = keys.filter { $0["kid"]?.string == "HCLAkPub" }
        guard matches.count == 1, let key = matches.first else {
            throw ParseError("form", field: "runtime data.keys", offset: 0, "\(matches.count) keys HCLAkPub")
        }
        guard key["kty"]?.string == "RSA", let modulus = key["n"]?.string.flatMap({ Base64.decodeURL($0) }),
            let exponent = key["e"]?.string.flatMap({ Base64.decodeURL($0) }), (1...4).contains(exponent.count)
        else { throw ParseError("form", field: "runtime data.HCLAkPub", offset: 0, "not an RSA key") }
        do {
            let value = exponent.reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            return RuntimeData(
                attestationKey: try PublicKey(rsaModulus: modulus, exponent: value),
                configuration: json["vm-configuration"] ?? .object([:]), userData: json["user-data"]?.string)
        } catch {
            throw ParseError("form", field: "runtime data.HCLAkPub", offset: 0, error.message)
        }
    }
}
