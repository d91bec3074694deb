import Bytes
import Crypto

/// The key that a quote is checked with: a TPM2B_PUBLIC, whose attributes can be checked, or a bare public key, whose
/// attributes somebody else vouches for (a certificate, a hardware report) or nobody does.
public struct AttestationKey: Sendable {
    public let publicKey: PublicKey
    /// The TPM's description of the key; `nil` for a bare key.
    public let area: TPMPublic?

    public init(_ area: TPMPublic) throws(TPMError) {
        do {
            publicKey = try area.publicKey()
        } catch {
            throw TPMError(
                Finding("ak-key", claim: "ak", expected: "a usable public key", actual: error.message))
        }
        self.area = area
    }

    public init(_ key: PublicKey) {
        publicKey = key
        area = nil
    }

    /// TPM2B_PUBLIC, or one PEM block `PUBLIC KEY`.
    public init(parsing bytes: [UInt8]) throws(TPMError) {
        if bytes.starts(with: "-----BEGIN".utf8) {
            do {
                self.init(try PublicKey(pem: bytes))
            } catch {
                throw TPMError(Finding("parse-form", claim: "ak", expected: "a PEM public key", actual: error.message))
            }
        } else {
            let area: TPMPublic
            do { area = try TPMPublic(parsing: bytes) } catch { throw TPMError(error.finding) }
            try self.init(area)
        }
    }

    /// Refuses a key that could sign anything but what the TPM wrote itself: an unrestricted key signs a well-formed
    /// TPMS_ATTEST made by anybody. A bare key passes; its caller must say that nobody looked.
    public func checkAttributes() throws(TPMError) {
        guard let area else { return }
        let missing = TPMPublic.Attributes.attestation.subtracting(area.attributes)
        guard missing.isEmpty, !area.attributes.contains(.decrypt), area.scheme != nil else {
            let wanted = TPMPublic.Attributes.attestation.names.joined(separator: " ")
            throw TPMError(
                Finding(
                    "ak-attributes", claim: "ak.attributes", expected: "\(wanted), not decrypt, one signing scheme",
                    actual: area.attributes.names.joined(separator: " ") + (area.scheme == nil ? ", no scheme" : ""),
                    source: "TPM 2.0 Part 1 §25.1.5",
                    next: "create the attestation key as a restricted signing key"))
        }
    }

    /// Refuses a key whose Name is not `expected`.
    public func checkName(_ expected: [UInt8], source: String) throws(TPMError) {
        guard let area, constantTimeEqual(area.name, expected) else {
            throw TPMError(
                Finding(
                    "ak-name", claim: "ak.name", expected: Hex.encode(expected),
                    actual: area.map { Hex.encode($0.name) } ?? "a bare key without a name", source: source))
        }
    }
}
