import Bytes
import Crypto
import Synchronization
import TestKit

@testable import AttestedTLS

/// A server in the middle: for each client it opens a session of its own to the real server and hands on that server's
/// proof, which is all that it can do.
final class RelayService: ChannelService {
    let port: UInt16
    let relayed = Mutex(0)

    init(to port: UInt16) { self.port = port }

    func admit(_ hello: Hello) throws(ChannelRefusal) {}

    func prove(_ session: ChannelSession) throws(ChannelRefusal) -> [UInt8] {
        var stolen: [UInt8] = []
        do {
            let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "middle", now: Instant.now))
            _ = try client.connect(
                "127.0.0.1", port: port, hello: session.hello, deadline: .seconds(10),
                judge: { (proof, _) throws(ChannelRefusal) in stolen = proof },
                prove: { (_, _) throws(ChannelRefusal) in [] })
        } catch {
            // The real server refuses the middle's empty proof; its own is already here.
        }
        relayed.withLock { $0 += 1 }
        return stolen
    }

    func judge(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) {}
    func serve(_ connection: AttestedConnection, _ peer: Void) {}
    func failed(_ error: ChannelError, _ hello: Hello?) {}
}

struct RelayServer {
    let service: RelayService
    let server: ChannelServer<RelayService>

    init(to port: UInt16) throws {
        service = RelayService(to: port)
        server = try ChannelServer(
            port: 0, address: "127.0.0.1", identity: try Pair.identity(), service: service)
        try server.start()
    }
}

/// The same binding by openssl alone.
enum OpenSSLVector {
    static func binding() throws -> [UInt8]? {
        guard let openssl = Tool.find("openssl") else { return nil }
        var input: [UInt8] = []
        let parts: [[UInt8]] = [
            Array("nacre/v1/attested-channel".utf8), Array("server".utf8), Array(0..<32), Array("own".utf8),
            Array("peer".utf8), [UInt8](repeating: 0xAA, count: 32), Array("init".utf8),
        ]
        for part in parts { input += [0, 0, 0, UInt8(part.count)] + part }
        return try Tool.run([openssl, "dgst", "-sha512", "-binary"], input: input).output
    }
}
