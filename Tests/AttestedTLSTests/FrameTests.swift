import Bytes
import Testing

@testable import AttestedTLS

@Suite struct FrameTests {
    @Test(arguments: FrameKind.allCases) func roundTrip(kind: FrameKind) throws {
        let payload = [UInt8](repeating: 7, count: min(kind.limit, 70_000))
        let frame = try Frame(kind, payload)
        var reader = FrameReader()
        // Byte by byte, as the slowest peer sends it.
        for (index, byte) in frame.bytes.enumerated() {
            let read = try reader.add([byte], expecting: [kind])
            #expect((read == frame) == (index == frame.bytes.count - 1))
        }
        #expect(try reader.missing(expecting: [kind]) == Frame.headerSize)
    }

    @Test(arguments: FrameKind.allCases) func oneByteTooLongIsRefusedByItsHeader(kind: FrameKind) throws {
        #expect(throws: ParseError.self) { try Frame(kind, [UInt8](repeating: 0, count: kind.limit + 1)) }
        var writer = ByteWriter()
        writer.u8(kind.rawValue)
        writer.be(UInt32(kind.limit + 1))
        var reader = FrameReader()
        #expect(throws: ParseError.self) { try reader.add(writer.bytes, expecting: [kind]) }
    }

    @Test func onlyWhatTheProtocolExpects() throws {
        for kind in FrameKind.allCases {
            for expected in FrameKind.allCases where expected != kind {
                var reader = FrameReader()
                #expect(throws: ParseError.self) { try reader.add([kind.rawValue], expecting: [expected]) }
            }
        }
        for byte: UInt8 in [0, 6, 7, 255] {
            var reader = FrameReader()
            #expect(throws: ParseError.self) { try reader.add([byte], expecting: Set(FrameKind.allCases)) }
        }
    }

    @Test func helloRoundTripTruncationAndBitFlips() throws {
        let hello = try Hello(purpose: "join", clusterID: Array(0..<32))
        #expect(try Hello(parsing: hello.bytes) == hello)
        for count in 0..<hello.bytes.count {
            #expect(throws: ParseError.self) { try Hello(parsing: Array(hello.bytes.prefix(count))) }
        }
        #expect(throws: ParseError.self) { try Hello(parsing: hello.bytes + [0]) }
        for index in hello.bytes.indices {
            for bit in 0..<8 {
                var changed = hello.bytes
                changed[index] ^= 1 << bit
                let parsed = try? Hello(parsing: changed)
                // Never the same meaning from other bytes.
                #expect(parsed != hello)
            }
        }
        #expect(throws: ParseError.self) { try Hello(purpose: "Join") }
        #expect(throws: ParseError.self) { try Hello(purpose: "") }
        #expect(throws: ParseError.self) { try Hello(purpose: "join", clusterID: [1]) }
    }

    @Test func refusalsSayAWordAndNothingElse() {
        #expect(ChannelRefusal("register-mismatch").reason == "register-mismatch")
        for text in ["", "Expected 4f", "a\nb", String(repeating: "a", count: 65), "tpm.4"] {
            #expect(ChannelRefusal(text).reason == "internal")
            #expect(ChannelRefusal.reason(parsing: Array(text.utf8)) == nil)
        }
    }
}
