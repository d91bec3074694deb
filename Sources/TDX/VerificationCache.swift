import Bytes
import Crypto
import Synchronization

/// Results of checks that hold at any time, by the digest of what was checked: chains, collateral and attestation keys
/// whose signatures were verified. Only successes are kept; dates and revocation are never part of what is kept.
///
/// Bounded and shared between threads; when full, the entry used longest ago goes.
public final class VerificationCache: Sendable {
    let anchors: BoundedCache<TrustAnchor>
    let chains: BoundedCache<CheckedPCKChain>
    let collateral: BoundedCache<CheckedCollateral>
    /// Attestation keys that a quoting enclave vouched for under a PCK; one serves every quote of a machine until its
    /// quoting enclave makes a new one.
    let attestationKeys: BoundedCache<PublicKey>

    /// - Parameter capacity: entries of each kind; collateral takes up to some hundred KiB each once parsed.
    public init(capacity: Int = 64) {
        anchors = BoundedCache(capacity: 8)
        chains = BoundedCache(capacity: capacity * 4)
        collateral = BoundedCache(capacity: capacity)
        attestationKeys = BoundedCache(capacity: capacity * 4)
    }
}

/// A dictionary that forgets what was used longest ago.
final class BoundedCache<Value: Sendable>: Sendable {
    private struct State {
        var entries: [[UInt8]: (value: Value, used: UInt64)] = [:]
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())
    private let capacity: Int

    init(capacity: Int) { self.capacity = max(1, capacity) }

    var count: Int { state.withLock { $0.entries.count } }

    /// The value kept under `key`, or the one that `make` gives, which is then kept. `make` runs without the lock; two
    /// threads that miss at once both run it, which is harmless.
    func value(_ key: [UInt8], make: () throws(Finding) -> Value) throws(Finding) -> Value {
        let known: Value? = state.withLock { state in
            state.clock &+= 1
            state.entries[key]?.used = state.clock
            return state.entries[key]?.value
        }
        if let known { return known }
        let made = try make()
        state.withLock { state in
            if state.entries.count >= capacity, let oldest = state.entries.min(by: { $0.value.used < $1.value.used }) {
                state.entries.removeValue(forKey: oldest.key)
            }
            state.entries[key] = (made, state.clock)
        }
        return made
    }
}
