import Bytes
import Crypto

/// What a node hands out so that anybody can judge it now or later: `nacre.evidence.v1`.
///
/// All of it is claims. Nothing here is believed before `Appraisal` has checked it.
public struct Evidence: Sendable, Equatable {
    public static let schema = "nacre.evidence.v1"
    /// Largest document that is read, bytes.
    public static let maximumSize = 32 << 20
    /// Most stages that are read.
    public static let maximumStages = 64
    /// Most certificates of an attestation key that are read.
    public static let maximumCertificates = 8

    /// What backs the claims, as the node saw it.
    public enum Platform: String, Sendable, CaseIterable {
        /// A TPM only: a host-provided vTPM or a discrete one.
        case tpm
        case snp = "sev-snp"
        case tdx
    }

    /// TPM 2.0: one quote over every register named, with the logs that explain them.
    public struct TPMEvidence: Sendable, Equatable {
        /// TPMS_ATTEST and TPMT_SIGNATURE as the TPM returned them.
        public var attest: [UInt8]
        public var signature: [UInt8]
        /// TPM2B_PUBLIC of the attestation key.
        public var attestationKey: [UInt8]
        /// Certificates for the attestation key, DER, leaf first; empty for a key that nobody vouches for.
        public var certificates: [[UInt8]]
        /// The TPM's endorsement key, where the TPM has a certificate for it.
        public var endorsementKey: EndorsementKey?
        /// bank → register index → value.
        public var registers: [HashAlgorithm: [Int: [UInt8]]]
        /// TCG crypto-agile log of the firmware and boot stub.
        public var eventLog: [UInt8]
        /// systemd's userspace measurement log (JSON text sequence), which also carries Nacre's own phases.
        public var userspaceLog: [UInt8]

        public init(
            attest: [UInt8], signature: [UInt8], attestationKey: [UInt8], certificates: [[UInt8]] = [],
            endorsementKey: EndorsementKey? = nil, registers: [HashAlgorithm: [Int: [UInt8]]], eventLog: [UInt8],
            userspaceLog: [UInt8]
        ) {
            self.attest = attest
            self.signature = signature
            self.attestationKey = attestationKey
            self.certificates = certificates
            self.endorsementKey = endorsementKey
            self.registers = registers
            self.eventLog = eventLog
            self.userspaceLog = userspaceLog
        }
    }

    /// A key that the TPM's vendor vouches for (TCG EK Credential Profile 2.6). It signs nothing: what it receives shows
    /// which attestation key is in the same TPM.
    public struct EndorsementKey: Sendable, Equatable {
        /// X.509, DER.
        public var certificate: [UInt8]
        /// Certificates of authorities that the TPM brings, DER.
        public var chain: [[UInt8]]
        /// TPM2B_PUBLIC.
        public var publicArea: [UInt8]

        public init(certificate: [UInt8], chain: [[UInt8]], publicArea: [UInt8]) {
            self.certificate = certificate
            self.chain = chain
            self.publicArea = publicArea
        }
    }

    /// A hardware report as configfs-tsm returned it.
    public struct TEEEvidence: Sendable, Equatable {
        /// SEV-SNP report or TDX quote (`outblob`).
        public var report: [UInt8]
        /// SEV-SNP certificate table (`auxblob`); empty for TDX.
        public var auxiliary: [UInt8]
        /// CCEL event log, where the firmware left one.
        public var eventLog: [UInt8]

        public init(report: [UInt8], auxiliary: [UInt8], eventLog: [UInt8]) {
            self.report = report
            self.auxiliary = auxiliary
            self.eventLog = eventLog
        }
    }

    /// A named step of the boot and when it was reached, seconds since the kernel started (firmware: before it).
    public struct Stage: Sendable, Equatable {
        public var name: String
        public var milliseconds: Int

        public init(name: String, milliseconds: Int) {
            self.name = name
            self.milliseconds = milliseconds
        }
    }

