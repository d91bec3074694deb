import Bytes
import SEVSNP
import TDX

/// `nacre.collateral.v1`: all that is needed to verify evidence later with no network, in one JSON document.
/// It stands alone (cache, file) or in evidence, as `collateral`.
///
/// `{"schema":…,"items":[…]}`, each item one of
/// `{"kind":"intel","fmspc":hex,"authority":"platform"|"processor","collateral":{…}}` (`TDX.Collateral`),
/// `{"kind":"amd-endorsement","certificate":base64}`, `{"kind":"amd-chain","product":…,"key":"vcek"|"vlek","pem":…}`,
/// `{"kind":"amd-crl","product":…,"key":…,"crl":base64}`. Unknown fields and kinds are refused. Reading verifies nothing:
/// evidence is judged under pinned roots whatever its collateral came with.
public struct CollateralBundle: Sendable, Equatable {
    public static let schema = "nacre.collateral.v1"
    static let maximumItems = 4096

    public private(set) var items: [String: CollateralItem] = [:]

    public init() {}

    /// Adds `item`, in place of one with the same key.
    public mutating func add(_ item: CollateralItem) throws(Finding) { items[try item.key()] = item }

    public init(parsing bytes: [UInt8]) throws(Finding) {
        let json: JSON
        do { json = try JSON(parsing: bytes) } catch { throw error.finding }
        try self.init(json: json)
    }

    public init(json: JSON) throws(Finding) {
        let list: [JSON]
        do throws(ParseError) {
            var fields = try JSONFields(json, path: "collateral")
            let schema = try fields.string("schema")
            guard schema == Self.schema else {
                throw ParseError(
                    "version", field: "collateral.schema", offset: 0, "must be \(Self.schema), is \(schema)")
            }
            list = try fields.array("items")
            try fields.end()
            guard list.count <= Self.maximumItems else {
                throw ParseError("range", field: "collateral.items", offset: 0, "\(list.count) items")
            }
        } catch {
            throw error.finding
        }
        for json in list {
            let item: CollateralItem
            do { item = try CollateralItem(json) } catch { throw error.finding }
            let key = try item.key()
            guard items.updateValue(item, forKey: key) == nil else {
                throw Finding(
                    "parse-form", claim: "collateral.items", expected: "each item once", actual: "\(key) twice")
            }
        }
    }

    /// The document; items in the order of their keys, so that equal bundles are equal bytes.
    public var json: JSON {
        let sorted = items.sorted { $0.key < $1.key }.map(\.value.json)
        return ["schema": .string(Self.schema), "items": .array(sorted)]
    }

    /// Collateral for a TDX quote of that platform, as the document that `QuoteVerifier` takes.
    public func intel(_ source: CollateralSource) -> [UInt8]? {
        guard case .intel(_, let collateral) = items[CollateralItem.intelKey(source)] else { return nil }
        return Array(collateral.json.compact.utf8)
    }

    /// The VCEK of one chip at one TCB, DER.
    public func vcek(_ product: Product, chipID: [UInt8], tcb: TCBVersion) -> [UInt8]? {
        guard case .endorsement(let der) = items[CollateralItem.vcekKey(product, hardwareID: chipID, tcb: tcb)] else {
            return nil
        }
        return der
    }

    /// The ARK's revocation list, DER.
    public func revocationList(_ product: Product, _ kind: EndorsementKey.Kind) -> [UInt8]? {
        guard case .revocationList(_, _, let der) = items[CollateralItem.key("crl", product, kind)] else { return nil }
        return der
    }
}

extension CollateralItem {
    init(_ json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "item")
        let kind = try fields.string("kind")
        switch kind {
        case "intel":
            let fmspc = try fields.hex("fmspc", count: 6)
            guard let authority = CollateralSource.Authority(rawValue: try fields.string("authority")) else {
                throw ParseError("form", field: "item.authority", offset: 0, "must be platform or processor")
            }
            let collateral = try Collateral(try fields.required("collateral"))
            self = .intel(CollateralSource(fmspc: fmspc, authority: authority), collateral)
        case "amd-endorsement": self = .endorsement(try fields.base64("certificate"))
        case "amd-chain":
            let (product, key) = try Self.amd(&fields)
            self = .chain(product, key, Array(try fields.string("pem").utf8))
        case "amd-crl":
            let (product, key) = try Self.amd(&fields)
            self = .revocationList(product, key, try fields.base64("crl"))
        default: throw ParseError("form", field: "item.kind", offset: 0, "unknown kind \(kind)")
        }
        try fields.end()
    }

    private static func amd(_ fields: inout JSONFields) throws(ParseError) -> (Product, EndorsementKey.Kind) {
        guard let product = Product(rawValue: try fields.string("product")),
            let kind = EndorsementKey.Kind(rawValue: try fields.string("key"))
        else { throw ParseError("form", field: "item.product", offset: 0, "unknown product or key") }
        return (product, kind)
    }

    var json: JSON {
        func amd(_ kind: JSON, _ product: Product, _ key: EndorsementKey.Kind) -> [String: JSON] {
            ["kind": kind, "product": .string(product.rawValue), "key": .string(key.rawValue)]
        }
        switch self {
        case .intel(let source, let collateral):
            return [
                "kind": "intel", "fmspc": .hex(source.fmspc), "authority": .string(source.authority.rawValue),
                "collateral": collateral.json,
            ]
        case .endorsement(let der): return ["kind": "amd-endorsement", "certificate": .base64(der)]
        case .chain(let product, let key, let pem):
            var object = amd("amd-chain", product, key)
            object["pem"] = .string(String(decoding: pem, as: UTF8.self))
            return .object(object)
        case .revocationList(let product, let key, let der):
            var object = amd("amd-crl", product, key)
            object["crl"] = .base64(der)
            return .object(object)
        }
    }
}
