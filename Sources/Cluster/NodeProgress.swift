import Attestation
import AttestedTLS
import Bytes
import DiskFormat
import Kubernetes

/// How far a node has come since it started.
public enum NodePhase: String, Sendable, CaseIterable {
    /// Measuring, making its key.
    case attest
    /// For its owner or a peer.
    case wait
    /// Somebody was chosen and is handing over keys.
    case keys
    /// Formatting or opening the state disk.
    case disk
    /// Extending the cluster into register 15.
    case measure
    /// In the cluster.
    case run
    /// Only a restart helps.
    case failed
}

/// By whom a node gets its keys.
public enum KeyWay: String, Sendable, CaseIterable {
    case initialise = "init"
    case recover, join, rejoin
}

/// What a node is once it has its keys.
public struct Membership: Sendable, Equatable {
    public typealias Role = NodeRole

    public let identity: ClusterIdentity
    public let node: NodeName
    public let role: Role

    public init(identity: ClusterIdentity, node: NodeName, role: Role) {
        self.identity = identity
        self.node = node
        self.role = role
    }
}

/// The boot of a node from the moment it can be asked, as a state machine: attest → wait → keys → disk → measure → run.
///
/// Pure: it is told what happened and says whether that may be. Whoever is first to `claim` a waiting node has it, all
/// others are refused until that one has finished or failed; what was measured can never be changed.
public struct NodeProgress: Sendable, Equatable {
    public enum Event: Sendable, Equatable {
        case attested
        case claim(KeyWay, Membership)
        case received
        /// The disk is open, and says what the node is.
        case opened(Membership.Role)
        case measured
        /// The one who was chosen went away, or the disk could not be opened: nothing was measured, wait for another try.
        case dropped(Finding)
        /// Nobody knows what the registers show now.
        case broken(Finding)
    }

    public enum Outcome: Sendable, Equatable {
        /// Go on.
        case proceed
        /// This very membership was reached before: nothing to do.
        case already
    }

    public struct Timing: Sendable, Equatable {
        public let phase: NodePhase
        /// When it began, milliseconds since the kernel started.
        public let milliseconds: Int
    }

    public private(set) var phase = NodePhase.attest
    public private(set) var way: KeyWay?
    /// Whose the node is to become while it is between `keys` and `measure`, and is from `run` on.
    public private(set) var membership: Membership?
    /// Why the last try came to nothing.
    public private(set) var failure: Finding?
    public private(set) var timings: [Timing]
    /// The node may begin more often than it is worth keeping.
    private static let maximumTimings = 64

    public init(at milliseconds: Int) { timings = [Timing(phase: .attest, milliseconds: milliseconds)] }

    /// Whether the node is in a cluster for good.
    public var isMember: Bool { phase == .run }

    /// - Throws: `busy-…`, `cluster-…` where the event may not happen now; nothing has changed then.
    @discardableResult
    public mutating func apply(_ event: Event, at milliseconds: Int) throws(ChannelRefusal) -> Outcome {
        switch (phase, event) {
        case (.attest, .attested):
            enter(.wait, milliseconds)
        case (.wait, .claim(let way, let membership)):
            self.way = way
            self.membership = membership
            failure = nil
            enter(.keys, milliseconds)
        case (.run, .claim(_, let claimed)):
            try Self.compare(membership, claimed)
            return .already
        case (.keys, .received):
            enter(.disk, milliseconds)
        case (.disk, .opened(let role)):
            membership = membership.map { Membership(identity: $0.identity, node: $0.node, role: role) }
            enter(.measure, milliseconds)
        case (.measure, .measured):
            enter(.run, milliseconds)
        case (.keys, .dropped(let finding)), (.disk, .dropped(let finding)):
            failure = finding
            way = nil
            membership = nil
            enter(.wait, milliseconds)
        case (.failed, .broken): break
        case (_, .broken(let finding)):
            failure = finding
            enter(.failed, milliseconds)
        case (.failed, .claim):
            throw ChannelRefusal("node-failed", explanation: "\(failure.map { "\($0)" } ?? "")")
        case (.attest, .claim):
            throw ChannelRefusal("busy-starting", explanation: "not attestable yet")
        case (.keys, .claim), (.disk, .claim), (.measure, .claim):
            throw ChannelRefusal("busy-claimed", explanation: "\(way?.rawValue ?? "") is under way")
        default:
            throw ChannelRefusal("internal", explanation: "\(event) in phase \(phase.rawValue)")
        }
        return .proceed
    }

    private static func compare(_ present: Membership?, _ claimed: Membership) throws(ChannelRefusal) {
        guard let present else { throw ChannelRefusal("internal", explanation: "runs without a membership") }
        func differ(_ reason: String, _ expected: String, _ actual: String) -> ChannelRefusal {
            ChannelRefusal(reason, explanation: "the node is \(expected), asked to be \(actual)")
        }
        let (mine, theirs) = (present.identity, claimed.identity)
        guard mine.clusterID == theirs.clusterID else {
            throw differ("cluster-other", Hex.encode(mine.clusterID), Hex.encode(theirs.clusterID))
        }
        guard mine.owner == theirs.owner else {
            throw differ("cluster-other-owner", Hex.encode(mine.owner), Hex.encode(theirs.owner))
        }
        guard present.node == claimed.node else {
            throw differ("cluster-other-node", "\(present.node)", "\(claimed.node)")
        }
        guard present.role == claimed.role else {
            throw differ("cluster-other-role", present.role.rawValue, claimed.role.rawValue)
        }
    }

    private mutating func enter(_ next: NodePhase, _ milliseconds: Int) {
        phase = next
        if timings.count >= Self.maximumTimings { timings.remove(at: 1) }
        timings.append(Timing(phase: next, milliseconds: milliseconds))
    }
}
