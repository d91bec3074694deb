import Attestation
import Bytes
import Crypto
import Glibc
import HTTP
import Manifest
import SyntheticNode
import TestKit

/// The built `nacre` beside the running tests.
enum Nacre {
    static let path: String = {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink("/proc/self/exe", &buffer, buffer.count)
        let bytes = buffer.prefix(max(0, count)).map { UInt8(bitPattern: $0) }
        return Files.folder(of: String(decoding: bytes, as: UTF8.self)) + "/nacre"
    }()

    static func run(_ arguments: String...) throws -> Tool.Output { try Tool.run([path] + arguments) }

    /// The one JSON document that a command printed.
    static func json(_ output: Tool.Output) throws -> JSON { try JSON(parsing: output.output) }
}

/// A folder with a release, signed, and the evidence of a node that runs it.
struct Release {
    let folder: TemporaryFolder
    let node: SyntheticNode
    var path: String { folder.path }

    init(_ change: (inout SyntheticNode) -> Void = { _ in }) throws {
        folder = try TemporaryFolder()
        var node = try SyntheticNode()
        change(&node)
        self.node = node
        _ = try folder.file("manifest.json", SyntheticNode.manifest().bytes)
        let key = try PrivateKey(generating: .p256)
        _ = try folder.file("key", key.pem())
        _ = try folder.file("key.pub", key.publicKey.pem)
        let bundle = try ManifestVerifier.sign(SyntheticNode.manifest().bytes, name: "manifest.json", key: key)
        _ = try folder.file("manifest.json.sigstore.json", bundle.bytes)
        _ = try folder.file("evidence.json", node.evidence().json.compact)
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// A node's HTTPS endpoint on loopback that answers `count` requests by `answer`, given the nonce asked for.
func serve(
    _ count: Int,
    activate: @escaping @Sendable (ActivationRequest) throws -> HTTPResponse = { _ in .text("", status: 404) },
    _ answer: @escaping @Sendable ([UInt8]) throws -> HTTPResponse
) throws -> (endpoint: String, done: Task<Void, Never>) {
    let key = try PrivateKey(generating: .p256)
    let certificate = try Certificate.selfSigned(
        key: key, commonName: "node", notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1 << 33))
    let server = try TLSServer(certificate: certificate, key: key)
    let listener = try StreamSocket(listeningOn: "127.0.0.1", port: 0)
    let port = listener.localPort
    let descriptor = listener.release()
    let results = started {
        guard let listener = try? StreamSocket(adopting: descriptor) else { return }
        for _ in 0..<count {
            guard let socket = try? listener.accept(deadline: .seconds(120)),
                let connection = try? server.accept(socket, deadline: .seconds(60))
            else { return }
            let http = HTTPConnection(connection)
            if let request = try? http.readRequest(bodyLimit: ActivationRequest.maximumSize) {
                let response =
                    request.path == "/v1/activate"
                    ? try? activate(ActivationRequest(parsing: request.body))
                    : try? request.query?["nonce"].flatMap({ Hex.decode($0) }).map(answer)
                if let response { try? http.write(response) }
            }
            connection.close()
        }
    }
    let done = Task { for await _ in results { return } }
    return ("127.0.0.1:\(port)", done)
}