    public var platform: Platform
    /// The caller's nonce, 16 to 32 bytes: `extraData` of the TPM quote.
    public var nonce: [UInt8]
    public var tpm: TPMEvidence?
    public var tee: TEEEvidence?
    /// Collateral for offline judgement (`nacre.collateral.v1`); added by `nacre evidence bundle`.
    public var collateral: JSON?
    /// The image the node says it runs; a hint that saves a search, never a proof.
    public var imageDigest: [UInt8]?
    /// The cluster the node says it is in: registers show whether that is so.
    public var cluster: ClusterIdentity?
    /// Unauthenticated timings for people.
    public var stages: [Stage]

    public init(
        platform: Platform, nonce: [UInt8], tpm: TPMEvidence? = nil, tee: TEEEvidence? = nil, collateral: JSON? = nil,
        imageDigest: [UInt8]? = nil, cluster: ClusterIdentity? = nil, stages: [Stage] = []
    ) {
        self.platform = platform
        self.nonce = nonce
        self.tpm = tpm
        self.tee = tee
        self.collateral = collateral
        self.imageDigest = imageDigest
        self.cluster = cluster
        self.stages = stages
    }

    /// Report data that binds a hardware report to this nonce and to the TPM's attestation key:
    /// SHA-512 over length-prefixed (u32, big-endian) {"nacre/v1/evidence", nonce, attestation key or empty}.
    public static func reportData(nonce: [UInt8], attestationKey: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        for part in [Array("nacre/v1/evidence".utf8), nonce, attestationKey] {
            writer.be(UInt32(clamping: part.count))
            writer.append(part)
        }
        return HashAlgorithm.sha512.hash(writer.bytes)
    }
}

extension Evidence {
    public var json: JSON {
        .fields([
            "schema": .string(Self.schema),
            "platform": .string(platform.rawValue),
            "nonce": .hex(nonce),
            "tpm": tpm?.json,
            "tee": tee.map { tee in
                .fields([
                    "report": .base64(tee.report), "auxiliary": .base64(tee.auxiliary),
                    "eventLog": .base64(tee.eventLog),
                ])
            },
            "collateral": collateral,
            "imageDigest": imageDigest.map { .hex($0) },
            "cluster": cluster?.json,
            "stages": .array(
                stages.map { ["name": .string($0.name), "milliseconds": .integer(Int128($0.milliseconds))] }),
        ])
    }

    /// Reads a document strictly: unknown fields, another schema and wrong types are refused with their path.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = EvidenceReader(bytes)
        if bytes.count <= Self.maximumSize, let evidence = reader.read() {
            self = evidence
            return
        }
        try self.init(json: try JSON(parsing: bytes, limit: Self.maximumSize))
    }

    public init(json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "evidence")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "evidence.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        let name = try fields.string("platform")
        guard let platform = Platform(rawValue: name) else {
            throw ParseError("form", field: "evidence.platform", offset: 0, "unknown platform \(name)")
        }
        self.platform = platform
        nonce = try fields.hex("nonce")
        tpm = nil
        if let json = fields.optional("tpm") { tpm = try TPMEvidence(json: json) }
        tee = nil
        if let json = fields.optional("tee") {
            var part = try JSONFields(json, path: "evidence.tee")
            tee = TEEEvidence(
                report: try part.base64("report"), auxiliary: try part.base64("auxiliary"),
                eventLog: try part.base64("eventLog"))
            try part.end()
        }
        if platform == .tpm, tee != nil {
            throw ParseError("form", field: "evidence.tee", offset: 0, "a report that platform \(name) does not have")
        }
        let collateral = fields.optional("collateral")
        if let collateral, collateral.object == nil {
            throw ParseError("form", field: "evidence.collateral", offset: 0, "must be an object")
        }
        self.collateral = collateral
        imageDigest = try fields.optionalHex("imageDigest", count: 32)
        cluster = nil
        if let json = fields.optional("cluster") {
            cluster = try ClusterIdentity(json: json, path: "evidence.cluster")
        }
        stages = []
        for entry in try Self.list(&fields, "stages", path: "evidence", limit: Self.maximumStages) {
            var part = try JSONFields(entry, path: "evidence.stages[]")
            stages.append(Stage(name: try part.string("name"), milliseconds: try part.integer("milliseconds")))
            try part.end()
        }
        try fields.end()
    }
}

