import Bytes
import Crypto

/// The SGX extension of a PCK certificate, 1.2.840.113741.1.13.1 (Intel "PCK Certificate and CRL Profile" §1.3.5).
///
/// A SEQUENCE of {OID, value}: `.1` PPID, `.2` TCB {`.1`–`.16` component SVNs, `.17` PCESVN, `.18` CPUSVN}, `.3` PCE id,
/// `.4` FMSPC, `.5` SGX type, `.6` platform instance id, `.7` configuration {`.1` dynamic platform, `.2` cached keys, `.3`
/// SMT}; `.6` and `.7` only under the Platform CA. Unknown members below the arc are ignored, doubled ones refused.
public struct PCKExtension: Sendable, Equatable {
    /// Encrypted platform identity, 16 bytes.
    public let ppid: [UInt8]
    /// SVNs of the sixteen SGX components.
    public let componentSVNs: [UInt8]
    public let pceSVN: UInt16
    /// 16 bytes as the CPU reports them.
    public let cpuSVN: [UInt8]
    /// 2 bytes.
    public let pceID: [UInt8]
    /// Family, model, stepping, platform type, custom SKU: 6 bytes.
    public let fmspc: [UInt8]
    /// 0 standard, 1 scalable, 2 scalable with integrity.
    public let sgxType: UInt8
    /// 16 bytes, one per registered platform instance; `nil` under the Processor CA.
    public let platformInstanceID: [UInt8]?
    public let configuration: Configuration?

    /// What the platform's owner configured.
    public struct Configuration: Sendable, Equatable {
        public let dynamicPlatform: Bool?
        public let cachedKeys: Bool?
        public let simultaneousMultithreading: Bool?
    }

    static let oid = "1.2.840.113741.1.13.1"

    /// Reads the contents of the extension's value.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        let members = try Members(DER.single(bytes, "sgx_extension"), below: Self.oid, "sgx_extension")
        ppid = try members.octets("1", 16)
        let tcb = try Members(try members.take("2"), below: Self.oid + ".2", "sgx_extension.2")
        var svns: [UInt8] = []
        for index in 1...16 {
            let value = try tcb.integer("\(index)", UInt64(UInt8.max))
            svns.append(UInt8(truncatingIfNeeded: value))
        }
        componentSVNs = svns
        pceSVN = UInt16(truncatingIfNeeded: try tcb.integer("17", UInt64(UInt16.max)))
        cpuSVN = try tcb.octets("18", 16)
        pceID = try members.octets("3", 2)
        fmspc = try members.octets("4", 6)
        sgxType = UInt8(truncatingIfNeeded: try members.integer("5", 255, tag: 0x0A))
        platformInstanceID = members.has("6") ? try members.octets("6", 16) : nil
        if members.has("7") {
            let flags = try Members(try members.take("7"), below: Self.oid + ".7", "sgx_extension.7")
            configuration = Configuration(
                dynamicPlatform: try flags.bool("1"), cachedKeys: try flags.bool("2"),
                simultaneousMultithreading: try flags.bool("3"))
        } else {
            configuration = nil
        }
    }
}

/// The {OID, value} pairs of one level, by the last part of the OID.
private struct Members {
    private var values: [String: DER.Element] = [:]
    private let field: String
    private let offset: Int

    init(_ sequence: DER.Element, below arc: String, _ field: String) throws(ParseError) {
        self.field = field
        offset = sequence.offset
        guard sequence.tag == 0x30 else {
            throw ParseError("form", field: field, offset: sequence.offset, "is not a SEQUENCE")
        }
        for pair in try sequence.children(field, limit: 64) {
            let parts = try pair.children(field, limit: 2)
            guard pair.tag == 0x30, parts.count == 2, parts[0].tag == 0x06,
                let oid = DER.objectIdentifier(parts[0].content)
            else { throw ParseError("form", field: field, offset: pair.offset, "is not {OID, value}") }
            guard oid.hasPrefix(arc + ".") else { continue }
            let name = String(oid.dropFirst(arc.count + 1))
            guard values.updateValue(parts[1], forKey: name) == nil else {
                throw ParseError("form", field: "\(field).\(name)", offset: pair.offset, "stands twice")
            }
        }
    }

    func has(_ name: String) -> Bool { values[name] != nil }

    func take(_ name: String) throws(ParseError) -> DER.Element {
        guard let value = values[name] else {
            throw ParseError("form", field: "\(field).\(name)", offset: offset, "missing")
        }
        return value
    }

    /// An OCTET STRING of `count` bytes.
    func octets(_ name: String, _ count: Int) throws(ParseError) -> [UInt8] {
        let value = try take(name)
        guard value.tag == 0x04, value.content.count == count else {
            throw ParseError(
                "form", field: "\(field).\(name)", offset: value.offset, "must be an OCTET STRING of \(count) bytes")
        }
        return value.content
    }

    /// An INTEGER (or what `tag` says) from 0 to `maximum`.
    func integer(_ name: String, _ maximum: UInt64, tag: UInt8 = 0x02) throws(ParseError) -> UInt64 {
        let value = try take(name)
        guard value.tag == tag, let magnitude = DER.unsignedInteger(value.content), magnitude.count <= 8 else {
            throw ParseError("form", field: "\(field).\(name)", offset: value.offset, "must be a non-negative integer")
        }
        let number = magnitude.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard number <= maximum else {
            throw ParseError("range", field: "\(field).\(name)", offset: value.offset, "\(number) > \(maximum)")
        }
        return number
    }

    func bool(_ name: String) throws(ParseError) -> Bool? {
        guard let value = values[name] else { return nil }
        guard value.tag == 0x01, value.content == [0] || value.content == [0xFF] else {
            throw ParseError("form", field: "\(field).\(name)", offset: value.offset, "must be a BOOLEAN")
        }
        return value.content == [0xFF]
    }
}
