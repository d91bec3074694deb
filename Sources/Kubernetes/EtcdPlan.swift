import Bytes
import DiskFormat

/// What a control plane's state disk remembers of etcd, so that a restart does not ask anybody.
public enum EtcdRecord: Sendable, Equatable {
    /// Nothing was begun on this disk.
    case none
    /// This control plane began the cluster's etcd.
    case begun
    /// It was added as a learner of this identifier, and not yet promoted.
    case learner(UInt64)
    /// It is a member with a vote.
    case member

    public static let schema = "nacre.etcd.v1"
    /// On the state disk.
    public static let file = "etcd.json"

    public var json: JSON {
        let (state, id): (String, JSON?) =
            switch self {
            case .none: ("none", nil)
            case .begun: ("begun", nil)
            case .learner(let id): ("learner", .string("\(id)"))
            case .member: ("member", nil)
            }
        return .fields(["schema": .string(Self.schema), "state": .string(state), "id": id])
    }

    public init(json: JSON) throws(ParseError) {
        func refuse(_ message: String) -> ParseError { ParseError("form", field: "etcd", offset: 0, message) }
        var fields = try JSONFields(json, path: "etcd")
        guard try fields.string("schema") == Self.schema else { throw refuse("must be \(Self.schema)") }
        let state = try fields.string("state")
        let id = try fields.optionalString("id")
        try fields.end()
        switch (state, id.flatMap { UInt64($0) }) {
        case ("none", nil): self = .none
        case ("begun", nil): self = .begun
        case ("member", nil): self = .member
        case ("learner", let id?): self = .learner(id)
        default: throw refuse("unknown state")
        }
        // No number that stands for nothing, or in another form than it is written in.
        guard id == self.json["id"]?.string else { throw refuse("id") }
    }
}

/// A member of etcd as etcd names it.
public struct EtcdMember: Sendable, Equatable {
    public let id: UInt64
    public let peers: [String]
    /// It follows and has no vote.
    public let isLearner: Bool

    public init(id: UInt64, peers: [String], isLearner: Bool) {
        self.id = id
        self.peers = peers
        self.isLearner = isLearner
    }
}

/// How a control plane becomes part of etcd, and how others leave it. Pure.
public enum EtcdPlan {
    public enum Step: Sendable, Equatable {
        /// Nobody has begun, and this is who does.
        case begin
        /// Through a control plane that answered, after these members of this node's name are gone: this disk has none of
        /// their data.
        case join(through: NodeIndex, removing: [UInt64])
        /// Others are to begin, or none of them answers.
        case wait
    }

    /// What to do with a disk on which nothing was begun.
    ///
    /// - Parameters:
    ///   - planes: every control plane that the policy names, revoked ones too: an index is never given twice, so the
    ///     lowest of all of them is the one that was there first.
    ///   - answers: the members that control planes other than this one named; without those that gave no answer.
    public static func step(
        of own: NodeIndex, planes: [NodeIndex], answers: [NodeIndex: [EtcdMember]]
    ) -> Step {
        // The lowest index that answers: two nodes that join at once ask the same one, which takes one learner at a time.
        if let (through, members) = answers.min(by: { $0.key < $1.key }) {
            let mine = members.filter { $0.peers.contains(peer(of: own)) }.map(\.id)
            return .join(through: through, removing: mine)
        }
        return planes.min() == own ? .begin : .wait
    }

    /// Members whose nodes the owner has revoked. What the policy does not know is left alone: another control plane may
    /// have heard of a newer one.
    public static func leavers(_ members: [EtcdMember], revoked: [NodeIndex]) -> [UInt64] {
        let gone = Set(revoked.map { peer(of: $0) })
        return members.filter { !gone.isDisjoint(with: $0.peers) }.map(\.id)
    }

    /// Where a control plane's etcd is reached by the others.
    public static func peer(of index: NodeIndex) -> String { "https://\(index.address):2380" }
}
