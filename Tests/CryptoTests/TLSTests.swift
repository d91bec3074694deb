import Bytes
import Crypto
import Glibc
import TestKit
import Testing

/// The attested channel's transport: TLS 1.3 only, over real sockets.
@Suite struct TLSTests {
    static func server(_ name: String = "node") throws -> (TLSServer, Certificate) {
        let key = try PrivateKey(generating: .p256)
        let certificate = try Certificate.selfSigned(
            key: key, commonName: name, notBefore: Instant(seconds: Instant.now.seconds - 3600),
            notAfter: Instant(seconds: Instant.now.seconds + 3600))
        return (try TLSServer(certificate: certificate, key: key), certificate)
    }

    /// Serves one connection on a thread and hands its result back.
    static func serve<R: Sendable>(
        _ server: TLSServer, _ body: @escaping @Sendable (TLSConnection) throws -> R
    ) throws -> (port: UInt16, result: Task<Result<R, any Error>, Never>) {
        let listener = try StreamSocket(listeningOn: "127.0.0.1", port: 0)
        let port = listener.localPort
        let descriptor = listener.release()
        let results = started {
            Result {
                let listener = try StreamSocket(adopting: descriptor)
                let socket = try listener.accept(deadline: .seconds(120))
                let connection = try server.accept(socket, deadline: .seconds(60))
                defer { connection.close() }
                return try body(connection)
            }
        }
        let task = Task {
            for await result in results { return result }
            return Result<R, any Error>.failure(CryptoError(.connection, "no result"))
        }
        return (port, task)
    }

    @Test func `both ends export the same key, bound to label and context`() async throws {
        let (server, certificate) = try Self.server()
        let (port, served) = try Self.serve(server) { connection in
            let request = try connection.read(max: 100)
            try connection.write(request.reversed())
            return try connection.exporter(label: "EXPORTER-nacre", context: [1, 2, 3], count: 32)
        }
        let (keys, keySeen, answer) = try await onThread {
            Result {
                let connection = try TLSClient.connect(
                    "127.0.0.1", port: port, deadline: .seconds(60), authentication: .unauthenticated)
                try connection.write([1, 2, 3, 4])
                let answer = try connection.read(max: 100)
                #expect(connection.version == "TLSv1.3")
                #expect(connection.keyExchange != "unknown")
                let end = try connection.read(max: 100)
                #expect(end.isEmpty, "close_notify ends the stream in an orderly way")
                let keys = try [
                    connection.exporter(label: "EXPORTER-nacre", context: [1, 2, 3], count: 32),
                    connection.exporter(label: "EXPORTER-nacre", context: [1, 2, 4], count: 32),
                    connection.exporter(label: "EXPORTER-other", context: [1, 2, 3], count: 32),
                ]
                return (keys, connection.peerKey, answer)
            }
        }.get()
        #expect(answer == [4, 3, 2, 1])
        #expect(try keySeen == certificate.publicKey().spki)
        let theirs = try await served.value.get()
        #expect(keys[0] == theirs)
        #expect(keys[1] != theirs)
        #expect(keys[2] != theirs)
    }

    @Test func `a megabyte crosses in both directions at once`() async throws {
        let (server, _) = try Self.server()
        let (port, served) = try Self.serve(server) { connection in
            var total: [UInt8] = []
            while total.count < 1 << 20 { total += try connection.read(max: 1 << 16) }
            try connection.write(total)
            return total.count
        }
        let sent = (0..<1 << 20).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let echoed = try await onThread {
            Result {
                let connection = try TLSClient.connect(
                    "localhost", port: port, deadline: .seconds(60), authentication: .unauthenticated)
                try connection.write(sent)
                var back: [UInt8] = []
                while back.count < sent.count { back += try connection.read(max: 1 << 16) }
                return back
            }
        }.get()
        #expect(echoed == sent)
        #expect(try await served.value.get() == 1 << 20)
    }

    @Test func `a peer that says nothing is given up at the deadline`() async throws {
        let (server, _) = try Self.server()
        let listener = try StreamSocket(listeningOn: "127.0.0.1", port: 0)
        let quiet = try StreamSocket(connectingTo: "127.0.0.1", port: listener.localPort, deadline: .seconds(5))
        let accepted = try listener.accept(deadline: .seconds(5)).release()
        #expect(throws: CryptoError(.connection, "no answer in time")) {
            _ = try server.accept(accepted, deadline: .milliseconds(50))
        }
        // The failed handshake closed its socket.
        #expect(fcntl(accepted, F_GETFD) == -1)
        _ = quiet.descriptor
    }

    @Test func `a connection cut without goodbye is an error, not an end`() async throws {
        let (server, _) = try Self.server()
        let (port, served) = try Self.serve(server) { connection in try connection.read(max: 10) }
        try await onThread {
            Result {
                let connection = try TLSClient.connect(
                    "127.0.0.1", port: port, deadline: .seconds(60), authentication: .unauthenticated)
                _ = connection.version
            }
        }.get()
        let result = await served.value
        #expect(throws: CryptoError.self) { try result.get() }
    }

    @Test func `a key that is not the certificate's is refused`() throws {
        let key = try PrivateKey(generating: .p256)
        let certificate = try Certificate.selfSigned(
            key: key, commonName: "node", notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1 << 33))
        #expect(throws: CryptoError.self) {
            try TLSServer(certificate: certificate, key: PrivateKey(generating: .p256))
        }
    }

    @Test(arguments: ["", "a,DNS:evil", "two words", "naïve", String(repeating: "a", count: 64)])
    func `a common name that is no host name is refused`(name: String) throws {
        let key = try PrivateKey(generating: .p256)
        #expect(throws: CryptoError.self) {
            try Certificate.selfSigned(
                key: key, commonName: name, notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1))
        }
    }

    @Test func `a self-signed certificate says what was asked`() throws {
        let key = try PrivateKey(generating: .p256)
        let (from, to) = (Instant(seconds: 1_700_000_000), Instant(seconds: 2_600_000_000))
        let certificate = try Certificate.selfSigned(key: key, commonName: "node-1", notBefore: from, notAfter: to)
        #expect(certificate.commonName == "node-1")
        #expect(certificate.issuerDER == certificate.subjectDER)
        #expect(certificate.notBefore == from)
        #expect(certificate.notAfter == to)
        #expect(certificate.serial.count == 16)
        #expect(try certificate.publicKey() == key.publicKey)
        #expect(!certificate.isCA)
        try certificate.verifySignature(by: key.publicKey)
    }

    @Test(arguments: [("-tls1_3", true), ("-tls1_2", false)])
    func `openssl s_client is let in with TLS 1.3 and with nothing older`(option: String, accepted: Bool) async throws {
        guard let openssl = Tool.find("openssl") else { return }
        let (server, _) = try Self.server()
        let (port, served) = try Self.serve(server) { connection in
            try connection.write(Array("welcome".utf8))
            return connection.version
        }
        let result = try await onThread {
            Result { try Tool.run([openssl, "s_client", option, "-connect", "127.0.0.1:\(port)", "-quiet"]) }
        }.get()
        #expect(result.text.contains("welcome") == accepted, "\(result.errors)")
        let version = try? await served.value.get()
        #expect(version == (accepted ? "TLSv1.3" : nil))
    }
}
