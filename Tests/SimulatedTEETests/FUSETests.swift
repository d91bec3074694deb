import Bytes
import Crypto
import Glibc
import Linux
import TPM
import TestKit
import Testing

@testable import SimulatedTEE

/// The protocol byte by byte, without a kernel: nothing that is read may trap, and nothing is answered beyond its bounds.
@Suite struct FUSETests {
    static func message(_ opcode: UInt32, node: UInt64 = 1, _ body: (inout ByteWriter) -> Void = { _ in }) -> [UInt8] {
        var inner = ByteWriter()
        body(&inner)
        var writer = ByteWriter()
        writer.le(UInt32(40 + inner.bytes.count))
        writer.le(opcode)
        writer.le(UInt64(77))
        writer.le(node)
        writer.zeros(16)
        writer.append(inner.bytes)
        return writer.bytes
    }

    static func named(_ opcode: UInt32, node: UInt64, _ name: String, skip: Int = 0) -> [UInt8] {
        message(opcode, node: node) { body in
            body.zeros(skip)
            body.append(Array(name.utf8) + [0])
        }
    }

    /// One of each kind, in an order in which all of them succeed.
    static let session: [[UInt8]] = [
        message(26) { body in for word in [7, 45, 1 << 17, 0] as [UInt32] { body.le(word) } },
        named(1, node: 1, "tsm"), message(3, node: 1), named(9, node: 3, "a", skip: 8),
        named(1, node: 16, "inblob"), message(27, node: 3) { $0.zeros(8) },
        message(28, node: 3) { body in
            body.zeros(16)
            body.le(UInt32(4096))
            body.zeros(20)
        },
        message(14, node: 16 + 8) { body in
            body.le(UInt32(O_WRONLY))
            body.zeros(4)
        },
        message(16, node: 16 + 8) { body in
            body.le(UInt64(1))
            body.zeros(8)
            body.le(UInt32(64))
            body.zeros(20)
            body.append([UInt8](repeating: 9, count: 64))
        },
        message(25, node: 16 + 8) { body in
            body.le(UInt64(1))
            body.zeros(16)
        },
        message(18, node: 16 + 8) { body in
            body.le(UInt64(1))
            body.zeros(16)
        },
        message(14, node: 16 + 9) { $0.zeros(8) },
        message(15, node: 16 + 9) { body in
            body.le(UInt64(2))
            body.zeros(8)
            body.le(UInt32(4096))
            body.zeros(20)
        },
        message(17), message(4, node: 16 + 8) { $0.zeros(88) }, message(30), named(11, node: 3, "a"),
    ]

    /// Answers with what it was asked.
    struct Echo: ReportProvider {
        let name = "tdx_guest"
        let hasPrivilegeLevels = true
        let hasServices = true
        func registers() -> [[UInt8]] { SimulatedTDX.zeroRegisters }
        func report(_ request: ReportTree.Request) -> ReportTree.Answer { .init(report: request.data) }
    }

    private func tree() -> FUSETree { FUSETree(ReportTree(Echo()), path: SimulatedMount.configFSPath) }

