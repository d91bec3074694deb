import Bytes
import Crypto

/// An X.509 certificate for an attestation or endorsement key (TCG EK Credential Profile; Google's and Azure's AK
/// certificates). Form only: who issued it and when it is valid is judged elsewhere.
public struct AttestationKeyCertificate: Sendable {
    public let certificate: Certificate
    /// keyUsage has digitalSignature, or there is no keyUsage.
    public let maySign: Bool
    /// extendedKeyUsage identifiers; `nil` without that extension.
    public let extendedUsages: [String]?
    /// Google's description of the machine that the key belongs to.
    public let instance: GCEInstance?

    /// tcg-kp-EKCertificate and tcg-kp-AIKCertificate.
    public static let endorsementUsage = "2.23.133.8.1"
    public static let attestationUsage = "2.23.133.8.3"

    /// - Throws: `ParseError` for a certificate whose usages or Google extension do not parse, or stand twice.
    public init(_ certificate: Certificate) throws(ParseError) {
        self.certificate = certificate
        let extensions = certificate.extensions
        func value(_ oid: String) throws(ParseError) -> [UInt8]? {
            let found = extensions.filter { $0.oid == oid }
            guard found.count <= 1 else {
                throw ParseError("form", field: oid, offset: 0, "the extension stands \(found.count) times")
            }
            return found.first?.value
        }
        if let usage = try value("2.5.29.15") {
            let bits = try DER.single(usage, "keyUsage")
            guard bits.tag == 0x03, bits.content.count >= 2 else {
                throw ParseError("form", field: "keyUsage", offset: 0, "not a bit string")
            }
            maySign = bits.content[1] & 0x80 != 0
        } else {
            maySign = true
        }
        if let usages = try value("2.5.29.37") {
            var names: [String] = []
            for element in try DER.single(usages, "extKeyUsage").children("extKeyUsage") {
                guard element.tag == 0x06, let name = DER.objectIdentifier(element.content) else {
                    throw ParseError("form", field: "extKeyUsage", offset: element.offset, "not an object identifier")
                }
                names.append(name)
            }
            extendedUsages = names
        } else {
            extendedUsages = nil
        }
        instance = try value(GCEInstance.oid).map { bytes throws(ParseError) in try GCEInstance(parsing: bytes) }
    }

    /// A certificate as it comes out of a TPM's NV index: DER, then zeros up to the index's size.
    ///
    /// - Throws: `ParseError` for anything but zeros after the certificate.
    public static func trimmed(_ bytes: [UInt8]) throws(ParseError) -> [UInt8] {
        var reader = ByteReader(bytes)
        _ = try DER.element(&reader, "certificate")
        let length = reader.offset
        try reader.zeros(reader.remaining, "certificate padding")
        return Array(bytes.prefix(length))
    }

    /// Certificates from PEM text, or one from DER or an NV index, with padding removed.
    public static func chain(_ bytes: [UInt8], limit: Int = 16) throws(ParseError) -> [Certificate] {
        let encoded = bytes.first == 0x30 ? [bytes] : try pem(bytes, limit: limit)
        var chain: [Certificate] = []
        for der in encoded {
            do {
                chain.append(try Certificate(der: try trimmed(der)))
            } catch let error as CryptoError {
                throw ParseError("form", field: "certificate \(chain.count)", offset: 0, error.message)
            } catch let error as ParseError {
                throw error
            } catch {
                throw ParseError("form", field: "certificate \(chain.count)", offset: 0, "\(error)")
            }
        }
        return chain
    }

    private static func pem(_ bytes: [UInt8], limit: Int) throws(ParseError) -> [[UInt8]] {
        guard bytes.count <= 1 << 20 else {
            throw ParseError("length", field: "certificates", offset: 0, "\(bytes.count) bytes")
        }
        let blocks = PEM.blocks(bytes)
        guard !blocks.isEmpty, blocks.count <= limit, blocks.allSatisfy({ $0.label == "CERTIFICATE" }) else {
            throw ParseError(
                "form", field: "certificates", offset: 0,
                "expected 1 to \(limit) PEM certificates, found \(blocks.count)")
        }
        return blocks.map(\.der)
    }
}

