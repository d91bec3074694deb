import Bytes
import Crypto
import Manifest

/// What a relying party demands beyond the manifest's values, `nacre.policy.v1`. Default-deny: a document that names no
/// platform accepts nothing.
public struct AppraisalPolicy: Sendable, Equatable {
    public static let schema = "nacre.policy.v1"

    /// Who has to vouch for the TPM, in ascending order of leniency; each accepts those before it too.
    public enum TPMRoot: String, Sendable, CaseIterable, Comparable {
        /// Only a hardware report that names the attestation key's owner; a TPM by itself is refused.
        case none
        /// Certificates up to one of `tpmRoots`, or an endorsement key's up to one of `endorsementRoots` and its
        /// activation in the session.
        case certified
        /// Anybody. The TPM may be the host's own program (swtpm): it proves nothing against that host.
        case development

        private var rank: Int { Self.allCases.firstIndex(of: self) ?? 0 }
        public static func < (left: TPMRoot, right: TPMRoot) -> Bool { left.rank < right.rank }
    }

    /// Platforms that are accepted at all.
    public var platforms: Set<Evidence.Platform>
    public var allowTPMRoot: TPMRoot
    /// Authorities for attestation keys, DER; used with `certified` and `development`.
    public var tpmRoots: [[UInt8]]
    /// Authorities for endorsement keys, DER: vendors of TPMs, roots or the authorities below them. Whoever is named here is believed to put such keys into
    /// TPMs only; a software TPM of the host is not one, whatever its certificate says.
    public var endorsementRoots: [[UInt8]]
    /// Accept images with serial login and other conveniences.
    public var allowDebugProfile: Bool
    /// Accept manifests signed by a `development` key.
    public var allowDevelopmentKey: Bool
    /// The smallest release counter that is accepted.
    public var minimumRelease: Int
    /// TPM banks that must agree; `nil`: every bank of the manifest.
    public var banks: [HashAlgorithm]?
    /// TPM registers that must agree; `nil`: every register that the manifest names.
    public var registers: [Int]?
    /// Further demands on SEV-SNP reports and TDX quotes, with the keys of these kinds (TCB floors, chip ids, statuses).
    public var snp: [String: JSON]
    public var tdx: [String: JSON]
    /// Roots of simulated TEEs that are let through beside AMD's and Intel's own: SHA-256 of their public keys
    /// (SubjectPublicKeyInfo). Such evidence proves nothing, and every verdict under them is marked `simulated`.
    public var simulatedRoots: Set<[UInt8]>

    public init(
        platforms: Set<Evidence.Platform> = [], allowTPMRoot: TPMRoot = .none, tpmRoots: [[UInt8]] = [],
        endorsementRoots: [[UInt8]] = [], allowDebugProfile: Bool = false, allowDevelopmentKey: Bool = false,
        minimumRelease: Int = 0,
        banks: [HashAlgorithm]? = nil, registers: [Int]? = nil, snp: [String: JSON] = [:], tdx: [String: JSON] = [:],
        simulatedRoots: Set<[UInt8]> = []
    ) {
        self.platforms = platforms
        self.allowTPMRoot = allowTPMRoot
        self.tpmRoots = tpmRoots
        self.endorsementRoots = endorsementRoots
        self.allowDebugProfile = allowDebugProfile
        self.allowDevelopmentKey = allowDevelopmentKey
        self.minimumRelease = minimumRelease
        self.banks = banks
        self.registers = registers
        self.snp = snp
        self.tdx = tdx
        self.simulatedRoots = simulatedRoots
    }

    /// Whether an endorsement key counts: then only a session with its TPM shows what the key is worth.
    public var wantsActivation: Bool { !endorsementRoots.isEmpty && allowTPMRoot >= .certified }

    /// Confidential VMs only, production images signed by the owner.
    public static let production = AppraisalPolicy(platforms: [.snp, .tdx])

    /// Only by an explicit choice: a TPM that nobody vouches for and development keys are let through, and every verdict
    /// is marked `development`. Debug images are refused, as everywhere.
    public static let development = AppraisalPolicy(
        platforms: Set(Evidence.Platform.allCases), allowTPMRoot: .development, allowDevelopmentKey: true)

