/// A block device as sysfs describes it in `/sys/class/block/<name>/uevent` (lines of `KEY=value`).
public struct BlockDevice: Equatable, Sendable {
    public let major: UInt32
    public let minor: UInt32
    /// GPT partition UUID, lower case; `nil` for whole disks and other tables. The kernel has parsed the table itself
    /// and reports this since 6.13, so the initrd does not parse it a second time.
    public let partitionUUID: String?

    /// `nil` when the device numbers are missing.
    public init?(uevent: String) {
        var fields: [Substring: Substring] = [:]
        for line in uevent.split(separator: "\n") {
            guard let equals = line.firstIndex(of: "=") else { continue }
            fields[line[..<equals]] = line[line.index(after: equals)...]
        }
        guard let major = fields["MAJOR"].flatMap({ UInt32($0) }), let minor = fields["MINOR"].flatMap({ UInt32($0) })
        else { return nil }
        self.major = major
        self.minor = minor
        partitionUUID = fields["PARTUUID"].map { $0.lowercased() }
    }

    /// How device-mapper tables name a device.
    public var numbers: String { "\(major):\(minor)" }
}
