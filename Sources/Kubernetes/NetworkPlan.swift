import Bytes

/// What a node is in its cluster.
public enum NodeRole: String, Sendable, CaseIterable {
    case controlPlane = "control-plane"
    case worker
}

/// Which addresses a cluster uses, all of them computed from a node's index.
public enum NetworkPlan {
    /// One pod network of /24 each within `clusterRange`.
    public static let maximumNodes = 1024
    public static let meshRange = "10.200.0.0/16"
    public static let clusterRange = "10.244.0.0/14"
    public static let serviceRange = "10.96.0.0/16"
    /// The service `kubernetes`: the first address of the range.
    public static let apiService = IPAddress(10, 96, 0, 1)
    public static let clusterDNS = IPAddress(10, 96, 0, 10)
    public static let clusterDomain = "cluster.local"
    public static let wireGuardPort: UInt16 = 51820
    public static let apiPort: UInt16 = 6443
    public static let etcdPort: UInt16 = 2379
    /// 1500 less WireGuard's 80 bytes over IPv6.
    public static let maximumTransmissionUnit = 1420
}

/// A node's number in its cluster, from 1: it has it for as long as it is known, and nobody else does.
public struct NodeIndex: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let number: Int

    /// - Returns: `nil` for a number beyond the plan.
    public init?(_ number: Int) {
        guard (1...NetworkPlan.maximumNodes).contains(number) else { return nil }
        self.number = number
    }

    /// In the mesh, and the node's address for Kubernetes.
    public var address: IPAddress {
        IPAddress(10, 200, UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number))
    }

    /// Of the node's pods.
    public var podRange: String {
        let network = podNetwork
        return "\(network)/24"
    }

    /// The first address of `podRange`, with 0 at the end.
    public var podNetwork: IPAddress {
        let offset = number - 1
        return IPAddress(10, UInt8(244 + offset >> 8), UInt8(truncatingIfNeeded: offset), 0)
    }

    public var description: String { "\(number)" }
    public static func < (left: NodeIndex, right: NodeIndex) -> Bool { left.number < right.number }
}
