import Bytes

/// One self-contained file, `nacre.evidencebundle.v1`: evidence with its collateral, the manifest it is to be judged by
/// and that manifest's signature. It verifies later with no network and no other file than the verifier's own trust
/// root, which is never taken from the bundle.
public struct EvidenceBundle: Sendable, Equatable {
    public static let schema = "nacre.evidencebundle.v1"
    /// Largest bundle that is read, bytes: evidence with the largest manifest and signature in base64.
    public static let maximumSize = Evidence.maximumSize + (17 << 20)

    public var evidence: Evidence
    /// The manifest's bytes exactly as signed.
    public var manifest: [UInt8]
    /// The Sigstore bundle over `manifest`.
    public var signature: [UInt8]

    public init(evidence: Evidence, manifest: [UInt8], signature: [UInt8]) {
        self.evidence = evidence
        self.manifest = manifest
        self.signature = signature
    }

    public init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "bundle")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "bundle.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        evidence = try Evidence(json: fields.required("evidence"))
        manifest = try fields.base64("manifest")
        signature = try fields.base64("signature")
        try fields.end()
    }

    public var json: JSON {
        [
            "schema": .string(Self.schema), "evidence": evidence.json, "manifest": .base64(manifest),
            "signature": .base64(signature),
        ]
    }

    /// A document that holds evidence: plain, or bundled with its manifest.
    public enum Document: Sendable, Equatable {
        case plain(Evidence)
        case bundled(EvidenceBundle)

        public var evidence: Evidence {
            switch self {
            case .plain(let evidence): evidence
            case .bundled(let bundle): bundle.evidence
            }
        }

        public init(parsing bytes: [UInt8]) throws(ParseError) {
            let json = try JSON(parsing: bytes, limit: EvidenceBundle.maximumSize)
            guard json["schema"]?.string != EvidenceBundle.schema else {
                self = .bundled(try EvidenceBundle(json: json))
                return
            }
            guard bytes.count <= Evidence.maximumSize else {
                throw ParseError(
                    "length", field: "evidence", offset: 0, "\(bytes.count) bytes, at most \(Evidence.maximumSize)")
            }
            self = .plain(try Evidence(json: json))
        }
    }
}
