import Bytes

/// The guest policy (SEV-SNP ABI, "Guest policy"): what the owner demanded at launch and the firmware enforces.
public struct GuestPolicy: Sendable, Equatable, Hashable {
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    private func bit(_ index: UInt64) -> Bool { rawValue >> index & 1 == 1 }

    public var abiMinor: UInt8 { UInt8(truncatingIfNeeded: rawValue) }
    public var abiMajor: UInt8 { UInt8(truncatingIfNeeded: rawValue >> 8) }
    /// The guest may run where simultaneous multithreading is on.
    public var allowsSMT: Bool { bit(16) }
    /// A migration agent may be associated.
    public var allowsMigrationAgent: Bool { bit(18) }
    /// The host may read the guest's memory.
    public var allowsDebug: Bool { bit(19) }
    /// The guest runs on one socket only.
    public var requiresSingleSocket: Bool { bit(20) }
    /// CXL memory and devices may be used.
    public var allowsCXL: Bool { bit(21) }
    public var requiresAES256XTS: Bool { bit(22) }
    public var requiresRAPLDisabled: Bool { bit(23) }
    public var requiresCiphertextHiding: Bool { bit(24) }
    public var disablesPageSwap: Bool { bit(25) }

    static let mustBeOne: UInt64 = 1 << 17
    static let mustBeZero = ~UInt64(0) << 26
}

/// PLATFORM_INFO: what the platform has switched on. Bits beyond the known ones are kept and never refused: real
/// Turin machines set bit 6 before any specification named it.
public struct PlatformInfo: Sendable, Equatable, Hashable {
    public var rawValue: UInt64

    public init(rawValue: UInt64) { self.rawValue = rawValue }

    private func bit(_ index: UInt64) -> Bool { rawValue >> index & 1 == 1 }

    public var smtEnabled: Bool { bit(0) }
    public var tsmeEnabled: Bool { bit(1) }
    public var eccEnabled: Bool { bit(2) }
    public var raplDisabled: Bool { bit(3) }
    public var ciphertextHidingEnabled: Bool { bit(4) }
    /// The firmware has checked that no two addresses reach the same memory.
    public var aliasCheckComplete: Bool { bit(5) }
    public var tioEnabled: Bool { bit(7) }
    /// Bits no specification known here names.
    public var unknownBits: UInt64 { rawValue & ~0xBF }
}

/// The key that signed a report (bits 4:2 of the flags at 0x48).
public enum SigningKey: UInt32, Sendable, Equatable {
    case vcek = 0
    case vlek = 1
    /// The report is not signed and proves nothing.
    case none = 7
}

/// Version of the SEV-SNP firmware, compared as major, minor, build.
public struct FirmwareVersion: Sendable, Equatable, Hashable, Comparable, CustomStringConvertible {
    public var major: UInt8
    public var minor: UInt8
    public var build: UInt8

    public init(major: UInt8, minor: UInt8, build: UInt8) {
        self.major = major
        self.minor = minor
        self.build = build
    }

    public static func < (left: FirmwareVersion, right: FirmwareVersion) -> Bool {
        (left.major, left.minor, left.build) < (right.major, right.minor, right.build)
    }

    public var description: String { "\(major).\(minor).\(build)" }
}

/// CPUID family, model and stepping, combined (base plus extended); versions 3 and later of the report.
public struct ProcessorID: Sendable, Equatable, Hashable {
    public var family: UInt8
    public var model: UInt8
    public var stepping: UInt8

    public init(family: UInt8, model: UInt8, stepping: UInt8) {
        self.family = family
        self.model = model
        self.stepping = stepping
    }

    public var product: Product? { Product(family: family, model: model) }
}

/// The signature of a report: r and s, little-endian in 72-byte fields.
public struct ReportSignature: Sendable, Equatable, Hashable {
    /// 72 bytes each, little-endian.
    public var r: [UInt8]
    public var s: [UInt8]

    /// An absent signature: all zero.
    public static let zero = ReportSignature(
        r: [UInt8](repeating: 0, count: 72), s: [UInt8](repeating: 0, count: 72))

    public init(r: [UInt8], s: [UInt8]) {
        self.r = r
        self.s = s
    }

    /// From r ‖ s, 48 bytes each, big-endian.
    public init(bigEndian raw: [UInt8]) {
        func field(_ part: some BidirectionalCollection<UInt8>) -> [UInt8] {
            let digits = Array(part.reversed().prefix(72))
            return digits + [UInt8](repeating: 0, count: 72 - digits.count)
        }
        self.init(r: field(raw.prefix(48)), s: field(raw.dropFirst(48)))
    }

    /// Order of the group of P-384, big-endian.
    static let order: [UInt8] =
        [UInt8](repeating: 0xFF, count: 24) + [
            0xC7, 0x63, 0x4D, 0x81, 0xF4, 0x37, 0x2D, 0xDF, 0x58, 0x1A, 0x0D, 0xB2,
            0x48, 0xB0, 0xA7, 0x7A, 0xEC, 0xEC, 0x19, 0x6A, 0xCC, 0xC5, 0x29, 0x73,
        ]

    /// r ‖ s, 48 bytes each, big-endian; `nil` unless both are in 1 ..< n.
    public var bigEndian: [UInt8]? {
        var raw: [UInt8] = []
        raw.reserveCapacity(96)
        for part in [r, s] {
            guard part.count == 72, part[48...].allSatisfy({ $0 == 0 }) else { return nil }
            let number = Array(part[..<48].reversed())
            guard number.contains(where: { $0 != 0 }), number.lexicographicallyPrecedes(Self.order) else { return nil }
            raw += number
        }
        return raw
    }
}
