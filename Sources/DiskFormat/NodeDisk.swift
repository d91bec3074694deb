import Bytes

/// A node's state disk, for status and logs.
public enum NodeDiskState: Sendable, Equatable {
    /// This machine has none; why.
    case none(String)
    case blank
    /// Holds something else; what.
    case foreign(String)
    /// One of Nacre's, not opened: whose it says it is.
    case closed(DiskBinding)
    /// Cannot be used, or cannot be told from others; why.
    case unusable(Finding)
    /// Opened and mounted.
    case open(DiskBinding)

    public var description: String {
        switch self {
        case .none(let why): "none: \(why)"
        case .blank: "blank"
        case .foreign(let what): "foreign: \(what)"
        case .closed(let binding):
            "closed: node \(binding.node), epoch \(binding.epoch), generation \(binding.generation)"
        case .unusable(let finding): "unusable: \(finding.reason): \(finding.actual)"
        case .open(let binding):
            "open: node \(binding.node), epoch \(binding.epoch), generation \(binding.generation)"
        }
    }

    /// Which key an open disk takes.
    public var epoch: Int? { if case .open(let binding) = self { binding.epoch } else { nil } }

    /// The number of this opening; of an open disk only.
    public var generation: Int? { if case .open(let binding) = self { binding.generation } else { nil } }
}

/// A node's state disk as the bootstrap needs it. Its findings are of the families `disk` and `header`.
public protocol NodeDisk: Sendable {
    /// What is there before anybody said which disk to take: the one disk of Nacre's where there is exactly one.
    ///
    /// - Throws: `disk-several` for two of Nacre's.
    func discover() throws(Finding) -> NodeDiskState
    /// Opens the disk of `rule`; formats it first where it is blank, or foreign and `allowForeign`. A disk of this very
    /// cluster, node and epoch is opened as it is, so that a first boot that was cut short goes on.
    ///
    /// - Parameter expected: whose it is, or becomes; its generation is the last one that the cluster remembers.
    func prepare(
        _ rule: DiskRule, allowForeign: Bool, expecting expected: DiskBinding, key: borrowing Secret
    ) throws(Finding) -> NodeDiskState
    /// Opens the disk that `discover` found; another disk than `expected` says, or an older one, is refused.
    func open(_ expected: DiskBinding, key: borrowing Secret) throws(Finding) -> NodeDiskState
    /// Exchanges the open disk's key for that of the next epoch while the disk is in use; the change counts as an opening.
    /// Cut off in between, either key opens the disk.
    func rekey(from old: borrowing Secret, to key: borrowing Secret) throws(Finding) -> NodeDiskState
    /// The node is what its disk says: everything that runs on it may use it from now on.
    func settle() throws(Finding)
    /// Keeps bytes on the open disk, whole or not at all; returns once they are safe there.
    func store(_ bytes: borrowing Secret, as name: String) throws(Finding)
    /// What `store` kept; throws `disk-missing` where there is nothing of that name.
    func load(_ name: String) throws(Finding) -> Secret
    /// Unmounts and closes; the next `discover` finds it closed.
    func close()
    /// Whom to ask for the key of the disk that `discover` found; nobody vouches for it. Empty where it says nothing.
    func hints() -> [PeerEndpoint]
    /// Keeps the peers beside the open disk's header, readable without a key.
    func keepHints(_ peers: [PeerEndpoint]) throws(Finding)
}
