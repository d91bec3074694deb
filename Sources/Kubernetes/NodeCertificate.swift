import Bytes
import Crypto
import DiskFormat

/// Whose word a certificate rests on.
public enum ClusterAuthorityName: String, Sendable, CaseIterable {
    /// The API server and kubelets to those who ask them; and the owner.
    case kubernetes
    /// A node to the API server. Each node has one of its own: the API server lets in whoever has a certificate by one of
    /// those that it is told of, and a revoked node's is not among them.
    case client
    /// API servers to kubelets, and to nobody else.
    case kubeletClient = "kubelet-client"
    /// Members of etcd and who may ask it.
    case etcd
    /// Who may speak to aggregated API servers in others' names.
    case frontProxy = "front-proxy"
    /// Nodes among themselves, on the attested channel; known to no component of Kubernetes, in no file.
    case mesh

    /// The subject of its certificates; `epoch` tells one key from the next.
    public func commonName(epoch: Int) -> String { "nacre-\(rawValue)-\(epoch)" }

    /// The subject of a node's own authority `client`. By the index, which is short: the API server tells everybody who
    /// connects the names of all authorities that it knows, in an extension of at most 64 KiB (RFC 8446 §4.2.4).
    public static func clientName(of index: NodeIndex, epoch: Int) -> String {
        "nacre-\(client.rawValue)-\(index)-\(epoch)"
    }

    /// The file below `pki/` that others check by; `nil` where no file is needed.
    public var file: String? {
        switch self {
        case .kubernetes: "ca.crt"
        case .kubeletClient: "kubelet-client-ca.crt"
        case .etcd: "etcd-ca.crt"
        case .frontProxy: "front-proxy-ca.crt"
        case .mesh, .client: nil
        }
    }

    /// What a node of a role checks others by.
    public static func known(to role: NodeRole) -> [ClusterAuthorityName] {
        role == .controlPlane ? allCases : [.kubernetes, .client, .kubeletClient, .mesh]
    }
}

/// The certificates of a node, by the name of their files.
public enum NodeCertificate: String, Sendable, CaseIterable {
    case mesh
    case kubelet
    case kubeletServer = "kubelet-server"
    case kubeProxy = "kube-proxy"
    case dns
    case apiServer = "apiserver"
    case apiServerKubeletClient = "apiserver-kubelet-client"
    case apiServerEtcdClient = "apiserver-etcd-client"
    case etcdServer = "etcd-server"
    case etcdPeer = "etcd-peer"
    case frontProxyClient = "front-proxy-client"
    case controllerManager = "controller-manager"
    case scheduler
    case controllerManagerServer = "controller-manager-server"
    case schedulerServer = "scheduler-server"

    /// What a node of a role may have, and nothing else.
    public static func allowed(for role: NodeRole) -> [NodeCertificate] {
        role == .controlPlane ? allCases : [.mesh, .kubelet, .kubeletServer, .kubeProxy, .dns]
    }

    public var authority: ClusterAuthorityName {
        switch self {
        case .mesh: .mesh
        case .kubelet, .kubeProxy, .dns, .controllerManager, .scheduler: .client
        case .apiServerKubeletClient: .kubeletClient
        case .apiServerEtcdClient, .etcdServer, .etcdPeer: .etcd
        case .frontProxyClient: .frontProxy
        case .kubeletServer, .apiServer, .controllerManagerServer, .schedulerServer: .kubernetes
        }
    }

    /// The bootstrapper keeps this one to itself.
    public var isFile: Bool { self != .mesh }

    /// The group of every client certificate of a node, by which all of them can be refused at once.
    public static func group(of node: NodeName) -> String { "nacre:node:\(node)" }
    /// The longest name for which every subject fits into a certificate (RFC 5280, ub-common-name).
    public static let maximumNodeName = 64 - "system:node:".utf8.count

    /// What the certificate of `node` is to say. Everything in it comes from the cluster's policy, nothing from the request.
    ///
    /// - Parameter apiNames: further names and addresses of the API server, by the owner's word.
    public func template(
        node: NodeName, index: NodeIndex, apiNames: [CertificateTemplate.Name] = [], notBefore: Instant,
        notAfter: Instant
    ) -> CertificateTemplate {
        let group = Self.group(of: node)
        let local: [CertificateTemplate.Name] = [.dns("localhost"), .ip(IPAddress(127, 0, 0, 1))]
        let own: [CertificateTemplate.Name] = [.dns(node.description), .ip(index.address)]
        func make(
            _ commonName: String, _ organizations: [String], _ purpose: CertificateTemplate.Purpose,
            _ names: [CertificateTemplate.Name] = []
        ) -> CertificateTemplate {
            var different: [CertificateTemplate.Name] = []
            for name in names where !different.contains(name) { different.append(name) }
            return CertificateTemplate(
                commonName: commonName, organizations: organizations, names: different, purpose: purpose,
                notBefore: notBefore, notAfter: notAfter)
        }
        switch self {
        case .mesh: return make("\(node)", [], .peer)
        case .kubelet: return make("system:node:\(node)", ["system:nodes", group], .client)
        case .kubeletServer: return make("system:node:\(node)", ["system:nodes"], .server, own)
        case .kubeProxy: return make("system:kube-proxy", [group], .client)
        case .dns: return make("nacre:dns", [group], .client)
        case .apiServer:
            let service = "kubernetes.default.svc"
            let names = ["kubernetes", "kubernetes.default", service, "\(service).\(NetworkPlan.clusterDomain)"]
            return make(
                "kube-apiserver", [], .server,
                names.map { .dns($0) } + [.ip(NetworkPlan.apiService)] + own + local + apiNames)
        case .apiServerKubeletClient: return make("kube-apiserver-kubelet-client", ["system:masters", group], .client)
        case .apiServerEtcdClient: return make("kube-apiserver-etcd-client", [group], .client)
        case .etcdServer: return make("\(node)", [], .peer, own + local)
        case .etcdPeer: return make("\(node)", [], .peer, own + local)
        case .frontProxyClient: return make("front-proxy-client", [], .client)
        case .controllerManager: return make("system:kube-controller-manager", [group], .client)
        case .scheduler: return make("system:kube-scheduler", [group], .client)
        case .controllerManagerServer: return make("kube-controller-manager", [], .server, own + local)
        case .schedulerServer: return make("kube-scheduler", [], .server, own + local)
        }
    }
}
