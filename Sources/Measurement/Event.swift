import Bytes
import Crypto

/// A register that boots are measured into.
public enum Register: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// TPM PCR by index.
    case tpm(Int)
    /// TDX RTMR by index.
    case rtmr(Int)

    /// `tpm/11`, `tdx/rtmr1`: the name in documents and on the command line.
    public var description: String {
        switch self {
        case .tpm(let index): "tpm/\(index)"
        case .rtmr(let index): "tdx/rtmr\(index)"
        }
    }

    public static func < (one: Register, other: Register) -> Bool {
        switch (one, other) {
        case (.tpm(let first), .tpm(let second)), (.rtmr(let first), .rtmr(let second)): first < second
        case (.tpm, .rtmr): true
        case (.rtmr, .tpm): false
        }
    }
}

/// TCG PC Client Platform Firmware Profile 1.06 §10.4.1: the event types that predictions use, by their names there.
public enum EventType: String, Sendable, CaseIterable {
    case postCode = "EV_POST_CODE"
    case separator = "EV_SEPARATOR"
    case eventTag = "EV_EVENT_TAG"
    case crtmVersion = "EV_S_CRTM_VERSION"
    case ipl = "EV_IPL"
    case variableDriverConfig = "EV_EFI_VARIABLE_DRIVER_CONFIG"
    case bootServicesApplication = "EV_EFI_BOOT_SERVICES_APPLICATION"
    case gpt = "EV_EFI_GPT_EVENT"
    case action = "EV_EFI_ACTION"
    case firmwareBlob = "EV_EFI_PLATFORM_FIRMWARE_BLOB"
    case variableAuthority = "EV_EFI_VARIABLE_AUTHORITY"
    /// Extended by user space (systemd-pcrextend, the bootstrapper); such events are in no firmware log.
    case phase = "systemd-phase"

    /// The number in an event log; `nil` for `phase`.
    public var code: UInt32? {
        switch self {
        case .postCode: 0x1
        case .separator: 0x4
        case .eventTag: 0x6
        case .crtmVersion: 0x8
        case .ipl: 0xD
        case .variableDriverConfig: 0x8000_0001
        case .bootServicesApplication: 0x8000_0003
        case .gpt: 0x8000_0006
        case .action: 0x8000_0007
        case .firmwareBlob: 0x8000_0008
        case .variableAuthority: 0x8000_00E0
        case .phase: nil
        }
    }
}

/// One measurement that a boot will make: where it goes and which bytes it hashes.
public struct PredictedEvent: Sendable {
    public let register: Register
    public let type: EventType
    /// What was hashed, for people: "data of section .linux".
    public let what: String
    public let content: Content

    public enum Content: Sendable {
        case bytes(ByteSource)
        /// Digests that somebody else computed, where the bytes are not at hand.
        case digests([HashAlgorithm: [UInt8]])
    }

    public init(_ register: Register, _ type: EventType, _ what: String, _ source: ByteSource) {
        (self.register, self.type, self.what, content) = (register, type, what, .bytes(source))
    }

    public init(_ register: Register, _ type: EventType, _ what: String, _ bytes: [UInt8]) {
        self.init(register, type, what, ByteSource(bytes))
    }

    public init(_ register: Register, _ type: EventType, _ what: String, digests: [HashAlgorithm: [UInt8]]) {
        (self.register, self.type, self.what, content) = (register, type, what, .digests(digests))
    }
}

/// A predicted event with its digests.
public struct Event: Sendable, Equatable {
    public let register: Register
    public let type: String
    public let what: String
    public let digests: [HashAlgorithm: [UInt8]]

    public init(register: Register, type: String, what: String, digests: [HashAlgorithm: [UInt8]]) {
        self.register = register
        self.type = type
        self.what = what
        self.digests = digests
    }
}

/// The value of a register after events: `value = H(value ‖ digest)` from zero (TPM 2.0 Part 1 §17.2).
public func replay(_ digests: some Sequence<[UInt8]>, _ algorithm: HashAlgorithm, from start: [UInt8]? = nil) -> [UInt8]
{
    digests.reduce(start ?? [UInt8](repeating: 0, count: algorithm.size)) { algorithm.hash($0 + $1) }
}
