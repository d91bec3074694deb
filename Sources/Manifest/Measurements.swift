import Bytes
import Crypto
import Measurement

/// The measurement document `nacre.measurements.v1`: what every register will hold on a machine that runs this image.
///
/// It is embedded whole in the manifest; `imageDigest` names it. Registers are read in typed form for the appraisal,
/// the document itself is kept as it stands, because its canonical form is what the digest covers.
public struct Measurements: Sendable, Equatable {
    public static let schema = "nacre.measurements.v1"

    /// What a TPM register is expected to hold.
    public enum Register: Sendable, Equatable {
        case value([UInt8])
        /// Cumulative values by boot phase (register 11), in the order in which the phases happen.
        case phases([Phase])
    }

    public struct Phase: Sendable, Equatable {
        public let name: String
        public let value: [UInt8]
    }

    /// One SEV-SNP launch configuration and its 48-byte launch digest.
    public struct Launch: Sendable, Equatable {
        public let vmm: String
        public let vcpus: Int
        public let vcpuType: String
        public let digest: [UInt8]
        public let boot: LaunchDigest.Boot
    }

    /// One measured event: which register it extends, its type, what was hashed, and the digests by bank.
    public struct EventPart: Sendable, Equatable {
        /// `tpm/11`, `tdx/rtmr1`, …
        public let register: String
        public let type: String
        /// The file or section in words, e.g. `.linux section`.
        public let what: String
        public let digests: [HashAlgorithm: [UInt8]]

        public init(register: String, type: String, what: String, digests: [HashAlgorithm: [UInt8]]) {
            self.register = register
            self.type = type
            self.what = what
            self.digests = digests
        }
    }

    /// The document, `imageDigest` included.
    public let json: JSON
    /// SHA-256 of the RFC 8785 form of the document without its field `imageDigest`.
    public let imageDigest: [UInt8]
    /// bank → register → expectation.
    public let tpm: [HashAlgorithm: [Int: Register]]
    public let snp: [Launch]
    /// `mrtd`, `rtmr0` … `rtmr3` → 48 bytes.
    public let tdx: [String: [UInt8]]
    public let events: [EventPart]

    /// Most events and launch digests that a document may list.
    public static let maximumEntries = 4096

    /// Reads the document strictly and recomputes `imageDigest`.
    ///
    /// Throws `parse-…` naming the field, or `manifest-image-digest` when the digest is not that of the document.
    public init(_ json: JSON) throws(Finding) {
        do {
            try self.init(reading: json)
        } catch {
            throw error.finding
        }
        let computed = try Self.digest(of: json)
        guard constantTimeEqual(computed, imageDigest) else {
            throw Finding(
                "manifest-image-digest", claim: "imageDigest", expected: Hex.encode(computed),
                actual: Hex.encode(imageDigest), source: "SHA-256 of the canonical measurement document",
                next: "the document was edited after it was made: take the original")
        }
    }

    /// The image's one identity: SHA-256 over the canonical document without its field `imageDigest`.
    public static func digest(of document: JSON) throws(Finding) -> [UInt8] {
        var fields = document.object ?? [:]
        fields["imageDigest"] = nil
        guard let canonical = JSON.object(fields).canonical else {
            throw Finding(
                "parse-form", claim: "measurements", expected: "integers within ±2^53 and no fractions",
                actual: "a number without a canonical form", source: "RFC 8785")
        }
        return HashAlgorithm.sha256.hash(canonical)
    }

    private init(reading json: JSON) throws(ParseError) {
        var fields = try JSONFields(json, path: "measurements")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError(
                "version", field: "measurements.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        self.json = json
        imageDigest = try fields.hex("imageDigest", count: 32)
        events = try Self.events(fields.optional("events"))
        tpm = try Self.banks(fields.optional("tpm"), events)
        snp = try Self.launches(fields.optional("snp"))
        tdx = try Self.registers(fields.optional("tdx"))
        try Self.checkUnpredicted(fields.optional("unpredicted"))
        try fields.end()
    }

    /// The expectation for one register of one bank at the end of `phase` (phases matter to register 11 only).
    public func expected(_ bank: HashAlgorithm, _ index: Int, phase: String?) -> [UInt8]? {
        switch tpm[bank]?[index] {
        case .value(let value): value
        case .phases(let phases): phases.first { $0.name == phase }?.value
        case nil: nil
        }
    }

    /// The last phase that a running node reaches: what comes with shutting down is left out.
    public var answeringPhase: String? { phases.last { !["shutdown", "final"].contains($0) } }

    /// Phases named by any bank, in the order in which they happen.
    public var phases: [String] {
        for bank in tpm.values {
            for case .phases(let phases) in bank.values { return phases.map(\.name) }
        }
        return []
    }
}

extension Measurements {
    private static func limit(_ count: Int, _ field: String) throws(ParseError) {
        guard count <= maximumEntries else {
            throw ParseError("length", field: field, offset: 0, "\(count) entries, at most \(maximumEntries) are read")
        }
    }

