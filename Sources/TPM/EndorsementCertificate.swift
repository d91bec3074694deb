import Bytes
import Crypto

/// An endorsement key's certificate (TCG EK Credential Profile 2.6 §3): what its extensions say of the key and of the
/// TPM. Form only: who issued it and when it is valid is judged elsewhere.
public struct EndorsementCertificate: Sendable {
    public let certificate: Certificate
    /// `id:` and the vendor's identifier in hexadecimal (TCG Vendor ID Registry).
    public let manufacturer: String
    public let model: String
    /// `id:` and the firmware's version in hexadecimal.
    public let version: String

    /// The manufacturer's identifier as text, `IBM` for `id:49424D00`; `nil` where it is none.
    public var vendor: String? {
        guard manufacturer.hasPrefix("id:"), let bytes = Hex.decode(String(manufacturer.dropFirst(3))),
            bytes.count == 4
        else { return nil }
        let letters = bytes.prefix { $0 > 0x20 && $0 < 0x7F }
        return letters.isEmpty ? nil : String(decoding: letters, as: UTF8.self)
    }

    private static let keyUsage = "2.5.29.15"
    private static let subjectAlternativeName = "2.5.29.17"
    private static let extendedKeyUsage = "2.5.29.37"
    /// tcg-at-tpmManufacturer, -tpmModel, -tpmVersion.
    private static let attributes = ["2.23.133.2.1", "2.23.133.2.2", "2.23.133.2.3"]

    /// - Throws: `ek-usage` for a certificate that is for something else, `ek-names` for one that does not say what TPM
    ///   it is for, `parse-form` for extensions that cannot be read.
    public init(_ certificate: Certificate) throws(TPMError) {
        self.certificate = certificate
        do {
            try Self.checkUsage(certificate)
            let names = try Self.names(try Self.value(certificate, Self.subjectAlternativeName))
            let found = Self.attributes.compactMap { names[$0] }
            guard found.count == Self.attributes.count else {
                throw TPMError(
                    Finding(
                        "ek-names", claim: "ek.certificate.subjectAltName",
                        expected: "manufacturer, model and version of the TPM, each once",
                        actual: names.isEmpty ? "none" : names.keys.sorted().joined(separator: " "),
                        source: "TCG EK Credential Profile 2.6 §3.2.9"))
            }
            (manufacturer, model, version) = (found[0], found[1], found[2])
        } catch let error as TPMError {
            throw error
        } catch let error as ParseError {
            throw TPMError(error.finding)
        } catch {
            throw TPMError(Finding("parse-form", claim: "ek.certificate", actual: "\(error)"))
        }
    }

    /// The value of extension `oid`; `nil` without it, refused where it stands twice.
    private static func value(_ certificate: Certificate, _ oid: String) throws(ParseError) -> [UInt8]? {
        let found = certificate.extensions.filter { $0.oid == oid }
        guard found.count <= 1 else {
            throw ParseError("form", field: oid, offset: 0, "the extension stands \(found.count) times")
        }
        return found.first?.value
    }

    /// The purpose tcg-kp-EKCertificate, a key usage that goes with the key, and no authority.
    private static func checkUsage(_ certificate: Certificate) throws {
        let form = try AttestationKeyCertificate(certificate)
        var bits: [UInt8] = []
        if let usage = try value(certificate, keyUsage) { bits = try DER.single(usage, "keyUsage").content }
        let flags = bits.count >= 2 ? bits[1] : 0
        // keyEncipherment is bit 2, keyAgreement bit 4, keyCertSign bit 5 (RFC 5280 §4.2.1.3).
        let kind = try? certificate.publicKey().kind
        let wanted: (flag: UInt8, name: String) =
            switch kind {
            case .rsa: (0x20, "keyEncipherment")
            default: (0x08, "keyAgreement")
            }
        let purpose = AttestationKeyCertificate.endorsementUsage
        guard flags & wanted.flag != 0, flags & 0x04 == 0, form.extendedUsages?.contains(purpose) == true,
            !certificate.isCA
        else {
            throw TPMError(
                Finding(
                    "ek-usage", claim: "ek.certificate", expected: "\(wanted.name), purpose \(purpose), no CA",
                    actual: "key usage 0x\(Hex.encode([flags])), purposes "
                        + "\(form.extendedUsages?.joined(separator: " ") ?? "none"), CA: \(certificate.isCA)",
                    source: "TCG EK Credential Profile 2.6 §3.2",
                    next: "give the certificate of the TPM's endorsement key"))
        }
    }

    /// The TPM's attributes in the directory names of a subjectAltName (RFC 5280 §4.2.1.6), each at most once.
    private static func names(_ value: [UInt8]?) throws(ParseError) -> [String: String] {
        guard let value else { return [:] }
        let field = "subjectAltName"
        var names: [String: String] = [:]
        for general in try DER.single(value, field).children(field, limit: 16) where general.tag == 0xA4 {
            for sequence in try general.children(field, limit: 1) {
                for relative in try sequence.children(field, limit: 16) {
                    for attribute in try relative.children(field, limit: 16) {
                        let parts = try attribute.children(field, limit: 2)
                        guard parts.count == 2, parts[0].tag == 0x06,
                            let oid = DER.objectIdentifier(parts[0].content)
                        else {
                            throw ParseError("form", field: field, offset: attribute.offset, "not an attribute")
                        }
                        guard attributes.contains(oid) else { continue }
                        // UTF8String, or PrintableString of older certificates.
                        guard [0x0C, 0x13].contains(parts[1].tag), parts[1].content.count <= 256,
                            let text = String(validating: parts[1].content, as: UTF8.self), names[oid] == nil
                        else {
                            throw ParseError(
                                "form", field: "\(field).\(oid)", offset: parts[1].offset,
                                "not one text of at most 256 bytes")
                        }
                        names[oid] = text
                    }
                }
            }
        }
        return names
    }

    public var json: JSON {
        .fields([
            "subject": .string(certificate.subject), "issuer": .string(certificate.issuer),
            "certificate": .hex(certificate.sha256), "manufacturer": .string(manufacturer),
            "vendor": vendor.map { .string($0) }, "model": .string(model), "version": .string(version),
            "notAfter": certificate.notAfter.map { .string($0.description) },
        ])
    }
}
