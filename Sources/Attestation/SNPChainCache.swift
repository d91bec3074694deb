import SEVSNP
import Synchronization

/// Chains that were verified, by the exact bytes they were verified from: a report under a known chain costs one
/// P-384 verification. Bounded in number and size; the least recently used goes first. Failures are not kept.
final class SNPChainCache: Sendable {
    static let shared = SNPChainCache(capacity: 64)
    /// Inputs longer than this together are verified anew each time.
    static let maximumKeySize = 1 << 17

    struct Key: Hashable, Sendable {
        let vek: [UInt8]
        let chain: [UInt8]?
        let roots: [UInt8]?
        let revocationList: [UInt8]?

        init(_ evidence: SNPEvidence) {
            vek = evidence.vek
            chain = evidence.chain
            roots = evidence.roots
            revocationList = evidence.revocationList
        }

        var size: Int {
            vek.count + (chain?.count ?? 0) + (roots?.count ?? 0) + (revocationList?.count ?? 0)
        }

        /// The end of a certificate is its signature, as good as random; comparing does the rest, and the bound on
        /// entries bounds what somebody can do who makes them collide.
        func hash(into hasher: inout Hasher) {
            for byte in vek.suffix(16) { hasher.combine(byte) }
        }
    }

    private struct Entry {
        let chain: VerifiedChain
        var lastUse: UInt64
    }

    private struct State {
        var entries: [Key: Entry] = [:]
        var clock: UInt64 = 0
    }

    private let state = Mutex(State())
    private let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    subscript(key: Key) -> VerifiedChain? {
        get {
            state.withLock { state in
                state.clock &+= 1
                guard let index = state.entries.index(forKey: key) else { return nil }
                state.entries.values[index].lastUse = state.clock
                return state.entries.values[index].chain
            }
        }
        set {
            guard let newValue, key.size <= Self.maximumKeySize else { return }
            state.withLock { state in
                state.clock &+= 1
                state.entries[key] = Entry(chain: newValue, lastUse: state.clock)
                if state.entries.count > capacity,
                    let oldest = state.entries.min(by: { $0.value.lastUse < $1.value.lastUse })
                {
                    state.entries[oldest.key] = nil
                }
            }
        }
    }

    /// How many chains are kept.
    var count: Int { state.withLock { $0.entries.count } }
}
