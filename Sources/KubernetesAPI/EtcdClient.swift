import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// Asks a control plane's etcd who its members are, and changes them: etcd's JSON gateway (etcd 3.4 and later,
/// `/v3/cluster/member/…`, ProtoJSON: numbers of 64 bits are text, what is false or empty is left out).
public struct EtcdClient: Sendable {
    private let client: APIClient

    /// The etcd of a control plane, by this control plane's certificate for etcd.
    public init(_ configuration: NodeConfiguration, of plane: NodeIndex) throws(APIError) {
        let name = NodeCertificate.apiServerEtcdClient
        guard let certificate = configuration.certificates[name], let key = configuration.keys[name],
            let authority = configuration.authorities[.etcd]
        else { throw APIError("no certificate \(name.rawValue)") }
        self.init(
            APIClient(
                host: "\(plane.address)", port: NetworkPlan.etcdPort, authority: authority,
                identity: TLSIdentity(certificate: certificate, key: key)))
    }

    init(_ client: APIClient) { self.client = client }

    public func members(deadline: Deadline) throws(APIError) -> [EtcdMember] {
        try Self.members(try client.post("/v3/cluster/member/list", .object([:]), deadline: deadline))
    }

    /// Adds a member without a vote. etcd takes one at a time, and none while too few of the others answer.
    ///
    /// - Returns: its identifier, and all members with it.
    public func addLearner(
        _ index: NodeIndex, deadline: Deadline
    ) throws(APIError) -> (id: UInt64, members: [EtcdMember]) {
        let answer = try client.post(
            "/v3/cluster/member/add", ["peerURLs": [.string(EtcdPlan.peer(of: index))], "isLearner": true],
            deadline: deadline)
        guard let id = answer["member"].flatMap(Self.identifier) else { throw APIError("no member was named") }
        return (id, try Self.members(answer))
    }

    /// Gives a learner its vote; refused until it has caught up.
    public func promote(_ id: UInt64, deadline: Deadline) throws(APIError) {
        _ = try client.post("/v3/cluster/member/promote", ["ID": .string("\(id)")], deadline: deadline)
    }

    public func remove(_ id: UInt64, deadline: Deadline) throws(APIError) {
        _ = try client.post("/v3/cluster/member/remove", ["ID": .string("\(id)")], deadline: deadline)
    }

    private static func members(_ answer: JSON) throws(APIError) -> [EtcdMember] {
        var members: [EtcdMember] = []
        for entry in answer["members"]?.array ?? [] {
            guard let id = identifier(entry) else { throw APIError("a member without an identifier") }
            members.append(
                EtcdMember(
                    id: id, peers: (entry["peerURLs"]?.array ?? []).compactMap(\.string),
                    isLearner: entry["isLearner"]?.bool ?? false))
        }
        // Whoever answers is one.
        guard !members.isEmpty else { throw APIError("etcd named no members") }
        return members
    }

    private static func identifier(_ member: JSON) -> UInt64? {
        member["ID"]?.string.flatMap { UInt64($0) }
    }
}
