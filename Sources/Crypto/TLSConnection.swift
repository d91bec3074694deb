import Bytes
import COpenSSL
import Glibc

/// An open TLS 1.3 connection, for one thread at a time. Every operation ends by `deadline`.
///
/// libssl works on memory buffers and this class moves bytes between them and the socket: so that a peer that goes
/// away is an error and not SIGPIPE, and so that nothing ever blocks outside of `poll`.
@safe public final class TLSConnection: ByteStream {
    /// By when the next operations must be done.
    public var deadline: Deadline
    private let session: OpaquePointer
    /// Owned by `session`.
    private let incoming: OpaquePointer
    private let outgoing: OpaquePointer
    /// -1 once closed.
    private var descriptor: Int32
    /// Taken from libssl, not yet taken by the socket.
    private var unsent: ArraySlice<UInt8> = []
    /// The last read got less than it had room for: the next one would find nothing, and whoever waits for the socket is
    /// told of what comes after it (epoll(7), question 9). True for one time, so that nothing is ever waited for twice.
    private var isDrained = false

    /// Largest piece moved at once; libssl holds at most one record (16 KiB and its overhead) beyond it.
    private static let pieceSize = 1 << 14

    init(
        _ context: OpaquePointer, _ socket: consuming StreamSocket, deadline: Deadline
    ) throws(CryptoError) {
        guard let session = unsafe SSL_new(context) else { throw CryptoError.library("SSL_new") }
        guard let incoming = unsafe BIO_new(BIO_s_mem()) else {
            unsafe SSL_free(session)
            throw CryptoError.library("BIO_new")
        }
        guard let outgoing = unsafe BIO_new(BIO_s_mem()) else {
            unsafe BIO_free(incoming)
            unsafe SSL_free(session)
            throw CryptoError.library("BIO_new")
        }
        // An empty buffer means "not yet", never "the end".
        unsafe BIO_ctrl(incoming, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nil)
        unsafe BIO_ctrl(outgoing, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nil)
        unsafe SSL_set_bio(session, incoming, outgoing)
        unsafe self.session = session
        unsafe self.incoming = incoming
        unsafe self.outgoing = outgoing
        self.deadline = deadline
        descriptor = socket.release()
    }

    deinit {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        unsafe SSL_free(session)
    }

    func becomeServer() { unsafe SSL_set_accept_state(session) }

    func becomeClient(serverName: String?) {
        unsafe SSL_set_connect_state(session)
        if let serverName { _ = unsafe nacre_ssl_set_sni(session, serverName) }
    }

    func finishHandshake() throws(CryptoError) {
        guard try unsafe drive("TLS handshake", { unsafe SSL_do_handshake($0) }) else {
            throw CryptoError(.connection, "the peer ended the connection during the handshake")
        }
    }

    /// At least one and at most `max` bytes; empty after the peer's close_notify. A connection cut without one throws:
    /// an attacker on the path can cut, and what was read so far may be only the beginning.
    public func read(max: Int) throws(CryptoError) -> [UInt8] {
        guard max > 0 else { return [] }
        var bytes: [UInt8] = []
        let open = try unsafe drive("TLS read") { unsafe Self.read($0, max, into: &bytes) }
        return open ? bytes : []
    }

    /// SSL_read_ex of at most `max` bytes.
    private static func read(_ session: OpaquePointer, _ max: Int, into bytes: inout [UInt8]) -> Int32 {
        var result: Int32 = 0
        unsafe bytes = [UInt8](unsafeUninitializedCapacity: min(max, pieceSize)) { buffer, count in
            result = unsafe SSL_read_ex(session, buffer.baseAddress, min(max, pieceSize), &count)
            if result != 1 { count = 0 }
        }
        return result
    }

