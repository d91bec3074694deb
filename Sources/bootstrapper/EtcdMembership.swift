import Attestation
import Bytes
import Cluster
import Kubernetes
import KubernetesAPI
import Linux

/// Brings this control plane's etcd into the cluster's, as a learner first, and takes revoked ones out.
struct EtcdMembership {
    private var record: EtcdRecord?
    /// With whom this one starts for the first time; of no meaning to one that has data.
    private var members: [NodeConfiguration.Member] = []
    /// By the boot's clock.
    private var next = 0
    /// Version of the policy whose revoked nodes are gone from etcd.
    private var cleaned = 0

    /// Seconds for each answer of another control plane.
    private static let patience = 3
    /// Milliseconds between two tries.
    private static let pause = 2000

    /// What has to wait: a learner answers no client, so the API server waits for the vote.
    var held: Set<NodeUnit> {
        switch record {
        case nil, .some(.none): [.etcd, .apiServer]
        case .learner: members.isEmpty ? [.etcd, .apiServer] : [.apiServer]
        case .begun, .member: []
        }
    }

    /// What etcd's own options say at its first start.
    func apply(to configuration: inout NodeConfiguration) {
        configuration.etcdMembers = members
        switch record {
        case .learner, .member: configuration.etcdExists = true
        case nil, .some(.none), .begun: configuration.etcdExists = false
        }
    }

    /// Goes on as far as others let it; what fails is tried again.
    ///
    /// - Parameters:
    ///   - isMeshUp: others can be asked.
    ///   - isRunning: this node's etcd has started.
    /// - Returns: whether the node's files change with it.
    mutating func step(
        _ node: ClusterNode, _ configuration: NodeConfiguration, isMeshUp: Bool, isRunning: Bool
    ) throws(Finding) -> Bool {
        guard let policy = node.policy else { return false }
        let planes = policy.nodes.filter { $0.role == .controlPlane }
        if record == nil { record = try node.etcdRecord() }
        guard BootClock.milliseconds >= next else { return false }
        switch record {
        case nil: return false
        case .some(.none):
            let others = planes.map(\.index).filter { $0 != configuration.index }
            guard others.isEmpty || isMeshUp else { return false }
            next = BootClock.milliseconds + Self.pause
            return try start(node, configuration, planes)
        case .learner(let id):
            guard isMeshUp else { return false }
            next = BootClock.milliseconds + Self.pause
            return try follow(id, node, configuration, planes, isRunning)
        case .begun, .member:
            guard isRunning, cleaned < policy.version else { return false }
            next = BootClock.milliseconds + Self.pause
            try clean(configuration, planes)
            cleaned = policy.version
            return false
        }
    }

    /// Nothing was begun on this disk.
    private mutating func start(
        _ node: ClusterNode, _ configuration: NodeConfiguration, _ planes: [ClusterPolicy.Node]
    ) throws(Finding) -> Bool {
        let step = EtcdPlan.step(
            of: configuration.index, planes: planes.map(\.index), answers: answers(configuration, planes))
        switch step {
        case .wait:
            throw Finding(
                "etcd-wait", claim: "etcd", expected: "a control plane whose etcd answers", actual: "none yet",
                source: "the control planes of the policy", next: "the node asks again")
        case .begin:
            try keep(.begun, node)
            node.report("kubernetes: this control plane begins the cluster's etcd")
            return true
        case .join(let through, let removing):
            let added: (id: UInt64, members: [EtcdMember])
            do throws(APIError) {
                let client = try EtcdClient(configuration, of: through)
                for id in removing { try client.remove(id, deadline: .seconds(Self.patience)) }
                added = try client.addLearner(configuration.index, deadline: .seconds(Self.patience))
            } catch { throw Self.finding(error) }
            take(added.members, planes)
            try keep(.learner(added.id), node)
            node.report("kubernetes: etcd joins through \(through.address) as a learner")
            return true
        }
    }

    /// Added, and to be promoted once it has what the others have.
    private mutating func follow(
        _ id: UInt64, _ node: ClusterNode, _ configuration: NodeConfiguration, _ planes: [ClusterPolicy.Node],
        _ isRunning: Bool
    ) throws(Finding) -> Bool {
        guard let (through, present) = answers(configuration, planes).min(by: { $0.key < $1.key }),
            let mine = present.first(where: { $0.id == id })
        else {
            throw Finding(
                "etcd-wait", claim: "etcd", expected: "a control plane whose etcd knows this learner", actual: "none",
                next: "the node asks again")
        }
        if mine.isLearner {
            if members.isEmpty {
                take(present, planes)
                return true
            }
            guard isRunning else { return false }
            do throws(APIError) {
                try EtcdClient(configuration, of: through).promote(id, deadline: .seconds(Self.patience))
            } catch { throw Self.finding(error) }
        }
        try keep(.member, node)
        node.report("kubernetes: etcd has a vote")
        return false
    }

    /// Members whose nodes are revoked leave; whichever control plane comes first does it.
    private func clean(_ configuration: NodeConfiguration, _ planes: [ClusterPolicy.Node]) throws(Finding) {
        let revoked = planes.filter(\.isRevoked).map(\.index)
        guard !revoked.isEmpty else { return }
        do throws(APIError) {
            let client = try EtcdClient(configuration, of: configuration.index)
            let present = try client.members(deadline: .seconds(Self.patience))
            for id in EtcdPlan.leavers(present, revoked: revoked) {
                try client.remove(id, deadline: .seconds(Self.patience))
            }
        } catch { throw Self.finding(error) }
    }

    /// The members that the other control planes name, of those that answer.
    private func answers(
        _ configuration: NodeConfiguration, _ planes: [ClusterPolicy.Node]
    ) -> [NodeIndex: [EtcdMember]] {
        var found: [NodeIndex: [EtcdMember]] = [:]
        for plane in planes where plane.index != configuration.index && !plane.isRevoked {
            guard let client = try? EtcdClient(configuration, of: plane.index),
                let present = try? client.members(deadline: .seconds(Self.patience))
            else { continue }
            found[plane.index] = present
            // One is enough: they all say the same.
            break
        }
        return found
    }

    private mutating func take(_ present: [EtcdMember], _ planes: [ClusterPolicy.Node]) {
        members = planes.filter { plane in
            present.contains { $0.peers.contains(EtcdPlan.peer(of: plane.index)) }
        }.map { NodeConfiguration.Member(name: $0.name, index: $0.index) }
    }

    private mutating func keep(_ record: EtcdRecord, _ node: ClusterNode) throws(Finding) {
        try node.keep(record)
        self.record = record
    }

    private static func finding(_ error: APIError) -> Finding {
        Finding(
            "etcd-member", claim: "etcd", expected: "a member added, promoted or removed", actual: error.message,
            source: "etcd of another control plane", next: "the node asks again")
    }
}
