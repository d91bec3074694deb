import Bytes
import Crypto
import DiskFormat
import HTTP
import Kubernetes
import Linux
import Synchronization
import TestKit
import Testing

@testable import KubernetesAPI

/// A TLS server on loopback that answers each question with the same bytes.
private final class Answering: Sendable {
    let port: UInt16
    let questions = Mutex<[String]>([])
    let bodies = Mutex<[String]>([])
    /// That have ended.
    let connections = Mutex(0)

    init(_ identity: TLSIdentity, _ answer: [UInt8]) throws {
        let server = try TLSServer(certificate: identity.certificate, key: identity.key, clients: .any)
        let socket = try StreamSocket(listeningOn: "127.0.0.1", port: 0)
        port = socket.localPort
        let descriptor = socket.release()
        // A thread of its own: the tests' few may all be busy.
        let runs = DetachedThread.start { [self] in
            guard let listener = try? StreamSocket(adopting: descriptor) else { return }
            while true {
                guard let client = try? listener.accept(deadline: .seconds(120)) else { return }
                guard let connection = try? server.accept(client, deadline: .seconds(60)) else { continue }
                let http = HTTPConnection(connection)
                while let request = try? http.readRequest(bodyLimit: 1 << 16) {
                    questions.withLock { $0.append(request.target) }
                    bodies.withLock { $0.append(String(decoding: request.body, as: UTF8.self)) }
                    try? connection.write(answer)
                    if request.fields["connection"] == "close" { break }
                }
                connections.withLock { $0 += 1 }
                connection.close()
            }
        }
        guard runs else { throw CryptoError(.connection, "no thread") }
    }
}

@Suite struct APIClientTests {
    private static let time = Instant.now

    private func issue(
        _ issuer: CertificateIssuer, _ names: [CertificateTemplate.Name], _ purpose: CertificateTemplate.Purpose
    ) throws -> TLSIdentity {
        let key = try PrivateKey(generating: .p256)
        let template = CertificateTemplate(
            commonName: "test", organizations: [], names: names, purpose: purpose,
            notBefore: Instant(seconds: Self.time.seconds - 60), notAfter: Instant(seconds: Self.time.seconds + 3600))
        return TLSIdentity(certificate: try issuer.issue(template, for: key.publicKey), key: key)
    }

    private func issuer() throws -> (CertificateIssuer, Certificate) {
        let issuer = try CertificateIssuer(key: try PrivateKey(generating: .p256), commonName: "authority")
        return (
            issuer,
            try issuer.certificate(
                notBefore: Instant(seconds: Self.time.seconds - 60),
                notAfter: Instant(seconds: Self.time.seconds + 3600))
        )
    }