    private func error(_ answer: [UInt8]?) throws -> Int32 {
        var reader = ByteReader(try #require(answer))
        #expect(try reader.le(UInt32.self, "len") == UInt32(answer?.count ?? 0))
        let code = try reader.le(UInt32.self, "error")
        #expect(try reader.le(UInt64.self, "unique") == 77)
        return Int32(bitPattern: code)
    }

    @Test func `a session from the first word to the last report`() throws {
        var tree = tree()
        for (number, message) in Self.session.enumerated() {
            let answer = try tree.answer(message)
            #expect(try error(answer) == 0, "message \(number)")
            switch number {
            case 0: #expect(answer?.count == 16 + 64)
            case 1, 3, 4: #expect(answer?.count == 16 + 128)
            case 2: #expect(answer?.count == 16 + 104)
            case 12: #expect(answer?.suffix(64) == ArraySlice([UInt8](repeating: 9, count: 64)))
            case 13: #expect(answer?.count == 16 + 80)
            default: break
            }
        }
        #expect(try tree.answer(Self.message(2)) == nil, "FORGET wants no answer")
        #expect(try error(tree.answer(Self.message(99))) == -ENOSYS)
        #expect(try error(tree.answer(Self.message(3, node: 16))) == -ENOENT, "removed, and its number not used again")
    }

    @Test func `an older kernel is refused, names have bounds`() throws {
        var tree = tree()
        let old = Self.message(26) { body in for word in [6, 1, 0, 0] as [UInt32] { body.le(word) } }
        #expect(try error(tree.answer(old)) == -EPROTO)
        for name in ["", ".", "..", "a/b", String(repeating: "x", count: 256)] {
            #expect(throws: ParseError.self) { try FUSERequest.parse(Self.named(9, node: 3, name, skip: 8)) }
        }
        #expect(throws: ParseError.self) { try FUSERequest.parse(Self.message(1) { $0.append([0x61]) }) }
    }

    @Test func `requests and handles are bounded`() throws {
        var tree = tree()
        for number in 0..<ReportTree.maximumEntries {
            #expect(try error(tree.answer(Self.named(9, node: 3, "r\(number)", skip: 8))) == 0)
        }
        #expect(try error(tree.answer(Self.named(9, node: 3, "more", skip: 8))) == -ENOSPC)
        var failure: Int32 = 0
        for _ in 0..<2000 where failure == 0 {
            failure = try error(tree.answer(Self.message(14, node: 17) { $0.zeros(8) }))
        }
        #expect(failure == -ENFILE)
    }

    @Test func `cut anywhere, a message is refused`() throws {
        for message in Self.session {
            for count in 0..<message.count {
                #expect(throws: ParseError.self) { try FUSERequest.parse(Array(message.prefix(count))) }
            }
        }
    }

    @Test func `damaged messages are answered or refused, never trapped on`() throws {
        var generator = SeededGenerator(seed: 4)
        var tree = tree()
        var answered = 0
        for _ in 0..<mutations(1_000_000, quick: 30_000) {
            var message = mutate(
                try #require(Self.session.randomElement(using: &generator)), with: &generator)
            // The length must agree for anything behind it to be looked at.
            if message.count >= 4, Bool.random(using: &generator) {
                message.replaceSubrange(
                    0..<4, with: (0..<4).map { UInt8(truncatingIfNeeded: message.count >> (8 * $0)) })
            }
            if let answer = try? tree.answer(message) {
                answered += 1
                #expect(answer.count <= 1 << 17)
            }
        }
        #expect(answered > 0)
    }

    @Test func `RTMRs are read and extended as through tsm-mr`() throws {
        var tree = ReportTree(Echo())
        let digest = HashAlgorithm.sha384.hash([1])
        try tree.extend(3, by: digest)
        try tree.extend(3, by: digest)
        let zero = [UInt8](repeating: 0, count: 48)
        let once = HashAlgorithm.sha384.hash(zero + digest)
        #expect(try tree.registers() == [zero, zero, zero, HashAlgorithm.sha384.hash(once + digest)])
        #expect(throws: SystemError.self) { try tree.extend(4, by: digest) }
        #expect(throws: SystemError.self) { try tree.extend(3, by: [1]) }
    }

    @Test func `a TPM's log replays to RTMRs, one separator for each`() throws {
        let events: [(Int, EventType, [UInt8])] =
            [(0, .crtmVersion, [1]), (7, .variableDriverConfig, [2]), (4, .efiAction, [3])]
            + (0...7).map { ($0, .separator, [0, 0, 0, 0]) }
            + [(4, .bootServicesApplication, [4]), (5, .gptEvent, [5]), (9, .eventTag, [6]), (11, .ipl, [7])]
        var log = ByteWriter()
        var header = ByteWriter()
        header.append(Array("Spec ID Event03\0".utf8))
        header.zeros(4)
        header.append([0, 2, 0, 2, 1, 0, 0, 0, 0x0C, 0, 48, 0, 0] as [UInt8])
        log.le(UInt32(0))
        log.le(UInt32(3))
        log.zeros(20)
        log.le(UInt32(header.bytes.count))
        log.append(header.bytes)
        for (register, type, data) in events {
            log.le(UInt32(register))
            log.le(type.rawValue)
            log.le(UInt32(1))
            log.le(UInt16(0x0C))
            log.append(HashAlgorithm.sha384.hash(data))
            log.le(UInt32(data.count))
            log.append(data)
        }
        func extended(_ parts: [[UInt8]]) -> [UInt8] {
            parts.reduce([UInt8](repeating: 0, count: 48)) {
                HashAlgorithm.sha384.hash($0 + HashAlgorithm.sha384.hash($1))
            }
        }
        let separator: [UInt8] = [0, 0, 0, 0]
        #expect(
            SimulatedTDX.registers(replaying: try EventLog(parsing: log.bytes)) == [
                extended([[2], separator]), extended([[3], separator, [4], [5]]), extended([[6], [7]]), extended([]),
            ])
    }
}
