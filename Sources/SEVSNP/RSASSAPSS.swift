import Bytes
import Crypto

/// AMD signs certificates and revocation lists with one algorithm only: RSASSA-PSS, SHA-384, MGF1 with SHA-384, 48
/// bytes of salt, RSA-4096. libcrypto verifies whatever parameters a certificate states; this file pins them.
enum RSASSAPSS {
    private static let pss: [UInt8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A]
    private static let mgf1: [UInt8] = [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08]
    private static let sha384: [UInt8] = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02]

    /// Whether the SIGNED structure (a certificate or a list) `der` states exactly AMD's algorithm (RFC 4055 §3.1).
    static func isStated(in der: [UInt8]) -> Bool {
        guard let parts = try? DER.single(der, "signed").children("signed"), parts.count == 3,
            let algorithm = try? parts[1].children("signatureAlgorithm"), algorithm.count == 2,
            algorithm[0].tag == 0x06, algorithm[0].content == pss, algorithm[1].tag == 0x30,
            let fields = try? algorithm[1].children("RSASSA-PSS-params"), fields.count == 3 || fields.count == 4,
            fields.enumerated().allSatisfy({ $1.tag == 0xA0 | UInt8($0) })
        else { return false }
        guard let hash = only(fields[0]), isSHA384(hash),
            let mask = only(fields[1]), mask.tag == 0x30, let maskParts = try? mask.children("maskGenAlgorithm"),
            maskParts.count == 2, maskParts[0].tag == 0x06, maskParts[0].content == mgf1, isSHA384(maskParts[1]),
            let salt = only(fields[2]), salt.tag == 0x02, salt.content == [48]
        else { return false }
        guard fields.count == 4 else { return true }
        guard let trailer = only(fields[3]) else { return false }
        return trailer.tag == 0x02 && trailer.content == [1]
    }

    /// AlgorithmIdentifier of SHA-384, parameters absent or NULL.
    private static func isSHA384(_ element: DER.Element) -> Bool {
        guard element.tag == 0x30, let parts = try? element.children("hashAlgorithm"), let name = parts.first,
            name.tag == 0x06, name.content == sha384
        else { return false }
        return parts.count == 1 || parts.count == 2 && parts[1].tag == 0x05 && parts[1].content.isEmpty
    }

    private static func only(_ element: DER.Element) -> DER.Element? {
        guard let children = try? element.children("field"), children.count == 1 else { return nil }
        return children.first
    }
}
