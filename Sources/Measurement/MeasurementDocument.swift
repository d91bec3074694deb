import Bytes
import Crypto

/// `nacre.measurements.v1`: every register that could be predicted, with its event parts, and what could not be.
///
/// `docs/measurements.md` describes the fields and what `imageDigest` covers.
public struct MeasurementDocument: Sendable {
    public static let schema = "nacre.measurements.v1"

    /// One SEV-SNP launch and its digest.
    public struct Launch: Sendable, Equatable {
        public let host: LaunchDigest.Host
        public let vcpus: Int
        /// QEMU's CPU model; `any` on hosts whose launch does not depend on it.
        public let vcpuType: String
        public let digest: [UInt8]
        public let boot: LaunchDigest.Boot

        public init(
            host: LaunchDigest.Host, vcpus: Int, vcpuType: String, digest: [UInt8], boot: LaunchDigest.Boot = .disk
        ) {
            self.host = host
            self.vcpus = vcpus
            self.vcpuType = vcpuType
            self.digest = digest
            self.boot = boot
        }
    }

    /// A register's content at one moment: the name of a phase, or `nil` for registers without phases.
    public struct Value: Sendable, Equatable {
        public let phase: String?
        public let value: [UInt8]
    }

    public let banks: [HashAlgorithm]
    /// By bank, then PCR; PCR 11 has one value per phase, in order.
    public let tpm: [HashAlgorithm: [Int: [Value]]]
    public let launches: [Launch]
    /// `mrtd`, `rtmr1`, … → 48 bytes.
    public let tdx: [String: [UInt8]]
    public let events: [Event]
    /// Register, `snp` or `tdx/mrtd` → the input that is missing.
    public let unpredicted: [String: String]
    /// The whole document, `imageDigest` included.
    public let json: JSON
    public let imageDigest: [UInt8]

    /// - Parameters:
    ///   - events: those of `prediction` with digests of all `banks`, in its order.
    ///   - mrtd: where the firmware supports TDX.
    ///   - missing: further names with the input they lack.
    public init(
        _ prediction: BootPrediction, events: [Event], banks: [HashAlgorithm], launches: [Launch], mrtd: [UInt8]?,
        missing: [String: String]
    ) {
        self.banks = banks
        self.launches = launches
        var tpm: [HashAlgorithm: [Int: [Value]]] = [:]
        for bank in banks {
            for case .tpm(let index) in prediction.predicted {
                tpm[bank, default: [:]][index] = Self.values(of: .tpm(index), bank, events)
            }
        }
        self.tpm = tpm

        var unpredicted = missing
        for (register, input) in prediction.unpredicted { unpredicted["\(register)"] = input }
        var listed = events.filter { prediction.predicted.contains($0.register) }
        var tdx: [String: [UInt8]] = [:]
        tdx["mrtd"] = mrtd
        let runtime = prediction.runtimeRegisters(events)
        for index in 0...3 {
            if let input = runtime.unpredicted[.rtmr(index)] {
                unpredicted["tdx/rtmr\(index)"] = input
            } else {
                let own = runtime.events.filter { $0.register == .rtmr(index) }
                tdx["rtmr\(index)"] = replay(own.compactMap { $0.digests[.sha384] }, .sha384)
                listed += own
            }
        }
        self.tdx = tdx
        self.events = listed
        self.unpredicted = unpredicted

        var fields = Self.fields(tpm, launches, tdx, listed, unpredicted)
        // Strings and integers only: there always is a canonical form.
        imageDigest = HashAlgorithm.sha256.hash(JSON.object(fields).canonical ?? [])
        fields["imageDigest"] = .hex(imageDigest)
        json = .object(fields)
    }

    /// The register after all its events; after each phase where it has phases.
    private static func values(of register: Register, _ bank: HashAlgorithm, _ events: [Event]) -> [Value] {
        var value = [UInt8](repeating: 0, count: bank.size)
        var phases: [Value] = []
        for event in events where event.register == register {
            guard let digest = event.digests[bank] else { continue }
            value = replay([digest], bank, from: value)
            if event.type == EventType.phase.rawValue { phases.append(Value(phase: event.what, value: value)) }
        }
        return phases.isEmpty ? [Value(phase: nil, value: value)] : phases
    }

    private static func fields(
        _ tpm: [HashAlgorithm: [Int: [Value]]], _ launches: [Launch], _ tdx: [String: [UInt8]], _ events: [Event],
        _ unpredicted: [String: String]
    ) -> [String: JSON] {
        func digests(_ digests: [HashAlgorithm: [UInt8]]) -> JSON {
            .object(Dictionary(uniqueKeysWithValues: digests.map { ($0.key.rawValue, JSON.hex($0.value)) }))
        }
        var banks: [String: JSON] = [:]
        for (bank, registers) in tpm {
            var values: [String: JSON] = [:]
            for (index, own) in registers {
                let phases = own.compactMap { value in value.phase.map { ($0, JSON.hex(value.value)) } }
                values["\(index)"] =
                    phases.isEmpty
                    ? .hex(own.first?.value ?? []) : .object(Dictionary(phases, uniquingKeysWith: { $1 }))
            }
            banks[bank.rawValue] = .object(values)
        }
        return [
            "schema": .string(schema),
            "tpm": .object(banks),
            "snp": .array(
                launches.map {
                    .fields([
                        "vmm": .string($0.host.rawValue), "vcpus": .integer(Int128($0.vcpus)),
                        "vcpuType": .string($0.vcpuType), "launchDigest": .hex($0.digest),
                        "boot": $0.boot == .direct ? .string($0.boot.rawValue) : nil,
                    ])
                }),
            "tdx": .object(tdx.mapValues { .hex($0) }),
            "events": .array(
                events.map {
                    [
                        "register": .string("\($0.register)"), "type": .string($0.type), "what": .string($0.what),
                        "digests": digests($0.digests),
                    ]
                }),
            "unpredicted": .object(unpredicted.mapValues { .string($0) }),
        ]
    }
}
