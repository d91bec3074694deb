import Bytes
import DiskFormat

/// An Event (core/v1) about a node, as `kubectl get events` and `kubectl describe node` show it.
public struct NodeEvent: Sendable, Equatable {
    /// Whose it is: the control plane that tells it.
    public let node: NodeName
    /// One word.
    public let reason: String
    public let message: String
    public let count: Int
    public let first: Instant
    public let last: Instant

    /// Where it is sent to. Events of what belongs to no namespace are in this one.
    public static let path = "/api/v1/namespaces/default/events"

    public init(node: NodeName, reason: String, message: String, count: Int, first: Instant, last: Instant) {
        self.node = node
        self.reason = reason
        self.message = message
        self.count = count
        self.first = first
        self.last = last
    }

    public var json: JSON {
        [
            "apiVersion": "v1", "kind": "Event",
            "metadata": ["generateName": .string("\(node)."), "namespace": "default"],
            // kubelet's own events name a node by its name in place of its uid.
            "involvedObject": [
                "apiVersion": "v1", "kind": "Node", "name": .string("\(node)"), "uid": .string("\(node)"),
            ],
            "type": "Warning", "reason": .string(reason), "message": .string(message),
            "source": ["component": "nacre", "host": .string("\(node)")], "count": .integer(Int128(count)),
            "firstTimestamp": .string("\(first)"), "lastTimestamp": .string("\(last)"),
        ]
    }
}
