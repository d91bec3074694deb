import Bytes
import Crypto

/// An open channel after both ends have proved themselves: messages of at most 1 MiB, in order, each end to the other.
/// For one thread at a time.
public final class AttestedConnection {
    public let session: ChannelSession
    private let tls: TLSConnection

    init(_ tls: TLSConnection, session: ChannelSession) {
        self.tls = tls
        self.session = session
    }

    /// Sends one message by `deadline`.
    public func send(_ message: [UInt8], deadline: Deadline) throws(ChannelError) {
        tls.deadline = deadline
        try tls.send(.data, message)
    }

    /// The next message; `nil` after the peer has closed in an orderly way.
    public func receive(deadline: Deadline) throws(ChannelError) -> [UInt8]? {
        tls.deadline = deadline
        return try tls.receive([.data], "message")?.payload
    }

    /// Says goodbye and closes.
    public func close() { tls.close() }
}

extension TLSConnection {
    func send(_ kind: FrameKind, _ payload: [UInt8] = []) throws(ChannelError) {
        let frame: Frame
        do { frame = try Frame(kind, payload) } catch { throw .protocolViolation("own \(kind): \(error.message)") }
        do { try write(frame.bytes) } catch {
            throw deadline.hasPassed ? .timeout("room for \(kind)") : .connection(error.message)
        }
    }

    /// One frame of the kinds expected; `nil` when the peer closed before its first byte.
    func receive(_ kinds: Set<FrameKind>, _ what: String) throws(ChannelError) -> Frame? {
        var reader = FrameReader()
        var isFirst = true
        while true {
            do {
                let bytes = try read(max: try reader.missing(expecting: kinds))
                if bytes.isEmpty {
                    if isFirst { return nil }
                    throw ChannelError.connection("the peer ended within its \(what)")
                }
                isFirst = false
                if let frame = try reader.add(bytes, expecting: kinds) { return frame }
            } catch let error as ParseError {
                throw .protocolViolation("\(error.field): \(error.message)")
            } catch let error as CryptoError {
                throw deadline.hasPassed ? .timeout(what) : .connection(error.message)
            } catch let error as ChannelError {
                throw error
            } catch { throw .connection("\(error)") }
        }
    }

    /// Tells the peer why before the connection ends; whether it hears is its own business.
    func refuse(_ refusal: ChannelRefusal) {
        deadline = min(deadline, .seconds(1))
        try? send(.refuse, Array(refusal.reason.utf8))
        close()
    }
}
