import Bytes
import Crypto
import DiskFormat

/// Who gives pods their network.
public enum PodNetwork: String, Sendable, CaseIterable {
    /// A bridge on each node, routed through the mesh.
    case bridge
    /// Cilium, installed by the owner with `CiliumValues`; the mesh between nodes stays.
    case cilium
}

/// Everything that the files of a node are made from.
public struct NodeConfiguration: Sendable {
    /// A node as others see it.
    public struct Member: Sendable, Hashable {
        public let name: NodeName
        public let index: NodeIndex

        public init(name: NodeName, index: NodeIndex) {
            self.name = name
            self.index = index
        }
    }

    public typealias Plane = Member

    /// What control planes know beside their certificates, derived from the cluster secret.
    public struct PlaneKeys: Sendable {
        /// Signs the tokens of service accounts.
        public let serviceAccount: PrivateKey
        /// 32 bytes, for secrets at rest.
        public let encryption: SecretContents
        /// Which derivation of it.
        public let encryptionEpoch: Int

        public init(serviceAccount: PrivateKey, encryption: SecretContents, encryptionEpoch: Int) {
            self.serviceAccount = serviceAccount
            self.encryption = encryption
            self.encryptionEpoch = encryptionEpoch
        }
    }

    /// The control plane that a worker asks, where it is still one; else the one with the lowest index.
    public var preferredPlane: NodeIndex?
    public let name: NodeName
    public let role: NodeRole
    public let index: NodeIndex
    /// Every control plane of the policy that is not revoked, this node too where it is one.
    public var planes: [Plane]
    /// Members of etcd, and whether they exist already or begin with this one.
    public var etcdMembers: [Plane]
    public var etcdExists: Bool
    public var podNetwork: PodNetwork
    public var keys: [NodeCertificate: PrivateKey]
    public var certificates: [NodeCertificate: Certificate]
    /// Of `client` only this node's own.
    public var authorities: [ClusterAuthorityName: Certificate]
    /// The authority `client` of every node of the policy that is not revoked; control planes only.
    public var clientAuthorities: [Member: Certificate] = [:]
    public var planeKeys: PlaneKeys?
    public var mesh: MeshConfiguration

    public init(
        name: NodeName, role: NodeRole, index: NodeIndex, planes: [Plane], etcdMembers: [Plane] = [],
        etcdExists: Bool = false, podNetwork: PodNetwork, keys: [NodeCertificate: PrivateKey],
        certificates: [NodeCertificate: Certificate], authorities: [ClusterAuthorityName: Certificate],
        planeKeys: PlaneKeys?, mesh: MeshConfiguration
    ) {
        self.name = name
        self.role = role
        self.index = index
        self.planes = planes
        self.etcdMembers = etcdMembers
        self.etcdExists = etcdExists
        self.podNetwork = podNetwork
        self.keys = keys
        self.certificates = certificates
        self.authorities = authorities
        self.planeKeys = planeKeys
        self.mesh = mesh
    }

    public static let directory = "/run/nacre/kubernetes"
    static let pki = directory + "/pki"

    /// Where components of this node find the API server: a control plane asks its own.
    public var apiServer: String { "https://\(apiServerIndex.address):\(NetworkPlan.apiPort)" }
    /// Of that control plane.
    public var apiServerIndex: NodeIndex {
        if role == .controlPlane { return index }
        if let preferredPlane, planes.contains(where: { $0.index == preferredPlane }) { return preferredPlane }
        return planes.map(\.index).min() ?? index
    }
    /// Control planes that a worker can turn to instead, the next higher index first.
    public var otherPlanes: [NodeIndex] {
        let all = planes.map(\.index).sorted()
        return all.filter { $0 > apiServerIndex } + all.filter { $0 < apiServerIndex }
    }

