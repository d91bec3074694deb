import Bytes

/// The connections that wait for their peer, by socket.
struct WaitingRoom {
    private var connections: [Int32: PendingConnection] = [:]

    var count: Int { connections.count }
    var isEmpty: Bool { connections.isEmpty }

    mutating func insert(_ connection: PendingConnection) {
        connections[connection.tls.socket] = connection
    }

    mutating func remove(_ socket: Int32) -> PendingConnection? { connections.removeValue(forKey: socket) }

    /// The one that has gone longest without getting anywhere.
    mutating func removeOldest() -> PendingConnection? {
        guard let oldest = connections.min(by: { $0.value.deadline < $1.value.deadline }) else {
            return nil
        }
        return remove(oldest.key)
    }

    /// Those whose deadline has passed.
    mutating func removeLate() -> [PendingConnection] {
        let late = connections.filter { $0.value.deadline.hasPassed }
        for socket in late.keys { connections[socket] = nil }
        return Array(late.values)
    }
}
