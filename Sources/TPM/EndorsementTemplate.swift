import Bytes
import Crypto

/// From which template a TPM derives the endorsement key of a certificate, and where it keeps both
/// (TCG EK Credential Profile 2.6 §2.2.1.4 and annex B).
public struct EndorsementTemplate: Sendable, Equatable {
    /// NV index of the certificate.
    public let certificate: UInt32
    /// NV index of a template that takes this one's place; absent in most TPMs.
    public let template: UInt32
    /// NV index of what fills the template's `unique`; low range only.
    public let nonce: UInt32?
    /// TPM2B_PUBLIC without a key.
    public let area: [UInt8]
    /// The key is used with PolicySecret(endorsement) rather than with its own, empty, password.
    public let needsPolicy: Bool

    /// The indices of the certificates of the authorities between the key's and the root's (§2.2.1.5.2).
    public static let chain: ClosedRange<UInt32> = 0x01C0_0100...0x01C0_01FF

    /// Those that a certificate is looked for, the ones that are made quickest first. L-1 and L-2 are the low range, the
    /// others the high one.
    public static let all: [EndorsementTemplate] = [
        low(ecc: true), high(0x01C0_0014, .ecc(.p256)), high(0x01C0_0016, .ecc(.p384)), low(ecc: false),
        high(0x01C0_0012, .rsa(2048)), high(0x01C0_001C, .rsa(3072)), high(0x01C0_001E, .rsa(4096)),
    ]

    private enum Kind {
        case ecc(Curve), rsa(UInt16)
    }

    /// PolicyA: PolicySecret(TPM_RH_ENDORSEMENT) (§B.6.2).
    private static let policyA: [UInt8] = [
        0x83, 0x71, 0x97, 0x67, 0x44, 0x84, 0xB3, 0xF8, 0x1A, 0x90, 0xCC, 0x8D, 0x46, 0xA5, 0xD7, 0x24, 0xFD, 0x52,
        0xD7, 0x6E, 0x06, 0x52, 0x0B, 0x64, 0xF2, 0xA1, 0xDA, 0x1B, 0x33, 0x14, 0x69, 0xAA,
    ]

    /// PolicyB: PolicyA or PolicyAuthorizeNV (§B.6.4).
    private static func policyB(_ hash: HashAlgorithm) -> [UInt8] {
        hash == .sha256
            ? [
                0xCA, 0x3D, 0x0A, 0x99, 0xA2, 0xB9, 0x39, 0x06, 0xF7, 0xA3, 0x34, 0x24, 0x14, 0xEF, 0xCF, 0xB3, 0xA3,
                0x85, 0xD4, 0x4C, 0xD1, 0xFD, 0x45, 0x90, 0x89, 0xD1, 0x9B, 0x50, 0x71, 0xC0, 0xB7, 0xA0,
            ]
            : [
                0xB2, 0x6E, 0x7D, 0x28, 0xD1, 0x1A, 0x50, 0xBC, 0x53, 0xD8, 0x82, 0xBC, 0xF5, 0xFD, 0x3A, 0x1A, 0x07,
                0x41, 0x48, 0xBB, 0x35, 0xD3, 0xB4, 0xE4, 0xCB, 0x1C, 0x0A, 0xD9, 0xBD, 0xE4, 0x19, 0xCA, 0xCB, 0x47,
                0xBA, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0F, 0x9F, 0xC0, 0x00, 0xF3, 0xF8, 0x0E, 0x12,
            ]
    }

    private static let attributes: TPMPublic.Attributes = [
        .fixedTPM, .fixedParent, .sensitiveDataOrigin, .adminWithPolicy, .restricted, .decrypt,
    ]

    private static func low(ecc: Bool) -> EndorsementTemplate {
        let base: UInt32 = ecc ? 0x01C0_000A : 0x01C0_0002
        return EndorsementTemplate(
            certificate: base, template: base + 2, nonce: base + 1,
            area: area(
                ecc ? .ecc(.p256) : .rsa(2048), .sha256, attributes, policyA, isFilled: true), needsPolicy: true)
    }

    private static func high(_ index: UInt32, _ kind: Kind) -> EndorsementTemplate {
        let hash: HashAlgorithm =
            switch kind {
            case .ecc(.p256), .rsa(2048): .sha256
            default: .sha384
            }
        return EndorsementTemplate(
            certificate: index, template: index + 1, nonce: nil,
            area: area(kind, hash, attributes.union(.userWithAuth), policyB(hash), isFilled: false), needsPolicy: false)
    }

    /// - Parameter isFilled: `unique` has zeros of the key's length rather than nothing.
    private static func area(
        _ kind: Kind, _ hash: HashAlgorithm, _ attributes: TPMPublic.Attributes, _ policy: [UInt8], isFilled: Bool
    ) -> [UInt8] {
        var area = ByteWriter()
        if case .ecc = kind { area.be(AlgorithmID.ecc) } else { area.be(AlgorithmID.rsa) }
        area.be(hash.tpmIdentifier)
        area.be(attributes.rawValue)
        area.append(TPMPublic.sized(policy))
        area.be(AlgorithmID.aes)
        area.be(UInt16(hash == .sha256 ? 128 : 256))
        area.be(AlgorithmID.cfb)
        area.be(AlgorithmID.null)  // no scheme
        switch kind {
        case .ecc(let curve):
            area.be(UInt16(curve == .p256 ? 3 : 4))
            area.be(AlgorithmID.null)  // no key derivation
            let coordinate = TPMPublic.sized([UInt8](repeating: 0, count: isFilled ? curve.coordinateSize : 0))
            area.append(coordinate + coordinate)
        case .rsa(let bits):
            area.be(bits)
            area.be(UInt32(0))  // the default exponent
            area.append(TPMPublic.sized([UInt8](repeating: 0, count: isFilled ? Int(bits) / 8 : 0)))
        }
        return TPMPublic.sized(area.bytes)
    }

    /// The template with what its nonce index holds in the first bytes of `unique`; `nil` for a nonce that does not fit.
    public func filled(with nonce: [UInt8]) -> [UInt8]? {
        // The area ends with the modulus, or with x and y and the length before y.
        let isECC = area.prefix(4).last == 0x23
        let (size, tail) = isECC ? (32, 66) : (256, 256)
        guard self.nonce != nil, nonce.count <= size, area.count > tail else { return nil }
        var filled = area
        let start = area.count - tail
        filled.replaceSubrange(start..<start + nonce.count, with: nonce)
        return filled
    }
}
