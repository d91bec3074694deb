import Bytes
import CLinux
import Crypto
import Glibc
import Linux
import Synchronization

/// Serves attested channels: one thread waits for all connections that are not accepted yet, a fixed number of others
/// prove, judge and serve.
public final class ChannelServer<Service: ChannelService>: Sendable {
    private let service: Service
    private let limits: ChannelLimits
    private let tls: TLSServer
    private let ownKey: [UInt8]
    private let listener: StreamSocket
    private let work: WorkQueue
    /// Connections that wait for their peer. Who takes one out has it alone until it is back.
    private let waiting = Mutex(WaitingRoom())
    /// Connections that a worker has or is to have.
    private let working = Atomic(0)
    /// Wakes the waiting thread to stop.
    private let waker: Waker
    private let poll: Poll
    private let isStopped = Atomic(false)

    /// Listens at once; `start` begins to serve.
    public init(
        port: UInt16, address: String = "::", identity: TLSIdentity, limits: ChannelLimits = ChannelLimits(),
        service: Service
    ) throws(ChannelError) {
        self.service = service
        self.limits = limits
        do {
            tls = try TLSServer(certificate: identity.certificate, key: identity.key, clients: .any)
            ownKey = try identity.certificate.publicKey().spki
            listener = try StreamSocket(listeningOn: address, port: port, backlog: 1024)
        } catch { throw .connection(error.message) }
        do {
            waker = try Waker()
            poll = try Poll()
        } catch { throw .connection("\(error)") }
        guard poll.add(listener.descriptor, .input), poll.add(waker.descriptor, .input) else {
            throw .connection("cannot wait for connections")
        }
        work = WorkQueue(limit: limits.queue)
    }

    public var port: UInt16 { listener.localPort }

    /// Starts the threads.
    public func start() throws(ChannelError) {
        for _ in 0..<limits.workers {
            guard DetachedThread.start({ [work] in work.run() }) else { throw .connection("cannot start a thread") }
        }
        guard DetachedThread.start({ [self] in wait() }) else { throw .connection("cannot start a thread") }
    }

    /// Ends the waiting thread and the workers once they are done with what they are at.
    public func stop() {
        isStopped.store(true, ordering: .relaxed)
        waker.wake()
        work.stop()
    }

    // MARK: The waiting thread

    private func wait() {
        var sweep = Deadline.milliseconds(100)
        while !isStopped.load(ordering: .relaxed) {
            let isIdle = working.load(ordering: .relaxed) == 0 && waiting.withLock { $0.isEmpty }
            for ready in poll.wait(milliseconds: isIdle ? 1000 : 100) {
                if ready == listener.descriptor {
                    newcomers()
                } else if ready == waker.descriptor {
                    waker.clear()
                } else if let connection = waiting.withLock({ $0.remove(ready) }) {
                    advance(connection)
                }
            }
            guard sweep.hasPassed else { continue }
            for late in waiting.withLock({ $0.removeLate() }) { end(late, .timeout("answer")) }
            sweep = .milliseconds(100)
        }
        waiting.withLock { $0 = WaitingRoom() }
    }

    private func newcomers() {
        // A bounded number for each round, so that a flood of them cannot keep everyone else waiting.
        for _ in 0..<64 {
            let accepted = nacre_accept4(
                listener.descriptor, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
            guard accepted >= 0 else { return }
            do throws(CryptoError) {
                let connection = PendingConnection(
                    try tls.begin(StreamSocket(accepted: accepted)), ownKey: ownKey, step: limits.step)
                if let oldest = waiting.withLock({ $0.count >= limits.pending ? $0.removeOldest() : nil }) {
                    end(oldest, .timeout("room for more connections"))
                }
                advance(connection)
            } catch { service.failed(.connection(error.message), nil) }
        }
    }

    // MARK: The thread that has the connection

    private func advance(_ connection: PendingConnection) {
        do throws(ChannelError) {
            switch try connection.advance(admit: { (hello) throws(ChannelRefusal) in try service.admit(hello) }) {
            case .input: try keep(connection, .input)
            case .output: try keep(connection, .output)
            case .proof: try hand(connection, prove)
            case .judgement: try hand(connection, judge)
            case .end:
                let refusal = connection.refusal
                end(
                    connection, .refused(reason: refusal?.reason ?? "internal", explanation: refusal?.explanation ?? "")
                )
            }
        } catch { end(connection, error) }
    }

    /// From here on the connection is whoever's takes it out of the room. Set under the lock: nobody is told of a socket
    /// before its connection is there, and none that is gone is waited for.
    private func keep(_ connection: PendingConnection, _ event: Poll.Event) throws(ChannelError) {
        let again = connection.isWatched
        connection.isWatched = true
        let isKept = waiting.withLock { waiting in
            guard poll.once(connection.tls.socket, event, again: again) else { return false }
            waiting.insert(connection)
            return true
        }
        guard isKept else { throw .connection("cannot wait for one more connection") }
    }

    private func end(_ connection: PendingConnection, _ error: ChannelError) {
        service.failed(error, connection.hello)
        connection.tls.abandon()
    }

    // MARK: The workers

    /// Has a worker do one step of `connection`, which is then the worker's.
    private func hand(
        _ connection: PendingConnection, _ step: @escaping @Sendable (PendingConnection) -> Void
    ) throws(ChannelError) {
        working.add(1, ordering: .relaxed)
        let isQueued = work.add { [self] in
            step(connection)
            working.subtract(1, ordering: .relaxed)
        }
        guard !isQueued else { return }
        working.subtract(1, ordering: .relaxed)
        try connection.refuse(ChannelRefusal("busy", explanation: "\(limits.queue) steps are waiting for a thread"))
        advance(connection)
    }

    private func prove(_ connection: PendingConnection) {
        do throws(ChannelError) {
            guard let session = connection.session else { throw .protocolViolation("no session") }
            let proof: [UInt8]
            do throws(ChannelRefusal) { proof = try service.prove(session) } catch {
                try connection.refuse(error)
                return advance(connection)
            }
            try connection.proved(proof)
        } catch { return end(connection, error) }
        advance(connection)
    }

    private func judge(_ connection: PendingConnection) {
        do throws(ChannelError) {
            guard let session = connection.session else { throw .protocolViolation("no session") }
            let peer: Service.Peer
            do throws(ChannelRefusal) { peer = try service.judge(connection.clientProof, session) } catch {
                try connection.refuse(error)
                return advance(connection)
            }
            // Five bytes into an empty buffer: the peer cannot make this wait.
            connection.tls.deadline = .milliseconds(limits.step)
            try connection.tls.send(.accept)
            service.serve(AttestedConnection(connection.tls, session: session), peer)
            connection.tls.close()
        } catch { end(connection, error) }
    }
}
