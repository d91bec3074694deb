import Bytes
import Crypto

/// A TPMT_SIGNATURE (TPM 2.0 Part 2 §11.3.4): RSASSA, RSAPSS or ECDSA.
public enum TPMSignature: Equatable, Sendable {
    case rsaSSA(HashAlgorithm, [UInt8])
    case rsaPSS(HashAlgorithm, [UInt8])
    /// r and s as big-endian numbers, possibly with fewer bytes than the curve's order.
    case ecdsa(HashAlgorithm, r: [UInt8], s: [UInt8])

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = ByteReader(bytes)
        let algorithm = try reader.be(UInt16.self, "TPMT_SIGNATURE.sigAlg")
        switch algorithm {
        case AlgorithmID.rsaSSA, AlgorithmID.rsaPSS:
            let hash = try reader.hash("TPMT_SIGNATURE.hash")
            let value = try reader.sized("TPMT_SIGNATURE.sig", limit: 1024)
            self = algorithm == AlgorithmID.rsaSSA ? .rsaSSA(hash, value) : .rsaPSS(hash, value)
        case AlgorithmID.ecdsa:
            let hash = try reader.hash("TPMT_SIGNATURE.hash")
            let r = try reader.sized("TPMT_SIGNATURE.signatureR", limit: 66)
            self = .ecdsa(hash, r: r, s: try reader.sized("TPMT_SIGNATURE.signatureS", limit: 66))
        default:
            throw ParseError(
                "range", field: "TPMT_SIGNATURE.sigAlg", offset: 0,
                "0x\(Hex.encode(algorithm)) is not RSASSA, RSAPSS or ECDSA")
        }
        try reader.end("TPMT_SIGNATURE")
    }

    /// The hash that signs, which is also the hash of the quote's PCR digest.
    public var hash: HashAlgorithm {
        switch self {
        case .rsaSSA(let hash, _), .rsaPSS(let hash, _), .ecdsa(let hash, _, _): hash
        }
    }

    /// TPM_ALG_ID of the scheme.
    var algorithm: UInt16 {
        switch self {
        case .rsaSSA: AlgorithmID.rsaSSA
        case .rsaPSS: AlgorithmID.rsaPSS
        case .ecdsa: AlgorithmID.ecdsa
        }
    }

    /// `rsassa-sha256` and the like.
    public var name: String {
        switch self {
        case .rsaSSA: "rsassa-\(hash.rawValue)"
        case .rsaPSS: "rsapss-\(hash.rawValue)"
        case .ecdsa: "ecdsa-\(hash.rawValue)"
        }
    }

    public var encoded: [UInt8] {
        var writer = ByteWriter()
        writer.be(algorithm)
        writer.be(hash.tpmIdentifier)
        for part in parts {
            writer.be(UInt16(truncatingIfNeeded: part.count))
            writer.append(part)
        }
        return writer.bytes
    }

    private var parts: [[UInt8]] {
        switch self {
        case .rsaSSA(_, let value), .rsaPSS(_, let value): [value]
        case .ecdsa(_, let r, let s): [r, s]
        }
    }

    /// Throws `.signature` unless `key` made this signature over `message`.
    public func verify(_ message: [UInt8], by key: PublicKey) throws(CryptoError) {
        switch self {
        case .rsaSSA(let hash, let value): try key.verify(value, of: message, scheme: .rsaPKCS1(hash))
        case .rsaPSS(let hash, let value): try key.verify(value, of: message, scheme: .rsaPSS(hash))
        case .ecdsa(let hash, let r, let s):
            let size = key.kind == .p384 ? 48 : 32
            guard key.kind == .p256 || key.kind == .p384, r.count <= size, s.count <= size, !r.isEmpty, !s.isEmpty
            else { throw CryptoError(.signature, "ECDSA signature of \(r.count) and \(s.count) bytes") }
            try key.verifyECDSA(raw: r.padded(to: size) + s.padded(to: size), of: message, hash: hash)
        }
    }
}

extension [UInt8] {
    /// Zeros in front, up to `size` bytes.
    func padded(to size: Int) -> [UInt8] { [UInt8](repeating: 0, count: Swift.max(0, size - count)) + self }
}