    /// Reads a document strictly.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        try self.init(json: try JSON(parsing: bytes, limit: 1 << 20))
    }

    public init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "policy")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "policy.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        self.init()
        for name in try Self.texts(fields.optional("platforms"), "policy.platforms") ?? [] {
            guard let platform = Evidence.Platform(rawValue: name) else {
                throw ParseError("form", field: "policy.platforms", offset: 0, "unknown platform \(name)")
            }
            platforms.insert(platform)
        }
        if let name = try fields.optionalString("allowTPMRoot") {
            guard let root = TPMRoot(rawValue: name) else {
                throw ParseError("form", field: "policy.allowTPMRoot", offset: 0, "unknown root \(name)")
            }
            allowTPMRoot = root
        }
        tpmRoots = try Self.certificates(fields.optional("tpmRoots"), "policy.tpmRoots")
        endorsementRoots = try Self.certificates(fields.optional("endorsementRoots"), "policy.endorsementRoots")
        allowDebugProfile = try fields.bool("allowDebugProfile", default: false)
        allowDevelopmentKey = try fields.bool("allowDevelopmentKey", default: false)
        minimumRelease = try fields.optionalInteger("minimumRelease") ?? 0
        guard minimumRelease >= 0 else {
            throw ParseError(
                "form", field: "policy.minimumRelease", offset: 0, "must not be negative, is \(minimumRelease)")
        }
        banks = try Self.texts(fields.optional("banks"), "policy.banks").map { names throws(ParseError) in
            var banks: [HashAlgorithm] = []
            for name in names {
                // SHA-1 is never judged.
                guard let bank = HashAlgorithm(rawValue: name), bank != .sha1 else {
                    throw ParseError("form", field: "policy.banks", offset: 0, "not a bank that is judged: \(name)")
                }
                banks.append(bank)
            }
            guard !banks.isEmpty else {
                throw ParseError("form", field: "policy.banks", offset: 0, "names no bank")
            }
            return banks
        }
        registers = try Self.registers(fields.optional("registers"))
        snp = try Self.demands(fields.optional("snp"), "policy.snp") { (json) throws(ParseError) in
            _ = try SNPPolicy(json)
        }
        tdx = try Self.demands(fields.optional("tdx"), "policy.tdx") { (json) throws(ParseError) in
            _ = try TDXPolicy(json)
        }
        for text in try Self.texts(fields.optional("simulatedRoots"), "policy.simulatedRoots") ?? [] {
            simulatedRoots.insert(try JSONFields.hex(.string(text), path: "policy.simulatedRoots", count: 32))
        }
        try fields.end()
    }

    public var json: JSON {
        .fields([
            "schema": .string(Self.schema),
            "platforms": .array(platforms.map(\.rawValue).sorted().map { .string($0) }),
            "allowTPMRoot": .string(allowTPMRoot.rawValue),
            "tpmRoots": Self.list(tpmRoots), "endorsementRoots": Self.list(endorsementRoots),
            "allowDebugProfile": .bool(allowDebugProfile),
            "allowDevelopmentKey": .bool(allowDevelopmentKey),
            "minimumRelease": .integer(Int128(minimumRelease)),
            "banks": banks.map { .array($0.map { .string($0.rawValue) }) },
            "registers": registers.map { .array($0.map { .integer(Int128($0)) }) },
            "snp": snp.isEmpty ? nil : .object(snp),
            "tdx": tdx.isEmpty ? nil : .object(tdx),
            "simulatedRoots": simulatedRoots.isEmpty
                ? nil : .array(simulatedRoots.map { Hex.encode($0) }.sorted().map { .string($0) }),
        ])
    }

    private static func list(_ roots: [[UInt8]]) -> JSON? {
        roots.isEmpty ? nil : .array(roots.map { .string(PEM.encode("CERTIFICATE", $0)) })
    }

    private static func certificates(_ json: JSON?, _ path: String) throws(ParseError) -> [[UInt8]] {
        var list: [[UInt8]] = []
        for pem in try texts(json, path) ?? [] {
            // The block and nothing around it: what a reader of certificates skips might be a root somebody counts on.
            guard let certificate = try? Certificate.read(Array(pem.utf8)),
                characters(pem) == characters(certificate.pem)
            else { throw ParseError("form", field: path, offset: 0, "not one PEM certificate and nothing else") }
            list.append(certificate.der)
        }
        return list
    }

    private static func texts(_ json: JSON?, _ path: String) throws(ParseError) -> [String]? {
        guard let json else { return nil }
        guard let list = json.array, list.count <= 64 else {
            throw ParseError("form", field: path, offset: 0, "must be an array of at most 64 strings")
        }
        let texts = list.compactMap(\.string)
        guard texts.count == list.count, Set(texts).count == texts.count else {
            throw ParseError("form", field: path, offset: 0, "must be an array of different strings")
        }
        return texts
    }

    private static func registers(_ json: JSON?) throws(ParseError) -> [Int]? {
        guard let json else { return nil }
        let indices = json.array?.compactMap(\.integer) ?? []
        guard let list = json.array, !list.isEmpty, indices.count == list.count, Set(indices).count == indices.count,
            indices.allSatisfy((0...23).contains)
        else {
            throw ParseError(
                "form", field: "policy.registers", offset: 0, "must be one or more different registers 0 to 23")
        }
        return indices.sorted()
    }

    /// Text without white space, to compare PEM whatever its lines are.
    private static func characters(_ text: String) -> [UInt8] {
        text.utf8.filter { ![0x20, 0x09, 0x0A, 0x0D].contains($0) }
    }

    /// The demands of one kind, which `read` finds well-formed: nobody learns of a mistake only from the first report.
    ///
    /// What composition sets itself must not be set by the document: it would silently widen what is accepted.
    private static func demands(
        _ json: JSON?, _ path: String, read: (JSON) throws(ParseError) -> Void
    ) throws(ParseError) -> [String: JSON] {
        guard let json else { return [:] }
        guard let object = json.object else { throw ParseError("form", field: path, offset: 0, "must be an object") }
        let composed = ["report_data", "measurement", "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3"]
        for key in composed where object[key] != nil {
            throw ParseError("form", field: "\(path).\(key)", offset: 0, "comes from the manifest, not from a policy")
        }
        do {
            try read(json)
        } catch {
            // These policies call themselves `policy`.
            let field = "\(path)\(error.field.dropFirst("policy".count))"
            throw ParseError(error.detail, field: field, offset: error.offset, error.message)
        }
        return object
    }
}