    private static func answer(_ body: String, status: Int = 200) -> [UInt8] {
        let half = body.utf8.count / 2
        let (first, second) = (body.utf8.prefix(half), body.utf8.dropFirst(half))
        var bytes = Array(
            "HTTP/1.1 \(status) x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
        for part in [first, second] {
            bytes += Array("\(String(part.count, radix: 16))\r\n".utf8) + Array(part) + [0x0D, 0x0A]
        }
        return bytes + Array("0\r\n\r\n".utf8)
    }

    @Test func `a node is Ready by its condition, and unknown is not Ready`() throws {
        let (issuer, authority) = try issuer()
        let server = try issue(issuer, [.ip(IPAddress(127, 0, 0, 1))], .server)
        let client = try issue(issuer, [], .client)
        for (body, status, expected) in [
            (#"{"status":{"conditions":[{"type":"Ready","status":"True"}]}}"#, 200, true),
            (#"{"status":{"conditions":[{"type":"Ready","status":"False"}]}}"#, 200, false),
            (#"{"status":{"conditions":[{"type":"DiskPressure","status":"True"}]}}"#, 200, false),
            (#"{"kind":"Status","message":"nodes \"a\" not found"}"#, 404, false),
        ] {
            let answering = try Answering(server, Self.answer(body, status: status))
            let api = APIClient(host: "127.0.0.1", port: answering.port, authority: authority, identity: client)
            let name = try #require(NodeName("worker-0"))
            #expect(try api.isReady(name, deadline: .seconds(60)) == expected)
            #expect(answering.questions.withLock { $0 } == ["/api/v1/nodes/worker-0"])
        }
    }

    @Test func `several questions take one connection, and all have to be answered`() throws {
        let (issuer, authority) = try issuer()
        let server = try issue(issuer, [.ip(IPAddress(127, 0, 0, 1))], .server)
        let answering = try Answering(server, Self.answer(#"{"items":[1]}"#))
        let api = APIClient(
            host: "127.0.0.1", port: answering.port, authority: authority, identity: try issue(issuer, [], .client))
        let found = try api.get(["/a", "/b"], deadline: .seconds(60))
        #expect(found.map { $0["items"]?.array?.count } == [1, 1])
        #expect(answering.questions.withLock { $0 } == ["/a", "/b"])
        #expect(answering.connections.withLock { $0 } <= 1)
    }

    @Test func `a refusal says what the API server said`() throws {
        let (issuer, authority) = try issuer()
        let answering = try Answering(
            try issue(issuer, [.ip(IPAddress(127, 0, 0, 1))], .server),
            Self.answer(#"{"message":"nodes is forbidden"}"#, status: 403))
        let api = APIClient(
            host: "127.0.0.1", port: answering.port, authority: authority, identity: try issue(issuer, [], .client))
        let error = #expect(throws: APIError.self) { _ = try api.get("/api/v1/nodes", deadline: .seconds(60)) }
        #expect(error?.status == 403)
        #expect(error?.message.contains("nodes is forbidden") == true)
    }

    @Test func `a server of another authority, of another address, or that may only ask, is no API server`() throws {
        let (issuer, authority) = try issuer()
        let (other, _) = try self.issuer()
        for server in [
            try issue(other, [.ip(IPAddress(127, 0, 0, 1))], .server),
            try issue(issuer, [.ip(IPAddress(127, 0, 0, 2))], .server),
            try issue(issuer, [.ip(IPAddress(127, 0, 0, 1))], .client),
        ] {
            let answering = try Answering(server, Self.answer("{}"))
            let api = APIClient(
                host: "127.0.0.1", port: answering.port, authority: authority, identity: try issue(issuer, [], .client))
            #expect(throws: APIError.self) { _ = try api.get("/", deadline: .seconds(60)) }
            #expect(answering.questions.withLock { $0 }.isEmpty)
        }
    }

    @Test func `etcd's members are read, added as learners, promoted and removed in its gateway's words`() throws {
        let (issuer, authority) = try issuer()
        let server = try issue(issuer, [.ip(IPAddress(127, 0, 0, 1))], .server)
        // As etcd 3.5 answers (ProtoJSON).
        let answering = try Answering(
            server,
            Self.answer(
                #"{"header":{"cluster_id":"14841639068965178418","raft_term":"2"},"#
                    + #""member":{"ID":"10276657743932975437","peerURLs":["https://10.200.0.2:2380"],"isLearner":true},"#
                    + #""members":[{"ID":"18249187646912138824","name":"control-plane-0","#
                    + #""peerURLs":["https://10.200.0.1:2380"],"clientURLs":["https://10.200.0.1:2379"]},"#
                    + #"{"ID":"10276657743932975437","peerURLs":["https://10.200.0.2:2380"],"isLearner":true}]}"#))
        let etcd = EtcdClient(
            APIClient(
                host: "127.0.0.1", port: answering.port, authority: authority, identity: try issue(issuer, [], .client))
        )
        let present = try etcd.members(deadline: .seconds(60))
        #expect(present.map(\.id) == [18_249_187_646_912_138_824, 10_276_657_743_932_975_437])
        #expect(present.map(\.isLearner) == [false, true])
        let added = try etcd.addLearner(try #require(NodeIndex(2)), deadline: .seconds(60))
        #expect(added.id == 10_276_657_743_932_975_437 && added.members == present)
        try etcd.promote(added.id, deadline: .seconds(60))
        try etcd.remove(.max, deadline: .seconds(60))
        #expect(
            answering.questions.withLock { $0 }
                == ["list", "add", "promote", "remove"].map { "/v3/cluster/member/\($0)" })
        #expect(
            answering.bodies.withLock { $0 } == [
                "{}", #"{"isLearner":true,"peerURLs":["https://10.200.0.2:2380"]}"#, #"{"ID":"10276657743932975437"}"#,
                #"{"ID":"18446744073709551615"}"#,
            ])
    }

    @Test func `an etcd that names nobody, or says no, is an error with its words`() throws {
        let (issuer, authority) = try issuer()
        let server = try issue(issuer, [.ip(IPAddress(127, 0, 0, 1))], .server)
        for (body, status) in [
            ("{}", 200), (#"{"members":[{"name":"x"}]}"#, 200),
            (
                #"{"error":"etcdserver: too many learner members in cluster","message":"too many learners","code":9}"#,
                400
            ),
        ] {
            let answering = try Answering(server, Self.answer(body, status: status))
            let etcd = EtcdClient(
                APIClient(
                    host: "127.0.0.1", port: answering.port, authority: authority,
                    identity: try issue(issuer, [], .client)))
            let error = #expect(throws: APIError.self) { _ = try etcd.members(deadline: .seconds(60)) }
            if status == 400 { #expect(error?.message.contains("too many learners") == true) }
        }
    }
}
