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

    /// Sends one message that goes from locked memory into the TLS record and nowhere else; what is said of it before
    /// leaves in the same packet.
    public func send(
        _ secret: borrowing Secret, after message: [UInt8]? = nil, deadline: Deadline
    ) throws(ChannelError) {
        tls.deadline = deadline
        var header = ByteWriter()
        header.u8(FrameKind.data.rawValue)
        header.be(UInt32(clamping: secret.count))
        var first: [UInt8] = []
        if let message {
            do throws(ParseError) { first = try Frame(.data, message).bytes } catch {
                throw .protocolViolation("own message: \(error.message)")
            }
        }
        do throws(CryptoError) {
            try tls.enqueue(first + header.bytes)
            try tls.write(secret)
        } catch { throw deadline.hasPassed ? .timeout("room for a secret") : .connection(error.message) }
    }

    /// The next message, which must have exactly `count` bytes, straight into locked memory.
    public func receiveSecret(count: Int, deadline: Deadline) throws(ChannelError) -> Secret {
        tls.deadline = deadline
        do throws(CryptoError) {
            var header: [UInt8] = []
            while header.count < Frame.headerSize {
                let piece = try tls.read(max: Frame.headerSize - header.count)
                guard !piece.isEmpty else { throw CryptoError(.connection, "the peer left before its secret") }
                header += piece
            }
            guard header[0] == FrameKind.data.rawValue, header[1...].reduce(0, { $0 << 8 | Int($1) }) == count else {
                throw CryptoError(.form, "not a message of \(count) bytes")
            }
            return try tls.readSecret(count: count)
        } catch {
            if error.kind == .form { throw .protocolViolation(error.message) }
            throw deadline.hasPassed ? .timeout("secret") : .connection(error.message)
        }
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
