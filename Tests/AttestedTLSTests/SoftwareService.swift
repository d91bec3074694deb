import Bytes
import Crypto
import Glibc
import Synchronization

@testable import AttestedTLS

/// A party whose proof is a P-256 signature over the binding: the cheapest evidence that binds at all.
struct SoftwareParty: Sendable {
    let key: PrivateKey
    /// SPKI of whom it accepts.
    let accepts: [UInt8]

    func proof(_ binding: [UInt8]) throws(ChannelRefusal) -> [UInt8] {
        do { return try key.sign(binding, scheme: .ecdsa(.sha256)) } catch { throw ChannelRefusal("internal") }
    }

    func judge(_ proof: [UInt8], _ binding: [UInt8]) throws(ChannelRefusal) {
        do {
            try PublicKey(spki: accepts).verify(proof, of: binding, scheme: .ecdsa(.sha256))
        } catch {
            throw ChannelRefusal("signature-binding", explanation: "expected a proof over \(Hex.encode(binding))")
        }
    }
}

/// Answers every message with the same message.
final class EchoService: ChannelService {
    let party: SoftwareParty
    let served = Mutex<[ChannelSession]>([])
    let failures = Mutex<[ChannelError]>([])
    let clientProofs = Mutex<[[UInt8]]>([])

    init(_ party: SoftwareParty) { self.party = party }

    func admit(_ hello: Hello) throws(ChannelRefusal) {
        guard hello.purpose == "join" else { throw ChannelRefusal("policy-purpose", explanation: hello.purpose) }
    }

    func prove(_ session: ChannelSession) throws(ChannelRefusal) -> [UInt8] { try party.proof(session.ownBinding) }

    func judge(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Int {
        clientProofs.withLock { $0.append(proof) }
        try party.judge(proof, session.peerBinding)
        return 7
    }

    func serve(_ connection: AttestedConnection, _ peer: Int) {
        served.withLock { $0.append(connection.session) }
        while let message = try? connection.receive(deadline: .seconds(10)) {
            try? connection.send(message + [UInt8(peer)], deadline: .seconds(10))
        }
    }

    func failed(_ error: ChannelError, _ hello: Hello?) { failures.withLock { $0.append(error) } }
}

/// A server and a client that accept each other, on loopback.
struct Pair {
    let service: EchoService
    let server: ChannelServer<EchoService>
    let client: ChannelClient
    let party: SoftwareParty
    static let clusterID = [UInt8](repeating: 9, count: 32)

    init(limits: ChannelLimits = ChannelLimits(), stranger: Bool = false) throws {
        let serverKey = try PrivateKey(generating: .p256)
        let clientKey = try PrivateKey(generating: .p256)
        let other = try PrivateKey(generating: .p256)
        service = EchoService(
            SoftwareParty(key: serverKey, accepts: (stranger ? other : clientKey).publicKey.spki))
        server = try ChannelServer(
            port: 0, address: "127.0.0.1", identity: Self.identity(), limits: limits, service: service)
        try server.start()
        client = try ChannelClient(identity: Self.identity())
        party = SoftwareParty(key: clientKey, accepts: serverKey.publicKey.spki)
    }

    static func identity() throws -> TLSIdentity { try TLSIdentity(ephemeral: "nacre-test", now: Instant.now) }

    func connect(
        purpose: String = "join", port: UInt16? = nil, deadline: Deadline = .seconds(30)
    ) throws -> AttestedConnection {
        let party = party
        return try client.connect(
            "127.0.0.1", port: port ?? server.port, hello: try Hello(purpose: purpose, clusterID: Self.clusterID),
            deadline: deadline,
            judge: { (proof, session) throws(ChannelRefusal) in try party.judge(proof, session.peerBinding) },
            prove: { (session, _) throws(ChannelRefusal) in try party.proof(session.ownBinding) }
        ).connection
    }

    /// What the server's log says, once it says something.
    func serverFailure() -> ChannelError? {
        for _ in 0..<500 {
            if let first = service.failures.withLock({ $0.first }) { return first }
            usleep(10_000)
        }
        return nil
    }
}
