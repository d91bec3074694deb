import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Manifest
import Synchronization

/// What a node's service needs of the machine it runs on.
public struct NodeMachine: Sendable {
    /// Evidence for a nonce.
    public var evidence: @Sendable (_ nonce: [UInt8]) throws -> Evidence
    /// Extends the cluster into its register, once per boot.
    public var measure: @Sendable (ClusterIdentity) throws -> Void
    /// Milliseconds since the kernel started.
    public var milliseconds: @Sendable () -> Int
    public var time: @Sendable () -> Instant
    /// For the node's log: reasons and names, never secrets.
    public var report: @Sendable (String) -> Void

    public init(
        evidence: @escaping @Sendable (_ nonce: [UInt8]) throws -> Evidence,
        measure: @escaping @Sendable (ClusterIdentity) throws -> Void, milliseconds: @escaping @Sendable () -> Int,
        time: @escaping @Sendable () -> Instant, report: @escaping @Sendable (String) -> Void
    ) {
        self.evidence = evidence
        self.measure = measure
        self.milliseconds = milliseconds
        self.time = time
        self.report = report
    }
}

/// What is asked of a node over the channel; the client's hello says which.
public enum Purpose: String, Sendable, CaseIterable {
    case initialise = "init"
    case recover, status, logs, rekey, join, rejoin, policy, mesh
    case enrol = "enroll"

}

/// The node's end of the channel: proves itself to anybody, takes orders from its owner, and gives disk keys to nodes
/// that prove themselves. What it holds of the cluster secret lives here, in locked memory.
public final class ClusterNode: ChannelService {
    /// Who was accepted.
    public enum Peer: Sendable {
        /// SHA-256 of the owner key.
        case owner([UInt8])
        case node(Evidence.Platform)
        /// A member, by its certificate of the mesh.
        case member(NodeName)
    }

    struct Held: ~Copyable {
        var progress: NodeProgress
        var disk: NodeDiskState = .none("not looked for yet")
        /// Control planes only.
        var secret: ClusterSecret?
        var kept: KeptMembership?
        var reference: Reference?
        /// Control planes only: the last opening of each node's disk that they were told of.
        var generations = DiskGenerations()
        /// Why the last peer that was asked gave no key.
        var search: Finding?
        var kubernetes: KubernetesStatus?
    }

    /// For each message of a conversation.
    static let patience = 20

    let machine: NodeMachine
    let disk: any NodeDisk
    let log: NodeLog
    let held: Mutex<Held>
    let desk = EnrolmentDesk()
    /// Nodes that were turned away.
    public let refusals = RefusalLog()

    public init(machine: NodeMachine, disk: any NodeDisk, log: NodeLog = NodeLog()) {
        self.machine = machine
        self.disk = disk
        self.log = log
        held = Mutex(Held(progress: NodeProgress(at: machine.milliseconds())))
    }

    /// The node can be asked now: looks at its disks and waits for whoever comes.
    public func attested() {
        discover()
        held.withLock { held in _ = try? held.progress.apply(.attested, at: machine.milliseconds()) }
        say("waiting for keys; state disk \(held.withLock { $0.disk.description })")
    }

    /// Looks at the disks, of which none is open.
    ///
    /// - Parameter isSearch: by nobody who has claimed the node: whoever does so meanwhile knows better.
    func discover(isSearch: Bool = false) {
        let state: NodeDiskState
        do { state = try disk.discover() } catch { state = .unusable(error) }
        held.withLock { held in
            guard !isSearch || held.progress.phase == .wait else { return }
            held.disk = state
        }
    }

    public var status: NodeStatus {
        held.withLock {
            NodeStatus(progress: $0.progress, disk: $0.disk, search: $0.search, kubernetes: $0.kubernetes)
        }
    }

    /// What the owner is told of Kubernetes on this node.
    public func tell(_ kubernetes: KubernetesStatus) { held.withLock { $0.kubernetes = kubernetes } }

    /// A line for the node's log and its owner; reasons and names, never secrets.
    public func report(_ line: String) { say(line) }

    func say(_ line: String) {
        log.append("\(machine.milliseconds()) \(line)")
        machine.report(PlainText.line(line))
    }

    // MARK: ChannelService

