import Bytes

/// Which disk is a node's state disk, as its owner says; exactly one must answer to it.
public enum DiskRule: Equatable, Sendable, CustomStringConvertible {
    /// A serial number or world-wide name, as in /dev/disk/by-id with or without its `virtio-`, `nvme-`, `scsi-`, `wwn-`.
    case id(String)
    /// The label of a GPT partition.
    case label(String)
    /// Whole disks of this size, bytes, both ends included.
    case size(minimum: Int, maximum: Int)
    /// The one whole disk that there is beside the system's.
    case only

    public var description: String {
        switch self {
        case .id(let id): "id \(id)"
        case .label(let label): "label \(label)"
        case .size(let minimum, let maximum): "size \(minimum) to \(maximum)"
        case .only: "the only one"
        }
    }

    func takes(_ device: BlockDevice) -> Bool {
        switch self {
        case .id(let id):
            let plain = ["virtio-", "nvme-", "scsi-", "wwn-"].first { id.hasPrefix($0) }.map { id.dropFirst($0.count) }
            return device.label == nil
                && (device.ids.contains(id) || plain.map { device.ids.contains(String($0)) } == true)
        case .label(let label): return !label.isEmpty && device.label == label
        case .size(let minimum, let maximum):
            return device.label == nil && device.size >= minimum && device.size <= maximum
        case .only: return device.label == nil
        }
    }
}

extension DiskRule {
    /// The one device that the rule takes.
    ///
    /// - Throws: `disk-none` or `disk-several`, with what there is: nothing is ever guessed.
    package func choose(among devices: [BlockDevice]) throws(DiskError) -> BlockDevice {
        let named = devices.filter { takes($0) }
        let candidates = named.filter { $0.excluded == nil }
        guard let first = candidates.first else {
            throw DiskError(
                "none", "state disk", expected: "one disk by the rule: \(self)",
                actual: devices.isEmpty ? "no disk at all" : devices.map(\.summary).joined(separator: "; "),
                source: "the owner's configuration", next: "attach the disk, or change the rule")
        }
        guard candidates.count == 1 else {
            throw DiskError(
                "several", "state disk", expected: "one disk by the rule: \(self)",
                actual: candidates.map(\.summary).joined(separator: "; "), source: "the owner's configuration",
                next: "name the disk by its id, or detach the others; none of them was touched")
        }
        return first
    }
}

extension DiskRule {
    public var json: JSON {
        switch self {
        case .id(let name): ["id": .string(name)]
        case .label(let name): ["label": .string(name)]
        case .size(let minimum, let maximum):
            ["minimum": .integer(Int128(minimum)), "maximum": .integer(Int128(maximum))]
        case .only: ["only": true]
        }
    }

    public init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        func refuse(_ message: String) -> ParseError { ParseError("form", field: path, offset: 0, message) }
        func plain(_ name: String) throws(ParseError) -> String {
            // As names below /dev/disk have it.
            guard (1...255).contains(name.utf8.count), name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x2F })
            else { throw refuse("a name of printable characters without a slash") }
            return name
        }
        if let name = try fields.optionalString("id") {
            self = .id(try plain(name))
        } else if let name = try fields.optionalString("label") {
            self = .label(try plain(name))
        } else if let minimum = fields.optional("minimum"), let maximum = fields.optional("maximum") {
            guard let low = minimum.integer, let high = maximum.integer, low >= 0, low <= high else {
                throw refuse("minimum and maximum must be sizes in bytes, in order")
            }
            self = .size(minimum: low, maximum: high)
        } else {
            guard try fields.bool("only", default: false) else { throw refuse("must be id, label, sizes or only") }
            self = .only
        }
        try fields.end()
    }
}
