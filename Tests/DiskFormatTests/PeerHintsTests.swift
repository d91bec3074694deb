import Bytes
import TestKit
import Testing

@testable import DiskFormat

@Suite("Whom a restarted node asks, on the raw disk")
struct PeerHintsTests {
    private let peers = (0..<PeerEndpoint.maximumCount).map {
        PeerEndpoint(host: "10.0.2.\($0)", port: UInt16(9001 + $0))
    }

    @Test("what is written is read again, from none to as many as there may be")
    func roundTrip() throws {
        for count in [0, 1, peers.count] {
            let bytes = try PeerHints.bytes(Array(peers.prefix(count)))
            #expect(bytes.count == DiskLayout.hintsSize)
            #expect(try PeerHints.parse(bytes) == Array(peers.prefix(count)))
        }
        #expect(throws: ParseError.self) { try PeerHints.bytes(peers + [PeerEndpoint(host: "a", port: 1)]) }
        let long = (0..<16).map { PeerEndpoint(host: String(repeating: "a", count: 250) + ".\($0 % 10)", port: 1) }
        #expect(throws: ParseError.self) { try PeerHints.bytes(long) }
    }

    @Test("any flipped bit, any torn end and an empty place are no hints")
    func damaged() throws {
        let bytes = try PeerHints.bytes(peers)
        for index in bytes.indices {
            var changed = bytes
            changed[index] ^= 1 << UInt8(index % 8)
            #expect(throws: ParseError.self, "byte \(index)") { try PeerHints.parse(changed) }
        }
        let old = try PeerHints.bytes([PeerEndpoint(host: "b", port: 2)])
        let used = 12 + bytes[8..<12].reduce(0) { $0 << 8 | Int($1) } + 32
        for count in stride(from: 1, to: used, by: 7) {
            let torn = Array(bytes.prefix(count) + old.dropFirst(count))
            if torn == old { continue }
            #expect(throws: ParseError.self, "torn at \(count)") { try PeerHints.parse(torn) }
        }
        #expect(throws: ParseError.self) { try PeerHints.parse([UInt8](repeating: 0, count: DiskLayout.hintsSize)) }
        #expect(throws: ParseError.self) { try PeerHints.parse([]) }
    }

    @Test("peers are hosts in lower case with a port, none twice")
    func strict() {
        for (host, port) in [("", 1), ("A", 1), ("a b", 1), ("a", 0), ("a", 65_536), ("a/", 1)] {
            #expect(throws: ParseError.self, "\(host) \(port)") {
                try PeerEndpoint(json: ["host": .string(host), "port": .integer(Int128(port))], path: "peer")
            }
        }
        #expect(throws: ParseError.self) { try PeerEndpoint(json: ["host": "a", "port": 1, "x": 1], path: "peer") }
        let twice = [peers[0].json, peers[0].json]
        #expect(throws: ParseError.self) { try PeerEndpoint.list(twice, path: "peers") }
        #expect(throws: ParseError.self) {
            try PeerEndpoint.list((0..<17).map { PeerEndpoint(host: "h\($0)", port: 1).json }, path: "peers")
        }
    }

    @Test("they lie where a format clears and no keyslot is")
    func place() {
        #expect(DiskLayout.hintsOffset >= DiskLayout.keyslotsEnd)
        #expect(DiskLayout.hintsOffset + DiskLayout.hintsSize <= DiskLayout.clearedSize)
    }
}
