import Attestation
import AttestedTLS
import Bytes
import Manifest

/// What a node asks of a control plane, `nacre.join.v1`: the key of its own disk.
public struct JoinRequest: Sendable, Equatable {
    public static let schema = "nacre.join.v1"

    public let node: NodeName
    public let epoch: Int

    public init(node: NodeName, epoch: Int) {
        self.node = node
        self.epoch = epoch
    }

    public var json: JSON {
        ["schema": .string(Self.schema), "node": .string(node.description), "epoch": .integer(Int128(epoch))]
    }

    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 4096), path: "join")
        try fields.schema(Self.schema)
        node = try fields.nodeName("node")
        epoch = try fields.integer("epoch")
        guard (1...1 << 30).contains(epoch) else {
            throw ParseError("range", field: "join.epoch", offset: 0, "\(epoch)")
        }
        try fields.end()
    }
}

/// Giving keys to other nodes. The other end has judged this node before it proved itself.
extension ClusterNode {
    /// A node that wants its disk's key: of an accepted image, and in no cluster since it started.
    func judgePeer(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer {
        let (reference, policy) = held.withLock { ($0.reference, $0.kept?.policy) }
        guard let reference, let policy else { throw ChannelRefusal("policy-role", explanation: "no keys here") }
        let time = machine.time()
        let accepted = try NodeProof.judge(proof, binding: session.peerBinding, cluster: .none) {
            Appraisal.judge($0, nonce: $1, reference: reference, policy: policy, cluster: $2, at: time)
        }
        return .node(accepted.evidence.platform)
    }

    func release(_ connection: AttestedConnection) throws(ChannelError) {
        let message = try receive(connection)
        let request: JoinRequest
        do { request = try JoinRequest(parsing: message) } catch { return try refuse(connection, error.finding) }
        // Two nodes of one name would share a disk's key.
        let key = held.withLock { held -> Secret? in
            guard held.progress.membership?.node != request.node else { return nil }
            return held.secret?.diskKey(node: request.node, epoch: request.epoch)
        }
        guard let key else {
            return try refuse(
                connection, Finding("cluster-other-node", claim: "node", actual: "\(request.node) is this very node"))
        }
        guard let identity = held.withLock({ $0.progress.membership?.identity }) else { return }
        try connection.send(Array(identity.json.compact.utf8), deadline: .seconds(Self.patience))
        try connection.send(key, deadline: .seconds(Self.patience))
        say("\(connection.session.hello.purpose): gave \(request.node) the key of its disk, epoch \(request.epoch)")
    }
}
