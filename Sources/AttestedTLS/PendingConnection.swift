import Bytes
import Crypto

/// A connection that is not accepted yet, as a state machine that never waits: it is fed when its socket is ready and says
/// what it needs next. Nothing of it is a thread's, so that ten thousand silent ones cost memory and nothing else.
final class PendingConnection: @unchecked Sendable {
    // Sendable by hand: exactly one thread has it at a time, and hands it on under a lock.

    enum Need: Equatable {
        /// The peer must send, or take, something by the step's deadline.
        case input, output
        /// A worker must make this server's proof, or judge the client's.
        case proof, judgement
        /// A refusal is sent: it can be closed.
        case end
    }

    private enum State {
        case handshake, hello, proving, sendingProof, clientProof, judging, refusing
    }

    let tls: TLSConnection
    /// Whether its socket was ever waited for.
    var isWatched = false
    /// What the log is told where the peer is refused.
    private(set) var refusal: ChannelRefusal?
    private(set) var hello: Hello?
    private(set) var session: ChannelSession?
    /// The client's proof once it is whole.
    private(set) var clientProof: [UInt8] = []
    /// By when the peer must have done its part of this step.
    private(set) var deadline: Deadline
    private var state = State.handshake
    private var reader = FrameReader()
    private let ownKey: [UInt8]
    private let step: Int

    init(_ tls: TLSConnection, ownKey: [UInt8], step: Int) {
        self.tls = tls
        self.ownKey = ownKey
        self.step = step
        deadline = .milliseconds(step)
    }

    /// Goes on as far as it can. Throws when the connection has failed and can only be closed.
    func advance(admit: (Hello) throws(ChannelRefusal) -> Void) throws(ChannelError) -> Need {
        while true {
            switch state {
            case .handshake:
                do throws(CryptoError) {
                    switch try tls.continueHandshake() {
                    case .needsInput: return .input
                    case .needsOutput: return .output
                    case .done: enter(.hello)
                    }
                } catch { throw .connection(error.message) }
            case .hello:
                guard let frame = try receive(.hello) else { return .input }
                let hello: Hello
                do throws(ParseError) { hello = try Hello(parsing: frame.payload) } catch {
                    try refuse(ChannelRefusal("parse-\(error.detail)", explanation: error.message))
                    continue
                }
                self.hello = hello
                session = try ChannelSession(tls, hello: hello, end: .server, ownKey: ownKey)
                do throws(ChannelRefusal) { try admit(hello) } catch {
                    try refuse(error)
                    continue
                }
                enter(.proving)
            case .proving: return .proof
            case .sendingProof:
                guard try flush() else { return .output }
                enter(.clientProof)
            case .clientProof:
                guard let frame = try receive(.proof) else { return .input }
                clientProof = frame.payload
                enter(.judging)
            case .judging: return .judgement
            case .refusing:
                guard try flush() else { return .output }
                return .end
            }
        }
    }

    /// Answers `.proof`.
    func proved(_ proof: [UInt8]) throws(ChannelError) {
        try enqueue(.proof, proof)
        enter(.sendingProof)
    }

    /// Answers `.proof` or `.judgement` with no.
    func refuse(_ refusal: ChannelRefusal) throws(ChannelError) {
        self.refusal = refusal
        clientProof = []
        try enqueue(.refuse, Array(refusal.reason.utf8))
        enter(.refusing)
    }

    private func enter(_ next: State) {
        state = next
        deadline = .milliseconds(step)
    }

    private func enqueue(_ kind: FrameKind, _ payload: [UInt8]) throws(ChannelError) {
        do {
            try tls.enqueue(try Frame(kind, payload).bytes)
        } catch let error as ParseError {
            throw .protocolViolation("own \(kind): \(error.message)")
        } catch { throw .connection("\(error)") }
    }

    private func flush() throws(ChannelError) -> Bool {
        do throws(CryptoError) { return try tls.flushWhatFits() } catch { throw .connection(error.message) }
    }

    /// The frame that may come now, once it is whole; a refusal by the client ends the connection.
    private func receive(_ kind: FrameKind) throws(ChannelError) -> Frame? {
        let kinds: Set = [kind, .refuse]
        do {
            while let bytes = try tls.readWhatArrived(max: try reader.missing(expecting: kinds)) {
                guard !bytes.isEmpty else { throw ChannelError.connection("the client left before its \(kind)") }
                guard let frame = try reader.add(bytes, expecting: kinds) else { continue }
                if frame.kind == .refuse {
                    guard let reason = ChannelRefusal.reason(parsing: frame.payload) else {
                        throw ChannelError.protocolViolation("a refusal whose reason is not a plain word")
                    }
                    throw ChannelError.refusedByPeer(reason)
                }
                return frame
            }
            return nil
        } catch let error as ParseError {
            throw .protocolViolation("\(error.field): \(error.message)")
        } catch let error as CryptoError {
            throw .connection(error.message)
        } catch let error as ChannelError {
            throw error
        } catch { throw .connection("\(error)") }
    }
}