/// Google's AK certificate extension 1.3.6.1.4.1.11129.2.1.21: the machine whose TPM holds the key.
public struct GCEInstance: Equatable, Sendable {
    public static let oid = "1.3.6.1.4.1.11129.2.1.21"

    public let zone: String
    public let projectNumber: UInt64
    public let projectID: String
    public let instanceID: UInt64
    public let instanceName: String
    /// Security properties, by tag: version, then booleans (1: production). Tags that are absent say nothing.
    public let securityVersion: UInt64?
    public let properties: [UInt8: Bool]

    /// The key belongs to a production machine; `nil` where the certificate does not say.
    public var isProduction: Bool? { properties[1] }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        let outer = try DER.single(bytes, "GCEInstance")
        let parts = try outer.children("GCEInstance")
        guard outer.tag == 0x30, (5...6).contains(parts.count) else {
            throw ParseError("form", field: "GCEInstance", offset: 0, "\(parts.count) elements")
        }
        zone = try Self.text(parts[0], "GCEInstance.zone")
        projectNumber = try Self.integer(parts[1], "GCEInstance.projectNumber")
        projectID = try Self.text(parts[2], "GCEInstance.projectId")
        instanceID = try Self.integer(parts[3], "GCEInstance.instanceId")
        instanceName = try Self.text(parts[4], "GCEInstance.instanceName")
        var version: UInt64?
        var properties: [UInt8: Bool] = [:]
        if parts.count == 6 {
            let wrapper = try parts[5].children("GCEInstance.securityProperties")
            guard parts[5].tag == 0xA0, wrapper.count == 1, wrapper[0].tag == 0x30 else {
                throw ParseError(
                    "form", field: "GCEInstance.securityProperties", offset: parts[5].offset, "no sequence")
            }
            var last: UInt8?
            for property in try wrapper[0].children("GCEInstance.securityProperties") {
                let field = "GCEInstance.securityProperties[\(property.tag & 0x1F)]"
                let inner = try property.children(field)
                guard property.tag & 0xE0 == 0xA0, inner.count == 1, last.map({ $0 < property.tag }) ?? true else {
                    throw ParseError("form", field: field, offset: property.offset, "tag 0x\(Hex.encode(property.tag))")
                }
                last = property.tag
                if property.tag == 0xA0 {
                    version = try Self.integer(inner[0], field)
                } else {
                    properties[property.tag & 0x1F] = try Self.boolean(inner[0], field)
                }
            }
        }
        securityVersion = version
        self.properties = properties
    }

    private static func text(_ element: DER.Element, _ field: String) throws(ParseError) -> String {
        guard element.tag == 0x0C, let text = String(validating: element.content, as: UTF8.self) else {
            throw ParseError("form", field: field, offset: element.offset, "not a UTF8String")
        }
        return text
    }

    private static func integer(_ element: DER.Element, _ field: String) throws(ParseError) -> UInt64 {
        guard element.tag == 0x02, let bytes = DER.unsignedInteger(element.content), bytes.count <= 8 else {
            throw ParseError("form", field: field, offset: element.offset, "not a non-negative INTEGER of 64 bits")
        }
        return bytes.reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func boolean(_ element: DER.Element, _ field: String) throws(ParseError) -> Bool {
        guard element.tag == 0x01, element.content == [0] || element.content == [0xFF] else {
            throw ParseError("form", field: field, offset: element.offset, "not a BOOLEAN")
        }
        return element.content == [0xFF]
    }

    public var json: JSON {
        .fields([
            "zone": .string(zone), "project_number": .integer(Int128(projectNumber)), "project_id": .string(projectID),
            "instance_id": .integer(Int128(instanceID)), "instance_name": .string(instanceName),
            "production": isProduction.map { .bool($0) },
        ])
    }
}
