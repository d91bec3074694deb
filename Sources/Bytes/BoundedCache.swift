import Synchronization

/// A dictionary that forgets what was used longest ago; shared between threads. Every operation takes the same time however
/// much is kept: strangers who bring something new each time must not cost more than others.
public final class BoundedCache<Value: Sendable>: Sendable {
    /// What is kept, with what the list of its kind does not know of.
    private final class Entry: CacheEntry {
        var value: Value

        init(_ value: Value, _ key: CacheKey) {
            self.value = value
            super.init(key)
        }
    }
    private let state = Mutex(CacheEntries())
    private let capacity: Int

    public init(capacity: Int) { self.capacity = max(1, capacity) }

    public var count: Int { state.withLock { $0.count } }

    /// The value kept under `key`.
    public subscript(key: [UInt8]) -> Value? {
        state.withLock { ($0.use(CacheKey(bytes: key)) as? Entry)?.value }
    }

    /// Keeps `value` under `key` in place of what was used longest ago.
    public func keep(_ value: Value, _ key: [UInt8]) {
        let key = CacheKey(bytes: key)
        state.withLock { state in
            if let entry = state.use(key) as? Entry {
                entry.value = value
                return
            }
            if state.count >= capacity { state.removeOldest() }
            state.insert(Entry(value, key))
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

/// Hashed as one run of bytes: an array of bytes feeds them to the hash function one by one.
private struct CacheKey: Hashable {
    let bytes: [UInt8]

    func hash(into hasher: inout Hasher) {
        unsafe bytes.withUnsafeBytes { unsafe hasher.combine(bytes: $0) }
    }
}

/// Not generic, so that looking one up is not either. Owned by the dictionary, not by its neighbours.
private class CacheEntry {
    let key: CacheKey
    unowned var older: CacheEntry?
    unowned var newer: CacheEntry?

    init(_ key: CacheKey) { self.key = key }
}

/// Entries by key and, in a list, by when they were used.
private struct CacheEntries {
    private var entries: [CacheKey: CacheEntry] = [:]
    private unowned var oldest: CacheEntry?
    private unowned var newest: CacheEntry?

    var count: Int { entries.count }

    /// The entry under `key`, from now on the one used last.
    mutating func use(_ key: CacheKey) -> CacheEntry? {
        guard let entry = entries[key] else { return nil }
        guard entry !== newest else { return entry }
        unlink(entry)
        link(entry)
        return entry
    }

    /// Adds an entry whose key is not there.
    mutating func insert(_ entry: CacheEntry) {
        entries[entry.key] = entry
        link(entry)
    }

    mutating func removeOldest() {
        guard let oldest else { return }
        unlink(oldest)
        entries[oldest.key] = nil
    }

    private mutating func link(_ entry: CacheEntry) {
        (entry.older, entry.newer) = (newest, nil)
        newest?.newer = entry
        newest = entry
        if oldest == nil { oldest = entry }
    }

    private mutating func unlink(_ entry: CacheEntry) {
        if let older = entry.older { older.newer = entry.newer } else { oldest = entry.newer }
        if let newer = entry.newer { newer.older = entry.older } else { newest = entry.older }
    }
}
