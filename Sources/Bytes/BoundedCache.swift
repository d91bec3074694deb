import Synchronization

/// A dictionary that forgets what was used longest ago; shared between threads.
public final class BoundedCache<Value: Sendable>: Sendable {
    private struct State {
        var entries: [[UInt8]: (value: Value, used: UInt64)] = [:]
        var clock: UInt64 = 0
    }
    private let state = Mutex(State())
    private let capacity: Int

    public init(capacity: Int) { self.capacity = max(1, capacity) }

    public var count: Int { state.withLock { $0.entries.count } }

    /// The value kept under `key`.
    public subscript(key: [UInt8]) -> Value? {
        state.withLock { state in
            state.clock &+= 1
            state.entries[key]?.used = state.clock
            return state.entries[key]?.value
        }
    }

    /// Keeps `value` under `key` in place of what was used longest ago.
    public func keep(_ value: Value, _ key: [UInt8]) {
        state.withLock { state in
            if state.entries[key] == nil, state.entries.count >= capacity,
                let oldest = state.entries.min(by: { $0.value.used < $1.value.used })
            {
                state.entries.removeValue(forKey: oldest.key)
            }
            state.clock &+= 1
            state.entries[key] = (value, state.clock)
        }
    }

    /// The value kept under `key`, or the one that `make` gives, which is then kept. `make` runs without the lock; two
    /// threads that miss at once both run it, which is harmless.
    public func value(_ key: [UInt8], make: () throws(Finding) -> Value) throws(Finding) -> Value {
        if let known = self[key] { return known }
        let made = try make()
        keep(made, key)
        return made
    }
}
