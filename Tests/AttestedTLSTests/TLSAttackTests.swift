import Bytes
import CLinux
import Crypto
import Glibc
import TestKit
import Testing

@testable import AttestedTLS

/// What openssl's own client, and clients that hold still, get from the server.
@Suite(.serialized) struct TLSAttackTests {
    private func client(_ pair: Pair, _ arguments: [String]) throws -> (Tool.Output, TemporaryFolder)? {
        guard let openssl = Tool.find("openssl") else {
            print("skipped: openssl is missing")
            return nil
        }
        let folder = try TemporaryFolder()
        _ = try Tool.run([
            openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=x",
            "-keyout", "\(folder.path)/key", "-out", "\(folder.path)/cert",
        ])
        let files = arguments.map { $0.replacing("DIR", with: folder.path) }
        return (
            try Tool.run(
                [openssl, "s_client", "-connect", "127.0.0.1:\(pair.server.port)", "-brief"] + files, input: []), folder
        )
    }

    private static let identity = ["-cert", "DIR/cert", "-key", "DIR/key"]

    @Test func anyCertificateOpensTLS() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        guard let (result, _) = try client(pair, Self.identity) else { return }
        #expect((result.text + result.errors).contains("Protocol version: TLSv1.3"))
    }

    @Test(arguments: ["-tls1_2", "-tls1_1"]) func olderVersionsAreRefused(version: String) throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        guard let (result, _) = try client(pair, Self.identity + [version]) else { return }
        #expect(result.status != 0)
        #expect(!(result.text + result.errors).contains("CONNECTION ESTABLISHED"))
    }

    @Test func aClientWithoutAKeyIsRefused() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        guard try client(pair, []) != nil else { return }
        guard case .connection(let text)? = pair.serverFailure() else {
            Issue.record("the server logged nothing")
            return
        }
        #expect(text.contains("certificate"))
    }

    /// No ticket is ever handed out, so that there is no session to resume and none that early data could ride on.
    @Test func noResumptionNoEarlyData() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        guard let openssl = Tool.find("openssl"),
            let (_, folder) = try client(pair, Self.identity + ["-sess_out", "DIR/session"])
        else { return }
        let session = "\(folder.path)/session"
        if unsafe access(session, F_OK) == 0 {
            let again = try Tool.run(
                [
                    openssl, "s_client", "-connect", "127.0.0.1:\(pair.server.port)", "-sess_in", session, "-cert",
                    "\(folder.path)/cert", "-key", "\(folder.path)/key",
                ], input: [])
            #expect(!again.text.contains("Reused, TLSv1.3"))
            #expect(!again.text.contains("Early data was accepted"))
            #expect(again.text.contains("New, TLSv1.3"))
        }
    }

    @Test func thousandsOfIdleAndSlowClientsStarveNobody() throws {
        var limit = rlimit()
        _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        limit.rlim_cur = min(limit.rlim_max, 16384)
        _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        let count = min(3000, Int(limit.rlim_cur) / 3)
        var limits = ChannelLimits()
        limits.pending = count / 2
        limits.workers = 2
        let pair = try Pair(limits: limits)
        defer { pair.server.stop() }
        var idle: [Int32] = []
        defer { for descriptor in idle { Glibc.close(descriptor) } }
        for index in 0..<count {
            let socket = try StreamSocket(
                connectingTo: "127.0.0.1", port: pair.server.port, deadline: .seconds(20))
            let descriptor = socket.release()
            idle.append(descriptor)
            // Every second one has begun to say something: a handshake record of 512 bytes that never ends.
            let beginning: [UInt8] = [0x16, 3, 1, 2, 0, 1]
            if index.isMultiple(of: 2) { _ = unsafe send(descriptor, beginning, beginning.count, Int32(MSG_NOSIGNAL)) }
        }
        for _ in 0..<5 {
            let connection = try pair.connect(deadline: .seconds(20))
            try connection.send([1], deadline: .seconds(10))
            #expect(try connection.receive(deadline: .seconds(10)) == [1, 7])
            connection.close()
        }
        // Those beyond the limit were sent away, the oldest first.
        #expect(pair.service.failures.withLock { $0.count } >= count - limits.pending - 8)
    }

    @Test func aPeerThatHoldsStillIsSentAway() throws {
        var limits = ChannelLimits()
        limits.step = 200
        let pair = try Pair(limits: limits)
        defer { pair.server.stop() }
        let socket = try StreamSocket(connectingTo: "127.0.0.1", port: pair.server.port, deadline: .seconds(10))
        #expect(pair.serverFailure() == .timeout("answer"))
        _ = socket.descriptor
    }

    @Test func nothingButTLSAndNothingButFrames() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        let socket = try StreamSocket(connectingTo: "127.0.0.1", port: pair.server.port, deadline: .seconds(10))
        let request = Array("GET / HTTP/1.0\r\n\r\n".utf8)
        _ = unsafe send(socket.descriptor, request, request.count, 0)
        guard case .connection? = pair.serverFailure() else {
            Issue.record("the server logged \(String(describing: pair.serverFailure()))")
            return
        }
        let other = try Pair()
        defer { other.server.stop() }
        let tls = try TLSClient.connect(
            "127.0.0.1", port: other.server.port, deadline: .seconds(10), authentication: .unauthenticated,
            identity: Pair.identity())
        // A proof of 4 GiB where a hello belongs.
        try tls.write([1, 0xFF, 0xFF, 0xFF, 0xFF])
        guard case .protocolViolation(let text)? = other.serverFailure() else {
            Issue.record("the server logged \(String(describing: other.serverFailure()))")
            return
        }
        #expect(text.contains("frame.length"))
    }
}
