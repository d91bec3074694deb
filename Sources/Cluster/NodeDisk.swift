import Bytes

/// Which block device is a node's state disk, as its owner says; exactly one must answer to it.
public enum DiskChoice: Sendable, Equatable {
    /// A name below /dev/disk/by-id.
    case id(String)
    /// A file system or partition label.
    case label(String)
    /// Size in bytes, both ends included.
    case size(minimum: UInt64, maximum: UInt64)
    /// The only disk beside the one that was booted.
    case only
}

extension DiskChoice {
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
            // Both become the last component of a path below /dev/disk.
            guard (1...255).contains(name.utf8.count), name.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != 0x2F })
            else { throw refuse("a name of printable characters without a slash") }
            return name
        }
        if let name = try fields.optionalString("id") {
            self = .id(try plain(name))
        } else if let name = try fields.optionalString("label") {
            self = .label(try plain(name))
        } else if let minimum = fields.optional("minimum"), let maximum = fields.optional("maximum") {
            guard let low = minimum.unsigned, let high = maximum.unsigned, low <= high else {
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

/// What a state disk says of itself: whose it is. Untrusted until the disk was opened with the right key.
public struct DiskClaim: Sendable, Equatable {
    public let clusterID: [UInt8]
    public let node: NodeName
    /// Counts keys.
    public let epoch: Int
    /// Counts openings.
    public let generation: Int

    public init(clusterID: [UInt8], node: NodeName, epoch: Int, generation: Int) {
        self.clusterID = clusterID
        self.node = node
        self.epoch = epoch
        self.generation = generation
    }
}

public enum NodeDiskState: Sendable, Equatable {
    /// This machine has none that could be used; why.
    case none(String)
    case blank
    /// Holds something else; what.
    case foreign(String)
    /// One of Nacre's, not opened.
    case closed(DiskClaim)
    /// Its header cannot be used.
    case damaged(Finding)
    /// Opened and mounted.
    case open(DiskClaim)

    /// For status and logs.
    public var description: String {
        switch self {
        case .none(let why): "none: \(why)"
        case .blank: "blank"
        case .foreign(let what): "foreign: \(what)"
        case .closed(let claim): "closed: node \(claim.node), epoch \(claim.epoch)"
        case .damaged(let finding): "damaged: \(finding.reason)"
        case .open(let claim): "open: node \(claim.node), epoch \(claim.epoch), generation \(claim.generation)"
        }
    }
}

/// A node's state disk as the bootstrap needs it. Its findings are of the families `disk` and `header`.
public protocol NodeDisk: Sendable {
    /// What is there before anybody said which disk to take: a disk of Nacre's where there is exactly one, else `none`.
    func discover() throws(Finding) -> NodeDiskState
    /// Opens the disk of `rule`; formats it first where it is blank, or foreign and `allowForeign`. A disk of this very
    /// cluster, node and epoch is opened as it is, so that a first boot that was cut short goes on.
    func prepare(
        _ rule: DiskChoice, allowForeign: Bool, clusterID: [UInt8], node: NodeName, epoch: Int, key: borrowing Secret
    ) throws(Finding) -> NodeDiskState
    /// Opens the disk that `discover` found; another disk than `claim` says is refused.
    func open(_ claim: DiskClaim, key: borrowing Secret) throws(Finding) -> NodeDiskState
    /// Keeps bytes on the open disk, whole or not at all; returns once they are safe there.
    func store(_ bytes: borrowing Secret, as name: String) throws(Finding)
    /// Unmounts and closes; the next `discover` finds it closed.
    func close()
    /// What `store` kept; throws `disk-missing` where there is nothing of that name.
    func load(_ name: String) throws(Finding) -> Secret
}
