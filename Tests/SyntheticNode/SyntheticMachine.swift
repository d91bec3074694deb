import Attestation
import Bytes
import Synchronization

/// A machine of a `SyntheticNode`'s registers that can be measured into and asked for evidence, by several threads.
public final class SyntheticMachine: Sendable {
    public struct Broken: Error {}

    private struct State {
        var node: SyntheticNode
        /// Anew after each event.
        var measured: SyntheticNode.Measured
        var cluster: ClusterIdentity?
        var ticks = 0
        var isBroken = false
    }
    private let state: Mutex<State>

    public init(_ node: SyntheticNode) { state = Mutex(State(node: node, measured: node.measured)) }

    /// A clock that moves on by one each time it is read.
    public func tick() -> Int {
        state.withLock {
            $0.ticks += 1
            return $0.ticks
        }
    }

    /// From now on nothing can be extended.
    public func breakTPM() { state.withLock { $0.isBroken = true } }

    /// How often register 15 was extended.
    public var clusters: Int {
        state.withLock { $0.node.events.count { $0.register == ClusterIdentity.register } }
    }

    public func measure(_ identity: ClusterIdentity) throws {
        try state.withLock { state in
            guard !state.isBroken else { throw Broken() }
            if state.cluster == identity { return }
            state.node.events.append(
                .init(ClusterIdentity.register, 0, identity.event, "cluster", phase: identity.event))
            state.measured = state.node.measured
            state.cluster = identity
        }
    }

    public func evidence(_ nonce: [UInt8]) throws -> Evidence {
        // The quote is signed outside of the lock.
        var (node, measured, cluster) = state.withLock { ($0.node, $0.measured, $0.cluster) }
        node.nonce = nonce
        var evidence = try node.evidence(measured)
        evidence.cluster = cluster
        return evidence
    }
}
