import Bytes
import CLinux
import Crypto
import Glibc
import Linux
import Synchronization

/// Serves attested channels: a fixed number of threads wait for all connections that are not accepted yet, and whichever
/// one is woken does what there is to do. Steps that may take their time are bounded by one less than there are threads, so
/// that one is always left to wait.
public final class ChannelServer<Service: ChannelService>: Sendable {
    private let service: Service
    private let limits: ChannelLimits
    private let tls: TLSServer
    private let ownKey: [UInt8]
    private let listener: StreamSocket
    private let work: WorkSlots
    /// Connections that wait for their peer. Who takes one out has it alone until it is back.
    private let waiting = Mutex(WaitingRoom())
    /// Wakes the threads to stop.
    private let waker: Waker
    /// Rings for connections whose peer is late, as long as any wait.
    private let alarm: Alarm
    private let poll: Poll
    private let isStopped = Atomic(false)

    /// Milliseconds between two looks for peers that are late.
    private static var sweep: Int { 100 }

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
            alarm = try Alarm()
            poll = try Poll()
        } catch { throw .connection("\(error)") }
        guard poll.once(listener.descriptor, .input, again: false), poll.add(waker.descriptor, .input),
            poll.add(alarm.descriptor, .input)
        else { throw .connection("cannot wait for connections") }
        work = WorkSlots(slots: limits.workers, limit: limits.queue)
    }

    public var port: UInt16 { listener.localPort }

    /// Starts the threads.
    public func start() throws(ChannelError) {
        for _ in 0...limits.workers {
            guard DetachedThread.start({ [self] in run() }) else { throw .connection("cannot start a thread") }
        }
    }

    /// Ends the threads once they are done with what they are at.
    public func stop() {
        isStopped.store(true, ordering: .relaxed)
        work.stop()
        // Never cleared: it is there for every thread.
        waker.wake()
    }

    // MARK: Waiting

    private func run() {
        while !isStopped.load(ordering: .relaxed) {
            guard let ready = poll.next() else { continue }
            if ready == listener.descriptor {
                newcomer()
            } else if ready == alarm.descriptor {
                alarm.clear()
                let late = waiting.withLock { waiting in
                    let late = waiting.removeLate()
                    waiting.isWatched = !waiting.isEmpty
                    if waiting.isWatched { alarm.set(milliseconds: Self.sweep) }
                    return late
                }
                for connection in late { end(connection, .timeout("answer")) }
            } else if ready != waker.descriptor, let connection = waiting.withLock({ $0.remove(ready) }) {
                proceed(connection)
            }
        }
        waiting.withLock { $0 = WaitingRoom() }
    }

    private func newcomer() {
        let accepted = nacre_accept4(listener.descriptor, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
        // The next one is another thread's, while this one is at the handshake.
        guard poll.once(listener.descriptor, .input, again: true), accepted >= 0 else { return }
        do throws(CryptoError) {
            let connection = PendingConnection(
                try tls.begin(StreamSocket(accepted: accepted)), ownKey: ownKey, step: limits.step)
            if let oldest = waiting.withLock({ $0.count >= limits.pending ? $0.removeOldest() : nil }) {
                end(oldest, .timeout("room for more connections"))
            }
            proceed(connection)
        } catch { service.failed(.connection(error.message), nil) }
    }

    // MARK: The thread that has the connection

    /// Goes on with `connection`, and does what other connections wait for once it is at it.
    private func proceed(_ connection: PendingConnection) {
        guard var step = advance(connection) else { return }
        switch work.begin(step) {
        case .now: break
        case .later: return
        case .full:
            let refusal = ChannelRefusal("busy", explanation: "\(limits.queue) steps are waiting for a thread")
            do throws(ChannelError) { try connection.refuse(refusal) } catch { return end(connection, error) }
            _ = advance(connection)
            return
        }
        while true {
            let following =
                switch step.kind {
                case .proof: prove(step.connection)
                case .judgement: judge(step.connection)
                }
            guard let next = following ?? work.next() else { return }
            step = next
        }
    }

    /// - Returns: the step that has to be done for the connection; `nil` where it waits for its peer, or has ended.
    private func advance(_ connection: PendingConnection) -> WorkStep? {
        do throws(ChannelError) {
            switch try connection.advance(admit: { (hello) throws(ChannelRefusal) in try service.admit(hello) }) {
            case .input: try keep(connection, .input)
            case .output: try keep(connection, .output)
            case .proof: return WorkStep(kind: .proof, connection: connection)
            case .judgement: return WorkStep(kind: .judgement, connection: connection)
            case .end:
                let refusal = connection.refusal
                end(
                    connection, .refused(reason: refusal?.reason ?? "internal", explanation: refusal?.explanation ?? "")
                )
            }
        } catch { end(connection, error) }
        return nil
    }

    /// From here on the connection is whoever's takes it out of the room.
    private func keep(_ connection: PendingConnection, _ event: Poll.Event) throws(ChannelError) {
        let (socket, again) = (connection.tls.socket, connection.isWatched)
        connection.isWatched = true
        // In the room first: who is told of the socket finds the connection there.
        waiting.withLock { waiting in
            waiting.insert(connection)
            guard !waiting.isWatched else { return }
            waiting.isWatched = true
            alarm.set(milliseconds: Self.sweep)
        }
        // Without the lock, which the thread that this wakes asks for at once. Whoever made room for others may have closed
        // the socket by now; should its number be another connection's, that one looks once for nothing and waits again.
        guard !poll.once(socket, event, again: again) else { return }
        guard waiting.withLock({ $0.remove(socket, connection) }) else { return }
        throw .connection("cannot wait for one more connection")
    }

    private func end(_ connection: PendingConnection, _ error: ChannelError) {
        service.failed(error, connection.hello)
        connection.tls.abandon()
    }

    // MARK: Steps

    private func prove(_ connection: PendingConnection) -> WorkStep? {
        do throws(ChannelError) {
            guard let session = connection.session else { throw .protocolViolation("no session") }
            let proof: [UInt8]
            do throws(ChannelRefusal) { proof = try service.prove(session) } catch {
                try connection.refuse(error)
                return advance(connection)
            }
            try connection.proved(proof)
        } catch {
            end(connection, error)
            return nil
        }
        return advance(connection)
    }

    private func judge(_ connection: PendingConnection) -> WorkStep? {
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
        return nil
    }
}
