/// The services of a node, which none but the bootstrapper starts.
public enum NodeUnit: String, Sendable, CaseIterable {
    case firewall = "nacre-firewall.service"
    case mesh = "nacre-mesh.service"
    case containerd = "containerd.service"
    case images = "nacre-images.service"
    case etcd = "etcd.service"
    case apiServer = "kube-apiserver.service"
    case controllerManager = "kube-controller-manager.service"
    case scheduler = "kube-scheduler.service"
    case kubelet = "kubelet.service"
    case kubeProxy = "kube-proxy.service"
    case dns = "nacre-dns.service"

    /// In the order in which they are started. Each is started as soon as all of `waits` are active: what does not wait for
    /// another starts beside it.
    public static func order(for role: NodeRole) -> [NodeUnit] {
        let plane: Set<NodeUnit> = [.etcd, .apiServer, .controllerManager, .scheduler]
        return allCases.filter { role == .controlPlane || !plane.contains($0) }
    }

    /// Units that have to be active before this one is started.
    ///
    /// Nothing leaves the node before the firewall stands. kubelet and kube-proxy listen on, or talk through, the mesh, but
    /// do not wait for the API server: they try again by themselves, and a worker has none to wait for.
    public var waits: [NodeUnit] {
        switch self {
        case .firewall: []
        case .mesh, .containerd: [.firewall]
        case .images: [.containerd]
        case .etcd, .kubeProxy, .dns: [.mesh]
        case .apiServer: [.etcd]
        case .controllerManager, .scheduler: [.apiServer]
        case .kubelet: [.mesh, .images]
        }
    }

    /// What has to happen to a running unit once the node has new certificates.
    public enum Renewal: Sendable, Equatable {
        case nothing
        /// Reads its files once, at its start; whatever it manages goes on meanwhile.
        case restart
    }

    public var renewal: Renewal {
        switch self {
        case .firewall, .mesh, .containerd, .images: .nothing
        case .etcd, .apiServer, .controllerManager, .scheduler, .kubelet, .kubeProxy, .dns: .restart
        }
    }

    /// What reads once, at its start, which API server to ask. Pods go on meanwhile.
    public static let restartedForAPIServer: [NodeUnit] = [.kubelet, .kubeProxy]

    /// What has to happen once peers have changed: only the mesh is told, by a reload that drops no connection.
    public static let reloadedForPeers = NodeUnit.mesh
}
