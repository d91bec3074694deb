import Bytes

/// One line of systemd's userspace measurement log: a JSON text sequence (RFC 7464) of records in the shape of the TCG
/// Canonical Event Log's JSON encoding, with systemd's own content type.
public struct PhaseRecord: Sendable {
    /// The register that boot phases are extended into, after the UKI's sections (UAPI.7, "PCR 11").
    public static let register: UInt8 = 11
    /// Where systemd keeps the log.
    public static let logPath = "/run/log/systemd/tpm2-measure.log"

    /// `enter-initrd` and so on; its bytes without a terminating NUL are what was hashed.
    public let phase: String
    /// The register extended, and what kind of event the record calls it.
    public let index: UInt8
    public let eventType: String
    /// One entry for each active bank.
    public let digests: [(bank: String, digest: [UInt8])]
    /// `/proc/sys/kernel/random/boot_id` without dashes.
    public let bootID: String
    /// Microseconds of CLOCK_BOOTTIME.
    public let timestamp: UInt64

    public init(
        phase: String, register: UInt8 = Self.register, eventType: String = "phase",
        digests: [(bank: String, digest: [UInt8])], bootID: String, timestamp: UInt64
    ) {
        self.phase = phase
        index = register
        self.eventType = eventType
        self.digests = digests
        self.bootID = bootID
        self.timestamp = timestamp
    }

    /// Record separator, JSON, line feed.
    public var bytes: [UInt8] {
        let json = JSON.fields([
            "pcr": .integer(Int128(index)),
            "digests": .array(digests.map { ["hashAlg": .string($0.bank), "digest": .hex($0.digest)] }),
            "content_type": "systemd",
            "content": [
                "string": .string(phase), "bootId": .string(bootID), "timestamp": .integer(Int128(timestamp)),
                "eventType": .string(eventType),
            ],
        ])
        return [0x1E] + Array(json.compact.utf8) + [0x0A]
    }
}