extension Evidence {
    /// An array of at most `limit` entries: more are refused, never cut off.
    fileprivate static func list(
        _ fields: inout JSONFields, _ key: String, path: String, limit: Int
    ) throws(ParseError) -> [JSON] {
        let entries = try fields.array(key)
        guard entries.count <= limit else {
            throw ParseError("range", field: "\(path).\(key)", offset: 0, "\(entries.count) entries, at most \(limit)")
        }
        return entries
    }

    /// At most `maximumCertificates` in base64.
    fileprivate static func certificates(
        _ fields: inout JSONFields, _ key: String, path: String
    ) throws(ParseError) -> [[UInt8]] {
        var certificates: [[UInt8]] = []
        for entry in try list(&fields, key, path: path, limit: maximumCertificates) {
            guard let der = entry.string.flatMap({ Base64.decode($0) }) else {
                throw ParseError("form", field: "\(path).\(key)", offset: 0, "must be base64 text")
            }
            certificates.append(der)
        }
        return certificates
    }
}

extension Evidence.EndorsementKey {
    var json: JSON {
        [
            "certificate": .base64(certificate), "chain": .array(chain.map { .base64($0) }),
            "public": .base64(publicArea),
        ]
    }

    init(json: JSON) throws(ParseError) {
        let path = "evidence.tpm.endorsementKey"
        var fields = try JSONFields(json, path: path)
        certificate = try fields.base64("certificate")
        chain = try Evidence.certificates(&fields, "chain", path: path)
        publicArea = try fields.base64("public")
        for (name, part) in [("certificate", certificate), ("public", publicArea)] + chain.map({ ("chain", $0) }) {
            guard !part.isEmpty, part.count <= Certificate.maximumSize else {
                throw ParseError("range", field: "\(path).\(name)", offset: 0, "is \(part.count) bytes")
            }
        }
        try fields.end()
    }
}

extension Evidence.TPMEvidence {
    var json: JSON {
        var banks: [String: JSON] = [:]
        for (bank, values) in registers {
            var object: [String: JSON] = [:]
            for (index, value) in values { object[String(index)] = .hex(value) }
            banks[bank.rawValue] = .object(object)
        }
        return .fields([
            "attest": .base64(attest), "signature": .base64(signature), "attestationKey": .base64(attestationKey),
            "certificates": .array(certificates.map { .base64($0) }), "endorsementKey": endorsementKey?.json,
            "pcrs": .object(banks),
            "eventLog": .base64(eventLog), "userspaceLog": .base64(userspaceLog),
        ])
    }

    init(json: JSON) throws(ParseError) {
        let path = "evidence.tpm"
        var fields = try JSONFields(json, path: path)
        attest = try fields.base64("attest")
        signature = try fields.base64("signature")
        attestationKey = try fields.base64("attestationKey")
        certificates = try Evidence.certificates(&fields, "certificates", path: path)
        endorsementKey = nil
        if let json = fields.optional("endorsementKey") { endorsementKey = try Evidence.EndorsementKey(json: json) }
        registers = [:]
        guard let banks = try fields.required("pcrs").object else {
            throw ParseError("form", field: "\(path).pcrs", offset: 0, "must be an object")
        }
        for (name, values) in banks {
            guard let bank = HashAlgorithm(rawValue: name), let values = values.object else {
                throw ParseError("form", field: "\(path).pcrs.\(name)", offset: 0, "not a bank of registers")
            }
            var registers: [Int: [UInt8]] = [:]
            for (key, value) in values {
                guard let index = Int(key), (0...23).contains(index), String(index) == key else {
                    throw ParseError("form", field: "\(path).pcrs.\(name).\(key)", offset: 0, "not a register 0 to 23")
                }
                registers[index] = try JSONFields.hex(value, path: "\(path).pcrs.\(name).\(key)", count: bank.size)
            }
            self.registers[bank] = registers
        }
        eventLog = try fields.base64("eventLog")
        userspaceLog = try fields.base64("userspaceLog")
        try fields.end()
    }
}
