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
}
