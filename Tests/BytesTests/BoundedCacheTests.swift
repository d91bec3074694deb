import Bytes
import Testing

/// What is kept is bounded; what was used longest ago goes.
@Suite struct BoundedCacheTests {
    @Test func `the entry used longest ago makes room`() {
        let cache = BoundedCache<Int>(capacity: 3)
        for number: UInt8 in 1...3 { cache.keep(Int(number), [number]) }
        #expect(cache[[1]] == 1)
        cache.keep(4, [4])
        #expect(cache.count == 3)
        #expect(cache[[2]] == nil)
        #expect([cache[[1]], cache[[3]], cache[[4]]] == [1, 3, 4])
        cache.keep(5, [4])
        #expect(cache.count == 3)
        #expect(cache[[4]] == 5)
    }

    @Test func `what could not be made is not kept`() throws {
        let cache = BoundedCache<Int>(capacity: 2)
        #expect(throws: Finding.self) {
            try cache.value([1]) { () throws(Finding) -> Int in throw Finding("nonce", claim: "test") }
        }
        #expect(cache.count == 0)
        #expect(try cache.value([1]) { 7 } == 7)
        #expect(try cache.value([1]) { 8 } == 7)
    }

    /// Against a list that is searched: every order of use and of making room.
    @Test func `the order is that of use`() {
        for capacity in 1...5 {
            let cache = BoundedCache<Int>(capacity: capacity)
            var model: [(key: UInt8, value: Int)] = []
            var seed: UInt32 = 7
            for step in 0..<2000 {
                seed = seed &* 1_664_525 &+ 1_013_904_223
                let key = UInt8(seed >> 24) % 8
                let place = model.firstIndex { $0.key == key }
                if seed >> 16 & 1 == 0 {
                    #expect(cache[[key]] == place.map { model[$0].value })
                    if let place { model.append(model.remove(at: place)) }
                } else {
                    cache.keep(step, [key])
                    if let place { model.remove(at: place) } else if model.count == capacity { model.removeFirst() }
                    model.append((key, step))
                }
                #expect(cache.count == model.count)
            }
        }
    }
}
