import Bytes
import Crypto

/// A VCEK or VLEK: the certificate of the key that signs reports, and what AMD certified about it.
///
/// "VCEK Certificate and KDS Interface Specification" (publication 57230), extensions under 1.3.6.1.4.1.3704.1.
public struct EndorsementKey: Sendable {
    public enum Kind: String, Sendable, Equatable {
        /// Of one chip.
        case vcek
        /// Of one cloud provider; names no chip.
        case vlek

        /// The certificate's commonName.
        public var commonName: String { self == .vcek ? "SEV-VCEK" : "SEV-VLEK" }
        /// The commonName of the ASK or ASVK that issues it.
        public func issuerCommonName(_ product: Product) -> String {
            (self == .vcek ? "SEV-" : "SEV-VLEK-") + product.rawValue
        }
    }

    public let certificate: Certificate
    public let key: PublicKey
    public let kind: Kind
    /// As certified, e.g. `Milan-B0`.
    public let productName: String
    public let product: Product
    /// The TCB that the key is derived for.
    public let tcb: TCBVersion
    /// The chip: 64 bytes, 8 on Turin; `nil` on a VLEK.
    public let hardwareID: [UInt8]?
    /// The cloud provider; VLEKs only.
    public let cspID: String?

    /// Reads DER or one PEM block.
    ///
    /// Errors: `parse-certificate` (not X.509), `parse-extension` (an AMD extension is missing, stands twice or is not
    /// of its form), `key-kind` (neither VCEK nor VLEK), `key-curve` (not P-384), `product-unknown`.
    public init(_ bytes: [UInt8]) throws(Finding) {
        let certificate: Certificate
        do { certificate = try Certificate.read(bytes) } catch {
            throw Finding(
                "parse-certificate", claim: "vek", expected: "one certificate, DER or PEM", actual: error.message,
                source: "KDS specification", next: "give the VCEK or VLEK that belongs to the report")
        }
        try self.init(certificate)
    }

    public init(_ certificate: Certificate) throws(Finding) {
        let source = "VCEK certificate specification"
        switch certificate.commonName {
        case Kind.vcek.commonName: kind = .vcek
        case Kind.vlek.commonName: kind = .vlek
        default:
            throw Finding(
                "key-kind", claim: "vek.subject", expected: "CN=SEV-VCEK or CN=SEV-VLEK", actual: certificate.subject,
                source: source, next: "give the VCEK or VLEK, not another certificate of the chain")
        }
        let key: PublicKey
        do { key = try certificate.publicKey() } catch {
            throw Finding("key-curve", claim: "vek.key", expected: "a P-384 key", actual: error.message, source: source)
        }
        guard key.kind == .p384 else {
            throw Finding("key-curve", claim: "vek.key", expected: "p384", actual: "\(key.kind)", source: source)
        }
        let fields: VEKExtensions
        do { fields = try VEKExtensions(certificate, kind: kind) } catch {
            throw Finding(
                "parse-extension", claim: error.field, actual: error.message, source: source,
                next: "give a certificate that AMD issued")
        }
        guard let product = Product(certificateName: fields.productName) else {
            throw Finding(
                "product-unknown", claim: "vek.productName",
                expected: Product.allCases.map(\.rawValue).joined(separator: ", "), actual: fields.productName,
                source: "this release", next: "use a release that knows this processor")
        }
        do { tcb = try fields.tcb(product) } catch {
            throw Finding("parse-extension", claim: error.field, actual: error.message, source: source)
        }
        if let hardwareID = fields.hardwareID, hardwareID.count != 64, hardwareID.count != product.hardwareIDLength {
            throw Finding(
                "parse-extension", claim: "vek.hwID", expected: "\(product.hardwareIDLength) bytes",
                actual: "\(hardwareID.count) bytes", source: source)
        }
        self.certificate = certificate
        self.key = key
        self.product = product
        productName = fields.productName
        hardwareID = fields.hardwareID
        cspID = fields.cspID
    }

    /// `key-kind` unless a report signed by `signing` can be one of this key; an unsigned report never is.
    public func requireKind(of signing: SigningKey) throws(Finding) {
        let matches =
            switch (signing, kind) {
            case (.vcek, .vcek), (.vlek, .vlek): true
            default: false
            }
        guard matches else {
            throw Finding(
                "key-kind", claim: "report.signing_key", expected: kind.rawValue,
                actual: signing == .none ? "none: the report is not signed" : "\(signing)",
                source: "the certificate's name \(kind.commonName)",
                next: signing == .none
                    ? "ask the guest for a report signed by VCEK or VLEK" : "give the \(signing) of this report")
        }
    }
}