    /// Every file of the node, sorted by path. Directories are made by whoever writes them.
    public func files() throws(CryptoError) -> [NodeFile] {
        var files = [
            NodeFile(Self.directory + "/node.env", environment),
            NodeFile(Self.directory + "/kubelet.yaml", kubelet),
            NodeFile(Self.directory + "/kube-proxy.yaml", kubeProxy),
            NodeFile("/run/nacre/mesh/mesh.env", "MESH_ADDRESS=\(index.address)/16\n"),
            mesh.file,
        ]
        if podNetwork == .bridge { files.append(NodeFile("/run/cni/net.d/10-nacre.conflist", network)) }
        for (name, certificate) in authorities {
            if let file = name.file { files.append(NodeFile("\(Self.pki)/\(file)", certificate.pem)) }
        }
        if role == .controlPlane, let owner = authorities[.kubernetes] {
            files.append(NodeFile(Self.clientAuthoritiesFile, clients(owner)))
        }
        for name in NodeCertificate.allowed(for: role) where name.isFile {
            guard let key = keys[name], let certificate = certificates[name] else {
                throw CryptoError(.form, "no certificate \(name.rawValue), which a \(role.rawValue) has")
            }
            files.append(NodeFile("\(Self.pki)/\(name.rawValue).crt", certificate.pem))
            files.append(NodeFile("\(Self.pki)/\(name.rawValue).key", try key.secret()))
        }
        for name in Self.kubeconfigs(role) {
            files.append(NodeFile("\(Self.directory)/\(name.rawValue).kubeconfig", kubeconfig(name)))
        }
        if role == .controlPlane, let planeKeys {
            files.append(NodeFile(Self.pki + "/service-account.pub", planeKeys.serviceAccount.publicKey.pem))
            files.append(NodeFile(Self.pki + "/service-account.key", try planeKeys.serviceAccount.secret()))
            files.append(NodeFile(Self.directory + "/encryption.yaml", Self.encryption(planeKeys)))
        }
        return files.sorted { $0.path < $1.path }
    }

    /// Whom the API server lets in: the owner, and nodes by their own authorities. It reads this file again by itself.
    public static let clientAuthoritiesFile = pki + "/clients.crt"

    private func clients(_ owner: Certificate) -> String {
        owner.pem + clientAuthorities.sorted { $0.key.index < $1.key.index }.map(\.value.pem).joined()
    }

    /// EnvironmentFile of all units (systemd.exec(5)); every value is of letters that mean nothing to it.
    private var environment: String {
        var lines = [
            ("NODE_NAME", "\(name)"), ("NODE_IP", "\(index.address)"), ("POD_CIDR", index.podRange),
            ("CLUSTER_CIDR", NetworkPlan.clusterRange), ("SERVICE_CIDR", NetworkPlan.serviceRange),
            ("CLUSTER_DNS", "\(NetworkPlan.clusterDNS)"), ("API_SERVER", apiServer),
        ]
        if role == .controlPlane {
            let own = Plane(name: name, index: index)
            let members = etcdMembers.contains(own) ? etcdMembers : etcdMembers + [own]
            lines += [
                (
                    "ETCD_INITIAL_CLUSTER",
                    members.sorted { $0.index < $1.index }.map { "\($0.name)=\(EtcdPlan.peer(of: $0.index))" }
                        .joined(separator: ",")
                ),
                ("ETCD_INITIAL_CLUSTER_STATE", etcdExists ? "existing" : "new"),
                ("ETCD_SERVERS", "https://127.0.0.1:2379"),
            ]
        }
        return lines.map { "\($0.0)=\($0.1)\n" }.joined()
    }

    /// EncryptionConfiguration (apiserver.config.k8s.io/v1): no provider that would read what is not encrypted.
    private static func encryption(_ keys: PlaneKeys) -> Secret {
        keys.encryption.secret.base64.framed(
            #"{"apiVersion":"apiserver.config.k8s.io/v1","kind":"EncryptionConfiguration","resources":[{"providers":"#
                + #"[{"secretbox":{"keys":[{"name":"epoch-\#(keys.encryptionEpoch)","secret":""#,
            #""}]}}],"resources":["secrets"]}]}"# + "\n")
    }
}
