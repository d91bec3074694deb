import Glibc

/// Deterministic pseudo-random numbers (SplitMix64), so that a failing mutation can be run again from its seed.
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64
    public init(seed: UInt64) { state = seed }
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

/// One small random damage: a flipped bit, a replaced byte, a cut, a repeated or removed stretch.
public func mutate(_ bytes: [UInt8], with generator: inout SeededGenerator) -> [UInt8] {
    var result = bytes
    guard !bytes.isEmpty else { return [UInt8.random(in: 0...255, using: &generator)] }
    let index = Int.random(in: 0..<bytes.count, using: &generator)
    switch Int.random(in: 0..<8, using: &generator) {
    case 0: result.removeSubrange(index...)
    case 1: result.remove(at: index)
    case 2: result.insert(UInt8.random(in: 0...255, using: &generator), at: index)
    case 3: result[index] = UInt8.random(in: 0...255, using: &generator)
    case 4: result[index] = [0, 0xFF, 0x7F, 0x80].randomElement(using: &generator) ?? 0
    default: result[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
    }
    return result
}

/// How many mutations a test tries: `full` under `NACRE_MUTATIONS=full` (`make test-full`), which takes minutes in
/// unoptimised code; `quick` otherwise.
public func mutations(_ full: Int = 10_000, quick: Int) -> Int {
    guard let value = unsafe getenv("NACRE_MUTATIONS"), unsafe String(cString: value) == "full" else { return quick }
    return full
}