/// The AMD extensions of a VCEK or VLEK, decoded.
struct VEKExtensions {
    let productName: String
    let hardwareID: [UInt8]?
    let cspID: String?
    private let levels: [String: UInt8]

    private static let arc = "1.3.6.1.4.1.3704.1."

    init(_ certificate: Certificate, kind: EndorsementKey.Kind) throws(ParseError) {
        var values: [String: [UInt8]] = [:]
        for item in certificate.extensions where item.oid.hasPrefix(Self.arc) {
            let name = String(item.oid.dropFirst(Self.arc.count))
            guard values.updateValue(item.value, forKey: name) == nil else {
                throw Self.error(name, "stands twice")
            }
        }
        func value(_ name: String) throws(ParseError) -> [UInt8] {
            guard let value = values[name] else { throw Self.error(name, "missing") }
            return value
        }
        let structVersion = try Self.integer(try value("1"), "1")
        guard structVersion <= 1 else { throw Self.error("1", "structure version \(structVersion) is not 0 or 1") }
        productName = try Self.ia5(try value("2"), "2")
        var levels: [String: UInt8] = [:]
        for index in 1...9 {
            let name = "3.\(index)"
            if let content = values[name] { levels[name] = try Self.integer(content, name) }
        }
        self.levels = levels
        switch kind {
        case .vcek:
            hardwareID = try Self.hardwareID(try value("4"))
            guard values["5"] == nil else { throw Self.error("5", "a VCEK names no cloud provider") }
            cspID = nil
        case .vlek:
            guard values["4"] == nil else { throw Self.error("4", "a VLEK names no chip") }
            hardwareID = nil
            if let content = values["5"] { cspID = try Self.ia5(content, "5") } else { cspID = nil }
        }
    }

    /// The TCB in the components that `product` has. The spare levels 4 to 7 must be absent or 0.
    func tcb(_ product: Product) throws(ParseError) -> TCBVersion {
        func level(_ index: Int) throws(ParseError) -> UInt8 {
            guard let level = levels["3.\(index)"] else { throw Self.error("3.\(index)", "missing") }
            return level
        }
        for index in 4...7 where levels["3.\(index)", default: 0] != 0 {
            throw Self.error("3.\(index)", "a level this release does not know is not 0")
        }
        let fmc: UInt8?
        if product == .turin {
            fmc = try level(9)
        } else {
            guard levels["3.9"] == nil else { throw Self.error("3.9", "only Turin has a level fmc") }
            fmc = nil
        }
        return TCBVersion(
            fmc: fmc, bootloader: try level(1), tee: try level(2), snp: try level(3), microcode: try level(8))
    }

    private static func error(_ name: String, _ message: String) -> ParseError {
        ParseError("extension", field: "vek.extension \(arc)\(name)", offset: 0, message)
    }

    private static func integer(_ content: [UInt8], _ name: String) throws(ParseError) -> UInt8 {
        let element = try DER.single(content, "vek.extension \(arc)\(name)")
        guard element.tag == 0x02, let value = DER.unsignedInteger(element.content), value.count == 1,
            let only = value.first
        else { throw error(name, "not an INTEGER from 0 to 255") }
        return only
    }

    private static func ia5(_ content: [UInt8], _ name: String) throws(ParseError) -> String {
        let element = try DER.single(content, "vek.extension \(arc)\(name)")
        guard element.tag == 0x16, element.content.count <= 256,
            element.content.allSatisfy({ (0x20..<0x7F).contains($0) })
        else { throw error(name, "not a printable IA5String") }
        return String(decoding: element.content, as: UTF8.self)
    }

    /// The bare bytes on most certificates, an OCTET STRING on others; the lengths cannot be confused.
    private static func hardwareID(_ content: [UInt8]) throws(ParseError) -> [UInt8] {
        switch content.count {
        case 8, 64: return content
        case 10, 66:
            let element = try DER.single(content, "vek.extension \(arc)4")
            guard element.tag == 0x04 else { throw error("4", "not an OCTET STRING") }
            return element.content
        default: throw error("4", "\(content.count) bytes are no hardware id")
        }
    }
}
