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
    /// Connections that workers have finished their step of, for the waiting thread to take back.
    private let returned = Mutex<[Item]>([])
    private let waker: Waker
    /// The waiting thread's alone.
    private let poll: Poll
    private let isStopped = Atomic(false)

    /// A connection on its way to a worker or back. Sendable by hand: exactly one thread has it at a time.
    private struct Item: @unchecked Sendable {
        let connection: PendingConnection
        let error: ChannelError?
    }

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
        var waiting = WaitingRoom()
        while !isStopped.load(ordering: .relaxed) {
            for ready in poll.wait(milliseconds: waiting.isEmpty ? 1000 : 100) {
                if ready == listener.descriptor {
                    newcomers(&waiting)
                } else if ready == waker.descriptor {
                    waker.clear()
                } else if let connection = waiting.remove(ready) {
                    poll.remove(ready)
                    advance(connection, &waiting)
                }
            }
            for item in returned.withLock({
                let all = $0; $0 = []; return all
            }) {
                if let error = item.error {
                    end(item.connection, error)
                } else {
                    advance(item.connection, &waiting)
                }
            }
            for late in waiting.removeLate() {
                poll.remove(late.tls.socket)
                end(late, .timeout("answer"))
            }
        }
    }

    private func newcomers(_ waiting: inout WaitingRoom) {
        // A bounded number for each round, so that a flood of them cannot keep everyone else waiting.
        for _ in 0..<64 {
            let accepted = nacre_accept4(
                listener.descriptor, Int32(SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue))
            guard accepted >= 0 else { return }
            do throws(CryptoError) {
                let connection = PendingConnection(
                    try tls.begin(try StreamSocket(adopting: accepted)), ownKey: ownKey, step: limits.step)
                if waiting.count >= limits.pending, let oldest = waiting.removeOldest() {
                    poll.remove(oldest.tls.socket)
                    end(oldest, .timeout("room for more connections"))
                }
                advance(connection, &waiting)
            } catch { service.failed(.connection(error.message), nil) }
        }
    }

    private func advance(_ connection: PendingConnection, _ waiting: inout WaitingRoom) {
        do throws(ChannelError) {
            switch try connection.advance(admit: { (hello) throws(ChannelRefusal) in try service.admit(hello) }) {
            case .input: try keep(connection, .input, &waiting)
            case .output: try keep(connection, .output, &waiting)
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

    private func keep(
        _ connection: PendingConnection, _ event: Poll.Event, _ waiting: inout WaitingRoom
    ) throws(ChannelError) {
        guard poll.add(connection.tls.socket, event) else { throw .connection("cannot wait for one more connection") }
        waiting.insert(connection)
    }

    private func end(_ connection: PendingConnection, _ error: ChannelError) {
        service.failed(error, connection.hello)
        connection.tls.abandon()
    }

    // MARK: The workers

    /// Has a worker do one step of `connection`, which is then the worker's alone until `giveBack`.
    private func hand(
        _ connection: PendingConnection, _ step: @escaping @Sendable (Item) -> Void
    ) throws(ChannelError) {
        let item = Item(connection: connection, error: nil)
        guard work.add({ step(item) }) else {
            try connection.refuse(ChannelRefusal("busy", explanation: "\(limits.queue) steps are waiting for a thread"))
            giveBack(item)
            return
        }
    }

    private func giveBack(_ item: Item) {
        returned.withLock { $0.append(item) }
        waker.wake()
    }

    private func prove(_ item: Item) {
        let connection = item.connection
        do throws(ChannelError) {
            guard let session = connection.session else { throw .protocolViolation("no session") }
            do throws(ChannelRefusal) {
                let proof = try service.prove(session)
                do throws(ChannelError) { try connection.proved(proof) } catch { return fail(item, error) }
            } catch { try connection.refuse(error) }
            giveBack(item)
        } catch { fail(item, error) }
    }

    private func judge(_ item: Item) {
        let connection = item.connection
        do throws(ChannelError) {
            guard let session = connection.session else { throw .protocolViolation("no session") }
            let peer: Service.Peer
            do throws(ChannelRefusal) { peer = try service.judge(connection.clientProof, session) } catch {
                try connection.refuse(error)
                return giveBack(item)
            }
            // Five bytes into an empty buffer: the peer cannot make this wait.
            connection.tls.deadline = .milliseconds(limits.step)
            try connection.tls.send(.accept)
            service.serve(AttestedConnection(connection.tls, session: session), peer)
            connection.tls.close()
        } catch { fail(item, error) }
    }

    private func fail(_ item: Item, _ error: ChannelError) {
        giveBack(Item(connection: item.connection, error: error))
    }
}
