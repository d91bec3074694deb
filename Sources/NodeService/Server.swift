import Attestation
import Bytes
import CLinux
import Crypto
import Glibc
import HTTP
import Linux
import Synchronization

/// Serves one request per connection over TLS 1.3, on a fixed number of threads: that number is the most connections
/// there ever are, the rest wait in the kernel's queue.
public final class Server: Sendable {
    static let threads = 8
    /// For handshake and request, and again for the response; seconds.
    static let patience = 10
    /// For what happens in between, which is the TPM's time; seconds. Eight callers may wait for one another.
    static let work = 60

    private let tls: TLSServer
    private let listener: Listener
    private let answer: @Sendable (HTTPRequest) -> HTTPResponse
    /// By when each thread must have shown that it is alive.
    private let promises: Mutex<[Deadline]>
    private let isStopped = Atomic(false)

    /// A `StreamSocket` that threads share; `accept` on it is thread-safe.
    private final class Listener: Sendable {
        let socket: StreamSocket
        init(_ socket: consuming StreamSocket) { self.socket = socket }
    }

    /// Listens on every address of the machine with a new P-256 key and a certificate that nobody signs: evidence speaks
    /// for itself.
    public init(
        port: UInt16, address: String = "::", answer: @escaping @Sendable (HTTPRequest) -> HTTPResponse
    ) throws(CryptoError) {
        let identity = try TLSIdentity(ephemeral: "nacre-node", now: Instant.now)
        tls = try TLSServer(certificate: identity.certificate, key: identity.key)
        listener = Listener(try StreamSocket(listeningOn: address, port: port))
        self.answer = answer
        promises = Mutex((0..<Self.threads).map { _ in Deadline.seconds(Self.work) })
    }

    public var port: UInt16 { listener.socket.localPort }

    /// Starts the threads.
    public func start() throws(CryptoError) {
        for index in 0..<Self.threads {
            guard DetachedThread.start({ [self] in serve(index) }) else {
                throw CryptoError(.connection, "cannot start a thread")
            }
        }
    }

    /// Ends every thread within seconds.
    public func stop() { isStopped.store(true, ordering: .relaxed) }

    /// Whether every thread has kept its promise. Slow or silent callers cannot break one, a TPM that never answers does.
    public var isHealthy: Bool { promises.withLock { promises in promises.allSatisfy { !$0.hasPassed } } }

    private func promise(_ index: Int, _ seconds: Int) {
        promises.withLock { $0[index] = .seconds(seconds) }
    }

    private func serve(_ index: Int) {
        while !isStopped.load(ordering: .relaxed) {
            promise(index, Self.patience)
            let wait = Deadline.seconds(1)
            do {
                let socket = try listener.socket.accept(deadline: wait)
                promise(index, 2 * Self.patience + Self.work)
                try serve(socket)
            } catch {
                // What a caller did wrong is the caller's to know. No file descriptors left is ours: wait for some.
                if !wait.hasPassed { usleep(10_000) }
            }
        }
    }

    private func serve(_ socket: consuming StreamSocket) throws {
        let stream = try tls.accept(socket, deadline: .seconds(Self.patience))
        defer { stream.close() }
        let connection = HTTPConnection(stream)
        let response: HTTPResponse
        do throws(HTTPError) {
            guard let request = try connection.readRequest(bodyLimit: ActivationRequest.maximumSize) else { return }
            response = answer(request)
        } catch {
            guard let status = error.status else { return }
            response = EvidenceService.error(status, error.message)
        }
        stream.deadline = .seconds(Self.patience)
        try connection.write(response)
    }
}
