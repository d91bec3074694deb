import Bytes
import Crypto
import Glibc
import Linux
import Synchronization
import TestKit
import Testing

@testable import AttestedTLS

@Suite struct ChannelTests {
    @Test func bothEndsProveThemselvesAndTalk() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        let connection = try pair.connect()
        try connection.send([1, 2, 3], deadline: .seconds(10))
        #expect(try connection.receive(deadline: .seconds(10)) == [1, 2, 3, 7])
        let long = [UInt8](repeating: 5, count: (1 << 20) - 1)
        try connection.send(long, deadline: .seconds(10))
        #expect(try connection.receive(deadline: .seconds(10)) == long + [7])
        connection.close()
        let session = try #require(pair.service.served.withLock { $0.first })
        #expect(session.ownBinding == connection.session.peerBinding)
        #expect(session.peerBinding == connection.session.ownBinding)
        #expect(session.ownBinding != session.peerBinding)
        #expect(session.hello.clusterID == Pair.clusterID)
        #expect(["X25519MLKEM768", "x25519"].contains(session.group))
    }

    @Test func everySessionHasBindingsOfItsOwn() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        var seen = Set<[UInt8]>()
        for _ in 0..<8 {
            let connection = try pair.connect()
            #expect(seen.insert(connection.session.ownBinding).inserted)
            #expect(seen.insert(connection.session.peerBinding).inserted)
            connection.close()
        }
    }

    @Test func theBindingCoversEveryPart() throws {
        let hello = try Hello(purpose: "join", clusterID: Pair.clusterID)
        let base = ChannelBinding.compute(sender: .client, exporter: [1], own: [2], peer: [3], hello: hello)
        #expect(base.count == 64)
        let others = [
            ChannelBinding.compute(sender: .server, exporter: [1], own: [2], peer: [3], hello: hello),
            ChannelBinding.compute(sender: .client, exporter: [9], own: [2], peer: [3], hello: hello),
            ChannelBinding.compute(sender: .client, exporter: [1], own: [9], peer: [3], hello: hello),
            ChannelBinding.compute(sender: .client, exporter: [1], own: [2], peer: [9], hello: hello),
            // The same bytes cut elsewhere.
            ChannelBinding.compute(sender: .client, exporter: [1, 2], own: [], peer: [3], hello: hello),
            ChannelBinding.compute(
                sender: .client, exporter: [1], own: [2], peer: [3], hello: try Hello(purpose: "join")),
            ChannelBinding.compute(
                sender: .client, exporter: [1], own: [2], peer: [3],
                hello: try Hello(purpose: "logs", clusterID: Pair.clusterID)),
        ]
        #expect(Set(others + [base]).count == others.count + 1)
    }

    /// The vectors of docs/channel.md.
    @Test func bindingVectors() throws {
        let server = ChannelBinding.compute(
            sender: .server, exporter: Array(0..<32), own: Array("own".utf8), peer: Array("peer".utf8),
            hello: try Hello(purpose: "init", clusterID: [UInt8](repeating: 0xAA, count: 32)))
        #expect(
            Hex.encode(server)
                == "331cb676396256dc3848c70e7b38e09bffae84289b3ebcaa2d428e69ed9a08f4"
                + "10f0664a9bf81d87e0a74365659223b3888022f097c61c94eb84fe63b2e611a7")
        let client = ChannelBinding.compute(
            sender: .client, exporter: Array(0..<32), own: Array("peer".utf8), peer: Array("own".utf8),
            hello: try Hello(purpose: "status"))
        #expect(
            Hex.encode(client)
                == "2633773c545022136042774aace5ce8c4dfcc62c2ac52ee24cd25b2c0075f660"
                + "b38cdbf5b27bbf6636ddb41d2b5d8fb9fdad2b8096b65eb4240e31e4a79cf1f6")
        #expect(Hex.encode(try Hello(purpose: "join").bytes) == "4e414352450001046a6f696e00")
        #expect(try OpenSSLVector.binding().map { $0 == server } ?? true)
    }

    @Test func aRefusedClientLearnsAWordAndTheLogTheRest() throws {
        let pair = try Pair(stranger: true)
        defer { pair.server.stop() }
        #expect(throws: ChannelError.refusedByPeer("signature-binding")) { try pair.connect() }
        guard case .refused("signature-binding", let explanation)? = pair.serverFailure() else {
            Issue.record("the server logged \(String(describing: pair.serverFailure()))")
            return
        }
        #expect(explanation.contains("expected a proof over"))
    }

    @Test func aServerThatIsRefusedNeverSeesTheClientsProof() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        let hello = try Hello(purpose: "join", clusterID: Pair.clusterID)
        let proved = Mutex(false)
        #expect(throws: ChannelError.refused(reason: "register-mismatch", explanation: "PCR 4")) {
            _ = try pair.client.connect(
                "127.0.0.1", port: pair.server.port, hello: hello, deadline: .seconds(30),
                judge: { (_, _) throws(ChannelRefusal) -> Int in
                    throw ChannelRefusal("register-mismatch", explanation: "PCR 4")
                },
                prove: { (_, _) throws(ChannelRefusal) in
                    proved.withLock { $0 = true }
                    return []
                })
        }
        #expect(proved.withLock { $0 } == false)
        #expect(pair.serverFailure() == .refusedByPeer("register-mismatch"))
        #expect(pair.service.clientProofs.withLock { $0.isEmpty })
    }

    @Test func whatTheServerDoesNotServeIsRefusedBeforeAnythingIsProved() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        #expect(throws: ChannelError.refusedByPeer("policy-purpose")) { try pair.connect(purpose: "logs") }
    }

    // MARK: Attacks on the binding

    /// Somebody in the middle with TLS of its own to both sides, who hands every frame on.
    @Test func relay() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        // The middle has the real server prove for its own session and hands that proof to the client.
        let relay = try RelayServer(to: pair.server.port)
        defer { relay.server.stop() }
        guard
            case .refused("signature-binding", _)? =
                (throws_(ChannelError.self) {
                    try pair.connect(port: relay.server.port)
                })
        else {
            Issue.record("the client took a relayed proof")
            return
        }
        #expect(relay.service.relayed.withLock { $0 } == 1)
    }

    @Test func replayedReflectedAndSwappedProofs() throws {
        let pair = try Pair()
        defer { pair.server.stop() }
        try pair.connect().close()
        let old = try #require(pair.service.clientProofs.withLock { $0.first })
        let hello = try Hello(purpose: "join", clusterID: Pair.clusterID)
        let party = pair.party
        let attempts: [(String, @Sendable (ChannelSession, [UInt8]) throws(ChannelRefusal) -> [UInt8])] = [
            ("replay", { (_, _) throws(ChannelRefusal) in old }),
            ("reflection", { (_, theirs) throws(ChannelRefusal) in theirs }),
            ("role swap", { (session, _) throws(ChannelRefusal) in try party.proof(session.peerBinding) }),
            ("nothing", { (_, _) throws(ChannelRefusal) in [] }),
        ]
        for (name, prove) in attempts {
            #expect(throws: ChannelError.refusedByPeer("signature-binding"), "\(name)") {
                _ = try pair.client.connect(
                    "127.0.0.1", port: pair.server.port, hello: hello, deadline: .seconds(30),
                    judge: { (proof, _) throws(ChannelRefusal) in proof },
                    prove: { (session, theirs) throws(ChannelRefusal) in try prove(session, theirs) })
            }
        }
    }

    @Test func aPeerWithOurOwnKeyIsNobody() throws {
        let identity = try Pair.identity()
        let key = try PrivateKey(generating: .p256)
        let party = SoftwareParty(key: key, accepts: key.publicKey.spki)
        let server = try ChannelServer(port: 0, address: "127.0.0.1", identity: identity, service: EchoService(party))
        try server.start()
        defer { server.stop() }
        let error = throws_(ChannelError.self) {
            _ = try ChannelClient(identity: identity).connect(
                "127.0.0.1", port: server.port, hello: try Hello(purpose: "join"), deadline: .seconds(10),
                judge: { (proof, session) throws(ChannelRefusal) in try party.judge(proof, session.peerBinding) },
                prove: { (session, _) throws(ChannelRefusal) in try party.proof(session.ownBinding) })
        }
        #expect(error == .protocolViolation("the peer has our own key"))
    }
}

/// The error of `body`, when it is one of `type`.
func throws_<E: Error>(_ type: E.Type, _ body: () throws -> some Any) -> E? {
    do {
        _ = try body()
        return nil
    } catch { return error as? E }
}