    private static func events(_ json: JSON?) throws(ParseError) -> [EventPart] {
        guard let json else { return [] }
        guard let list = json.array else {
            throw ParseError("form", field: "measurements.events", offset: 0, "must be an array")
        }
        try limit(list.count, "measurements.events")
        var events: [EventPart] = []
        for entry in list {
            var part = try JSONFields(entry, path: "measurements.events[\(events.count)]")
            var digests: [HashAlgorithm: [UInt8]] = [:]
            for (name, value) in try part.required("digests").object ?? [:] {
                let path = "measurements.events[\(events.count)].digests.\(name)"
                guard let bank = HashAlgorithm(rawValue: name) else {
                    throw ParseError("form", field: path, offset: 0, "unknown bank")
                }
                digests[bank] = try JSONFields.hex(value, path: path, count: bank.size)
            }
            events.append(
                EventPart(
                    register: try part.string("register"), type: try part.string("type"),
                    what: try part.string("what"), digests: digests))
            try part.end()
        }
        return events
    }

    private static func banks(
        _ json: JSON?, _ events: [EventPart]
    ) throws(ParseError) -> [HashAlgorithm: [Int: Register]] {
        guard let json else { return [:] }
        guard let object = json.object else {
            throw ParseError("form", field: "measurements.tpm", offset: 0, "must be an object")
        }
        var banks: [HashAlgorithm: [Int: Register]] = [:]
        for (name, values) in object {
            guard let bank = HashAlgorithm(rawValue: name), bank != .sha1, let values = values.object else {
                throw ParseError("form", field: "measurements.tpm.\(name)", offset: 0, "not a bank that is judged")
            }
            var registers: [Int: Register] = [:]
            for (key, value) in values {
                let path = "measurements.tpm.\(name).\(key)"
                guard let index = Int(key), (0...23).contains(index), String(index) == key else {
                    throw ParseError("form", field: path, offset: 0, "not a register 0 to 23")
                }
                if let phases = value.object {
                    registers[index] = .phases(try order(phases, bank, index, events, path))
                } else {
                    registers[index] = .value(try JSONFields.hex(value, path: path, count: bank.size))
                }
            }
            guard !registers.isEmpty else {
                throw ParseError("form", field: "measurements.tpm.\(name)", offset: 0, "a bank without registers")
            }
            banks[bank] = registers
        }
        return banks
    }

    /// JSON objects have no order; the events of the register do. A phase whose value no prefix of the events yields
    /// would be a claim that nothing explains, so it is refused.
    private static func order(
        _ phases: [String: JSON], _ bank: HashAlgorithm, _ index: Int, _ events: [EventPart], _ path: String
    ) throws(ParseError) -> [Phase] {
        var left: [[UInt8]: String] = [:]
        for (name, json) in phases {
            let value = try JSONFields.hex(json, path: "\(path).\(name)", count: bank.size)
            guard left.updateValue(name, forKey: value) == nil else {
                throw ParseError("form", field: "\(path).\(name)", offset: 0, "two phases with one value")
            }
        }
        var ordered: [Phase] = []
        var register = [UInt8](repeating: 0, count: bank.size)
        for event in events where event.register == "tpm/\(index)" {
            guard let digest = event.digests[bank] else { continue }
            register = bank.hash(register + digest)
            if let name = left.removeValue(forKey: register) { ordered.append(Phase(name: name, value: register)) }
        }
        if let name = left.values.min() {
            throw ParseError("form", field: "\(path).\(name)", offset: 0, "no run of the listed events has this value")
        }
        return ordered
    }

    private static func launches(_ json: JSON?) throws(ParseError) -> [Launch] {
        guard let json else { return [] }
        guard let list = json.array else {
            throw ParseError("form", field: "measurements.snp", offset: 0, "must be an array")
        }
        try limit(list.count, "measurements.snp")
        var launches: [Launch] = []
        for entry in list {
            var part = try JSONFields(entry, path: "measurements.snp[\(launches.count)]")
            launches.append(
                Launch(
                    vmm: try part.string("vmm"), vcpus: try part.integer("vcpus"),
                    vcpuType: try part.string("vcpuType"), digest: try part.hex("launchDigest", count: 48),
                    boot: try boot(part.optionalString("boot"), "measurements.snp[\(launches.count)].boot")))
            try part.end()
        }
        return launches
    }

    /// Absent: the digest covers the firmware only.
    private static func boot(_ name: String?, _ path: String) throws(ParseError) -> LaunchDigest.Boot {
        guard let name else { return .disk }
        guard let boot = LaunchDigest.Boot(rawValue: name) else {
            throw ParseError("form", field: path, offset: 0, "must be disk or direct")
        }
        return boot
    }

    private static func registers(_ json: JSON?) throws(ParseError) -> [String: [UInt8]] {
        guard let json else { return [:] }
        var part = try JSONFields(json, path: "measurements.tdx")
        var registers: [String: [UInt8]] = [:]
        for name in ["mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"] {
            registers[name] = try part.optionalHex(name, count: 48)
        }
        try part.end()
        return registers
    }

    /// `unpredicted` is for people: register → the input that was missing. Only its form is checked.
    private static func checkUnpredicted(_ json: JSON?) throws(ParseError) {
        guard let json else { return }
        guard let values = json.object?.values, values.allSatisfy({ $0.string != nil }) else {
            throw ParseError("form", field: "measurements.unpredicted", offset: 0, "must map registers to text")
        }
        try limit(values.count, "measurements.unpredicted")
    }
}
