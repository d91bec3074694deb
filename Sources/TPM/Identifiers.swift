import Bytes
import Crypto

/// TPM_ALG_ID values (TCG Algorithm Registry) that evidence carries.
enum AlgorithmID {
    static let rsa: UInt16 = 0x0001
    static let aes: UInt16 = 0x0006
    static let null: UInt16 = 0x0010
    static let rsaSSA: UInt16 = 0x0014
    static let rsaES: UInt16 = 0x0015
    static let rsaPSS: UInt16 = 0x0016
    static let oaep: UInt16 = 0x0017
    static let ecdsa: UInt16 = 0x0018
    static let ecdh: UInt16 = 0x0019
    static let ecc: UInt16 = 0x0023
    static let cfb: UInt16 = 0x0043
}

extension HashAlgorithm {
    /// The TPM_ALG_ID of this hash.
    public var tpmIdentifier: UInt16 {
        switch self {
        case .sha1: 0x0004
        case .sha256: 0x000B
        case .sha384: 0x000C
        case .sha512: 0x000D
        }
    }

    /// `nil` for a hash that Nacre does not judge (SM3, SHA-3).
    public init?(tpmIdentifier: UInt16) {
        guard let match = Self.allCases.first(where: { $0.tpmIdentifier == tpmIdentifier }) else { return nil }
        self = match
    }

    /// The banks' order in outputs: by digest length.
    public var order: Int { size }
}

extension ByteReader {
    /// A TPM2B: 16-bit big-endian size, then that many bytes, at most `limit`.
    mutating func sized(_ field: String, limit: Int) throws(ParseError) -> [UInt8] {
        let start = offset
        let size = Int(try be(UInt16.self, "\(field).size"))
        guard size <= limit else {
            throw ParseError("range", field: "\(field).size", offset: start, "\(size) bytes, at most \(limit)")
        }
        return try take(size, field)
    }

    /// A TPM_ALG_ID that must name a hash.
    mutating func hash(_ field: String) throws(ParseError) -> HashAlgorithm {
        let start = offset
        let identifier = try be(UInt16.self, field)
        guard let hash = HashAlgorithm(tpmIdentifier: identifier) else {
            throw ParseError("range", field: field, offset: start, "0x\(Hex.encode(identifier)) is no hash known here")
        }
        return hash
    }
}

extension Hex {
    /// An integer's big-endian digits, for messages.
    static func encode<T: FixedWidthInteger & UnsignedInteger>(_ value: T) -> String {
        var writer = ByteWriter()
        writer.be(value)
        return encode(writer.bytes)
    }
}

/// What a check of this room refused.
public struct TPMError: Error, Equatable, Sendable, CustomStringConvertible {
    public let finding: Finding

    public init(_ finding: Finding) { self.finding = finding }

    public var description: String { finding.description }
}