    public func admit(_ hello: Hello) throws(ChannelRefusal) {
        guard let purpose = Purpose(rawValue: hello.purpose) else {
            throw ChannelRefusal("policy-purpose", explanation: hello.purpose)
        }
        let (progress, disk, serves) = held.withLock { ($0.progress, $0.disk, $0.secret != nil) }
        guard !hello.clusterID.isEmpty || purpose == .status else {
            throw ChannelRefusal("cluster-missing", explanation: "\(purpose.rawValue) names no cluster")
        }
        if progress.isMember, let membership = progress.membership, !hello.clusterID.isEmpty,
            membership.identity.clusterID != hello.clusterID
        {
            throw ChannelRefusal("cluster-other", explanation: "asked as cluster \(Hex.encode(hello.clusterID))")
        }
        switch purpose {
        case .status: break
        case .initialise: if case .failed = progress.phase { throw ChannelRefusal("node-failed") }
        case .logs, .rekey, .policy:
            if !progress.isMember { throw ChannelRefusal("cluster-missing", explanation: "no owner yet") }
        case .recover:
            if progress.isMember { break }
            guard case .closed(let claim) = disk else {
                if case .unusable(let finding) = disk {
                    throw ChannelRefusal(finding.reason, explanation: "\(finding)")
                }
                throw ChannelRefusal("disk-missing", explanation: "no closed disk to recover: \(disk.description)")
            }
            guard claim.clusterID == hello.clusterID else {
                throw ChannelRefusal("disk-other-cluster", explanation: "asked as \(Hex.encode(hello.clusterID))")
            }
        case .join, .rejoin, .enrol, .mesh:
            guard serves, progress.isMember else {
                throw ChannelRefusal("policy-role", explanation: "not a control plane that holds the cluster's keys")
            }
        }
    }

    public func prove(_ session: ChannelSession) throws(ChannelRefusal) -> [UInt8] {
        if session.hello.purpose == Purpose.mesh.rawValue { return try proveMember(session) }
        do {
            return try machine.evidence(NodeProof.nonce(session.ownBinding)).bytes
        } catch { throw ChannelRefusal("internal", explanation: "no evidence: \(error)") }
    }

    public func judge(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer {
        switch Purpose(rawValue: session.hello.purpose) {
        case .join, .rejoin: return try judgePeer(proof, session)
        case .enrol: return try judgeMember(proof, session)
        case .mesh: return .member(try judgeMemberProof(proof, session).name)
        default: break
        }
        let owner = try OwnerProof.judge(proof, binding: session.peerBinding)
        let progress = held.withLock { $0.progress }
        if progress.isMember, let mine = progress.membership?.identity.owner, !constantTimeEqual(mine, owner) {
            throw ChannelRefusal("cluster-other-owner", explanation: "proved key \(Hex.encode(owner))")
        }
        return .owner(owner)
    }

    public func serve(_ connection: AttestedConnection, _ peer: Peer) {
        let purpose = Purpose(rawValue: connection.session.hello.purpose)
        do throws(ChannelError) {
            switch (purpose, peer) {
            case (.status, .owner): try answer(connection, .done(status))
            case (.logs, .owner): try sendLog(connection)
            case (.initialise, .owner(let owner)): try initialise(connection, owner)
            case (.recover, .owner(let owner)): try recover(connection, owner)
            case (.rekey, .owner): try rekey(connection)
            case (.policy, .owner): try takePolicy(connection)
            case (.enrol, .node): try serveEnrolment(connection)
            case (.mesh, .member(let name)): try serveMesh(connection, name)
            case (.join, .node), (.rejoin, .node): try release(connection)
            default: throw .protocolViolation("\(connection.session.hello.purpose) by this kind of peer")
            }
        } catch { say("\(connection.session.hello.purpose): \(error)") }
    }

    public func failed(_ error: ChannelError, _ hello: Hello?) {
        say("\(hello?.purpose ?? "channel"): \(error)")
        // A node that is busy or not ready yet is asked again; that is no refusal.
        if case .refused(let reason, let explanation) = error, !reason.hasPrefix("busy") {
            refusals.add(hello.flatMap { Purpose(rawValue: $0.purpose) }, reason, explanation, at: machine.time())
        }
    }

    // MARK: Words

    func answer(_ connection: AttestedConnection, _ answer: BootstrapAnswer) throws(ChannelError) {
        try connection.send(Array(answer.json.compact.utf8), deadline: .seconds(Self.patience))
    }

    func receive(_ connection: AttestedConnection) throws(ChannelError) -> [UInt8] {
        guard let message = try connection.receive(deadline: .seconds(Self.patience)) else {
            throw .connection("the peer left")
        }
        return message
    }

    /// Everything held, in pieces.
    private func sendLog(_ connection: AttestedConnection) throws(ChannelError) {
        var next = 0
        while true {
            let piece = log.lines(from: next, count: 200)
            if piece.lines.isEmpty { return }
            next = piece.next
            let json: JSON = ["schema": "nacre.log.v1", "lines": .array(piece.lines.map { .string($0) })]
            try connection.send(Array(json.compact.utf8), deadline: .seconds(Self.patience))
        }
    }

    func apply(_ event: NodeProgress.Event) throws(ChannelRefusal) -> NodeProgress.Outcome {
        let outcome = held.withLock { (held) -> Result<NodeProgress.Outcome, ChannelRefusal> in
            do throws(ChannelRefusal) {
                return .success(try held.progress.apply(event, at: machine.milliseconds()))
            } catch { return .failure(error) }
        }
        return try outcome.get()
    }
}