    /// Writes all of `bytes`, or throws.
    public func write(_ bytes: [UInt8]) throws(CryptoError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(Self.pieceSize))
            var count = 0
            let open = try unsafe drive("TLS write") { session in
                unsafe SSL_write_ex(session, piece, piece.count, &count)
            }
            guard open, count > 0 else { throw CryptoError(.connection, "the connection is closed") }
            rest = rest.dropFirst(count)
        }
    }

    /// Writes all of `secret`, from where it is locked.
    public func write(_ secret: borrowing Secret) throws(CryptoError) {
        guard secret.count <= Self.pieceSize else { throw CryptoError(.form, "secret of \(secret.count) bytes") }
        let open = try secret.withBytes { bytes throws(CryptoError) in
            var count = 0
            return try unsafe drive("TLS write") { session in
                unsafe bytes.withUnsafeBytes { unsafe SSL_write_ex(session, $0.baseAddress, $0.count, &count) }
            }
        }
        guard open else { throw CryptoError(.connection, "the connection is closed") }
    }

    /// Exactly `count` bytes, straight into locked memory.
    public func readSecret(count: Int) throws(CryptoError) -> Secret {
        guard (1...Self.pieceSize).contains(count) else { throw CryptoError(.form, "secret of \(count) bytes") }
        return try Secret(count: count) { span throws(CryptoError) in
            var done = 0
            while done < count {
                var piece = 0
                let open = try unsafe drive("TLS read") { session in
                    unsafe span.withUnsafeMutableBytes { buffer in
                        unsafe SSL_read_ex(session, buffer.baseAddress?.advanced(by: done), count - done, &piece)
                    }
                }
                guard open, piece > 0 else { throw CryptoError(.connection, "the peer ended within a secret") }
                done += piece
            }
        }
    }

    /// Says goodbye (close_notify) if the peer still listens, and closes the socket. Further use throws.
    public func close() {
        guard descriptor >= 0 else { return }
        // A peer that does not take the last bytes must not hold this side up.
        deadline = min(deadline, .seconds(1))
        if unsafe SSL_shutdown(session) >= 0 { try? flush() }
        ERR_clear_error()
        _ = Glibc.close(descriptor)
        descriptor = -1
    }

    /// Closes the socket without a word.
    public func abandon() {
        guard descriptor >= 0 else { return }
        _ = Glibc.close(descriptor)
        descriptor = -1
    }

    /// Whether this is an earlier session taken up again, which contexts of this room never allow.
    public var isResumed: Bool { unsafe SSL_session_reused(session) != 0 }

    /// Keying material bound to this connection (RFC 8446 §7.5), the same at both ends.
    ///
    /// - Returns: `count` bytes.
    public func exporter(label: String, context: [UInt8], count: Int) throws(CryptoError) -> [UInt8] {
        guard (1...255).contains(count) else { throw CryptoError(.form, "exporter of \(count) bytes") }
        var output = [UInt8](repeating: 0, count: count)
        guard
            unsafe SSL_export_keying_material(
                session, &output, count, label, label.utf8.count, context, context.count, 1) == 1
        else { throw CryptoError.library("no keying material to export") }
        return output
    }

    /// SubjectPublicKeyInfo (DER) of the key in the peer's certificate, which it has proved to hold; `nil` for a client
    /// without one.
    public var peerKey: [UInt8]? {
        guard let certificate = unsafe SSL_get0_peer_certificate(session) else { return nil }
        var output: UnsafeMutablePointer<UInt8>?
        let length = unsafe i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &output)
        defer { unsafe CRYPTO_free(output, "", 0) }
        guard length > 0 else { return nil }
        return unsafe Array(UnsafeBufferPointer(start: output, count: Int(length)))
    }

    /// The key exchange that was agreed on, as libssl names it (`X25519MLKEM768`, `x25519`, `secp256r1`).
    public var keyExchange: String {
        let id = unsafe SSL_ctrl(session, SSL_CTRL_GET_NEGOTIATED_GROUP, 0, nil)
        guard let name = unsafe SSL_group_to_name(session, Int32(clamping: id)) else { return "unknown" }
        return unsafe String(cString: name)
    }

    /// `TLSv1.3`, always.
    public var version: String { unsafe String(cString: SSL_get_version(session)) }

    // MARK: Without waiting

    /// What an operation that never waits is short of.
    public enum Progress: Sendable, Equatable {
        case done
        /// The peer must send something first.
        case needsInput
        /// The peer must take something first.
        case needsOutput
    }

    /// The socket, to wait for; -1 once closed.
    public var socket: Int32 { descriptor }

    /// One round of a handshake begun by `TLSServer.begin`.
    public func continueHandshake() throws(CryptoError) -> Progress {
        switch try unsafe attempt("TLS handshake", { unsafe SSL_do_handshake($0) }) {
        case .done: try flushWhatFits() ? .done : .needsOutput
        case .closed: throw CryptoError(.connection, "the peer ended the connection during the handshake")
        case .needsInput: .needsInput
        case .needsOutput: .needsOutput
        }
    }

    /// What has arrived, at most `max` bytes: `nil` when nothing has yet, empty after the peer's close_notify.
    public func readWhatArrived(max: Int) throws(CryptoError) -> [UInt8]? {
        var bytes: [UInt8] = []
        switch try unsafe attempt("TLS read", { unsafe Self.read($0, max, into: &bytes) }) {
        case .done: return bytes
        case .closed: return []
        case .needsInput, .needsOutput: return nil
        }
    }

    /// Encrypts all of `bytes` into memory; `flushWhatFits` sends them.
    public func enqueue(_ bytes: [UInt8]) throws(CryptoError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let piece = Array(rest.prefix(Self.pieceSize))
            var count = 0
            ERR_clear_error()
            // Memory takes everything, so that there is nothing to wait for.
            guard unsafe SSL_write_ex(session, piece, piece.count, &count) == 1, count > 0 else {
                throw CryptoError.library("TLS write", kind: .connection)
            }
            rest = rest.dropFirst(count)
        }
    }

    /// Sends what the peer takes now. - Returns: whether that was all.
    public func flushWhatFits() throws(CryptoError) -> Bool {
        guard descriptor >= 0 else { throw CryptoError(.connection, "the connection is closed") }
        while true {
            if unsent.isEmpty {
                let waiting = unsafe min(BIO_ctrl_pending(outgoing), Self.pieceSize)
                guard waiting > 0 else { return true }
                unsent = unsafe [UInt8](unsafeUninitializedCapacity: waiting) { buffer, count in
                    count = Int(max(0, unsafe BIO_read(outgoing, buffer.baseAddress, Int32(waiting))))
                }[...]
            }
            let written = unsafe unsent.withUnsafeBytes { bytes in
                unsafe send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
            }
            if written > 0 {
                unsent = unsent.dropFirst(written)
            } else if errno == EAGAIN {
                return false
            } else if errno != EINTR {
                throw StreamSocket.error("send")
            }
        }
    }

    private enum Attempt { case done, closed, needsInput, needsOutput }

    /// One libssl operation, fed with whatever the socket holds, without waiting for more.
    private func attempt(_ doing: String, _ step: (OpaquePointer) -> Int32) throws(CryptoError) -> Attempt {
        while true {
            guard descriptor >= 0 else { throw CryptoError(.connection, "\(doing): the connection is closed") }
            ERR_clear_error()
            let result = unsafe step(session)
            let reason = unsafe result == 1 ? SSL_ERROR_NONE : SSL_get_error(session, result)
            switch reason {
            case SSL_ERROR_NONE: return .done
            case SSL_ERROR_WANT_READ:
                guard try flushWhatFits() else { return .needsOutput }
                guard try receive(doing) else { return .needsInput }
            case SSL_ERROR_WANT_WRITE:
                guard try flushWhatFits() else { return .needsOutput }
            case SSL_ERROR_ZERO_RETURN: return .closed
            default:
                let error = CryptoError.library(doing, kind: .connection)
                // The alert that says why waits in the outgoing buffer.
                _ = try? flushWhatFits()
                throw error
            }
        }
    }

    /// Repeats one libssl operation, waiting for the peer until `deadline`, until it is done and sent.
    ///
    /// - Returns: `false` when the peer has closed in an orderly way.
    private func drive(_ doing: String, _ step: (OpaquePointer) -> Int32) throws(CryptoError) -> Bool {
        while true {
            switch try unsafe attempt(doing, step) {
            case .done:
                try flush()
                return true
            case .closed: return false
            case .needsInput: try StreamSocket.wait(descriptor, POLLIN, deadline)
            case .needsOutput: try StreamSocket.wait(descriptor, POLLOUT, deadline)
            }
        }
    }

    /// Sends everything that libssl has produced.
    private func flush() throws(CryptoError) {
        while try !flushWhatFits() { try StreamSocket.wait(descriptor, POLLOUT, deadline) }
    }

    /// Hands one piece from the socket to libssl. - Returns: whether there was one.
    private func receive(_ doing: String) throws(CryptoError) -> Bool {
        if isDrained {
            isDrained = false
            return false
        }
        let (count, code) = unsafe withUnsafeTemporaryAllocation(byteCount: Self.pieceSize, alignment: 16) { buffer in
            while true {
                let count = unsafe recv(descriptor, buffer.baseAddress, buffer.count, 0)
                if count < 0, errno == EINTR { continue }
                guard count > 0 else { return (count, errno) }
                // Memory takes everything or nothing.
                let taken = unsafe BIO_write(incoming, buffer.baseAddress, Int32(count))
                return (Int(taken) == count ? count : -1, ENOMEM)
            }
        }
        if count > 0 {
            isDrained = count < Self.pieceSize
            return true
        }
        if count == 0 { throw CryptoError(.connection, "\(doing): the peer cut the connection") }
        if code == EAGAIN { return false }
        throw StreamSocket.error("receive", code)
    }
}
