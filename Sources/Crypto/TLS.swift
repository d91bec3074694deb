import Bytes
import COpenSSL
import Glibc

/// The end that answers: TLS 1.3 (RFC 8446) only, one certificate, no resumption, no early data.
@safe public final class TLSServer: @unchecked Sendable {
    // Sendable by hand: an SSL_CTX is not changed after construction, and SSL_new on it is thread-safe.
    private let context: OpaquePointer

    /// Whether a client must show a certificate.
    public enum ClientKeys: Sendable {
        case none
        /// Any certificate does: the client proves that it holds the key, and who that is comes later by other means.
        case any
    }

    /// - Parameters:
    ///   - certificate: sent to the peer, usually `Certificate.selfSigned`.
    ///   - key: the certificate's private key; `.form` when it is another one.
    public init(certificate: Certificate, key: PrivateKey, clients: ClientKeys = .none) throws(CryptoError) {
        unsafe context = try TLSContext.make(TLS_server_method())
        try unsafe TLSContext.use(certificate, key, in: context)
        if clients == .any {
            unsafe SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
            unsafe SSL_CTX_set_cert_verify_callback(context, { _, _ in 1 }, nil)
        }
    }

    deinit { unsafe SSL_CTX_free(context) }

    /// Handshakes over an already connected socket, which the connection then owns (and closes, also on failure).
    public func accept(_ descriptor: Int32, deadline: Deadline) throws(CryptoError) -> TLSConnection {
        try accept(StreamSocket(adopting: descriptor), deadline: deadline)
    }

    public func accept(_ socket: consuming StreamSocket, deadline: Deadline) throws(CryptoError) -> TLSConnection {
        let connection = try begin(socket)
        connection.deadline = deadline
        try connection.finishHandshake()
        return connection
    }

    /// A connection whose handshake the caller drives by `continueHandshake`, so that one thread can wait for many.
    public func begin(_ socket: consuming StreamSocket) throws(CryptoError) -> TLSConnection {
        let connection = try unsafe TLSConnection(context, socket, deadline: .seconds(0))
        connection.becomeServer()
        return connection
    }
}

/// A certificate with its private key.
public struct TLSIdentity: Sendable {
    public let certificate: Certificate
    public let key: PrivateKey

    public init(certificate: Certificate, key: PrivateKey) {
        self.certificate = certificate
        self.key = key
    }

    /// A fresh P-256 key under a certificate of its own, for ends that prove who they are inside the connection. Valid
    /// from a day before `now`, as the clock of a freshly booted machine may be off, for ten years.
    public init(ephemeral name: String, now: Instant) throws(CryptoError) {
        key = try PrivateKey(generating: .p256)
        certificate = try Certificate.selfSigned(
            key: key, commonName: name, notBefore: Instant(seconds: now.seconds - 86400),
            notAfter: Instant(seconds: now.seconds + 3650 * 86400))
    }
}

/// The end that asks.
public enum TLSClient {
    /// Who must be at the other end.
    public enum Authentication: Sendable {
        /// Anybody: the certificate is not checked against any authority or name, only that the peer holds its key. For
        /// evidence, which carries its own proof; never for secrets.
        case unauthenticated
    }

    /// Connects, handshakes TLS 1.3 and returns the open connection; `deadline` covers all of it and stays in force
    /// for reads and writes until the caller sets another.
    public static func connect(
        _ host: String, port: UInt16, deadline: Deadline, authentication: Authentication,
        identity: TLSIdentity? = nil
    ) throws(CryptoError) -> TLSConnection {
        let socket = try StreamSocket(connectingTo: host, port: port, deadline: deadline)
        return try connect(
            over: socket, host: host, deadline: deadline, authentication: authentication, identity: identity)
    }

    /// The same over a socket that is already connected; `host` is sent as server name unless it is an address.
    ///
    /// - Parameter identity: shown to a server that asks for a certificate.
    public static func connect(
        over socket: consuming StreamSocket, host: String, deadline: Deadline, authentication: Authentication,
        identity: TLSIdentity? = nil
    ) throws(CryptoError) -> TLSConnection {
        let context = try unsafe TLSContext.make(TLS_client_method())
        defer { unsafe SSL_CTX_free(context) }
        if let identity { try unsafe TLSContext.use(identity.certificate, identity.key, in: context) }
        switch authentication {
        case .unauthenticated: unsafe SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        }
        let connection = try unsafe TLSConnection(context, socket, deadline: deadline)
        // RFC 6066 §3: literal addresses are not permitted as server names.
        let isName = host.utf8.contains { !(0x30...0x39).contains($0) && $0 != 0x2E } && !host.contains(":")
        connection.becomeClient(serverName: isName ? host : nil)
        try connection.finishHandshake()
        return connection
    }
}

private enum TLSContext {
    /// Preferred first; the hybrid group needs OpenSSL 3.5, an older one takes the second list.
    private static let groups = ["X25519MLKEM768:X25519:P-256", "X25519:P-256"]

    static func make(_ method: OpaquePointer?) throws(CryptoError) -> OpaquePointer {
        guard let context = unsafe SSL_CTX_new(method) else { throw CryptoError.library("SSL_CTX_new") }
        let suites = "TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256"
        guard unsafe nacre_ssl_ctx_tls13_only(context) == 1, unsafe SSL_CTX_set_ciphersuites(context, suites) == 1,
            unsafe SSL_CTX_set_num_tickets(context, 0) == 1,
            groups.contains(where: { unsafe nacre_ssl_ctx_groups(context, $0) == 1 })
        else {
            unsafe SSL_CTX_free(context)
            throw CryptoError.library("TLS 1.3 cannot be set up")
        }
        // What was read is wiped from libssl's buffers once it is delivered.
        unsafe nacre_ssl_ctx_cleanse(context)
        // A refused first list leaves its reason in the queue.
        ERR_clear_error()
        _ = unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
        return unsafe context
    }

    static func use(_ certificate: Certificate, _ key: PrivateKey, in context: OpaquePointer) throws(CryptoError) {
        guard unsafe SSL_CTX_use_certificate(context, certificate.handle) == 1,
            unsafe SSL_CTX_use_PrivateKey(context, key.handle) == 1,
            unsafe SSL_CTX_check_private_key(context) == 1
        else { throw CryptoError.library("certificate and key do not belong together", kind: .form) }
    }
}

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

    /// Largest piece moved at once; libssl holds at most one record (16 KiB and its overhead) beyond it.
    private static let pieceSize = 1 << 14

    fileprivate init(
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

    fileprivate func becomeServer() { unsafe SSL_set_accept_state(session) }

    fileprivate func becomeClient(serverName: String?) {
        unsafe SSL_set_connect_state(session)
        if let serverName { _ = unsafe nacre_ssl_set_sni(session, serverName) }
    }

    fileprivate func finishHandshake() throws(CryptoError) {
        guard try unsafe drive("TLS handshake", { unsafe SSL_do_handshake($0) }) else {
            throw CryptoError(.connection, "the peer ended the connection during the handshake")
        }
    }

    /// At least one and at most `max` bytes; empty after the peer's close_notify. A connection cut without one throws:
    /// an attacker on the path can cut, and what was read so far may be only the beginning.
    public func read(max: Int) throws(CryptoError) -> [UInt8] {
        guard max > 0 else { return [] }
        var buffer = [UInt8](repeating: 0, count: min(max, Self.pieceSize))
        var count = 0
        let open = try unsafe drive("TLS read") { session in
            unsafe SSL_read_ex(session, &buffer, buffer.count, &count)
        }
        return open ? Array(buffer.prefix(count)) : []
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

    /// The certificate that the peer sent, whose key it has proved to hold; `nil` for a client without one.
    public var peerCertificate: Certificate? {
        guard let handle = unsafe SSL_get1_peer_certificate(session) else { return nil }
        defer { unsafe X509_free(handle) }
        return unsafe try? Certificate(der: Certificate.encode(handle))
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
        var buffer = [UInt8](repeating: 0, count: min(max, Self.pieceSize))
        var count = 0
        switch try unsafe attempt("TLS read", { unsafe SSL_read_ex($0, &buffer, buffer.count, &count) }) {
        case .done: return Array(buffer.prefix(count))
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
                var buffer = [UInt8](repeating: 0, count: Self.pieceSize)
                let count = unsafe BIO_read(outgoing, &buffer, Int32(buffer.count))
                guard count > 0 else { return true }
                unsent = buffer[..<Int(count)]
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
        var buffer = [UInt8](repeating: 0, count: Self.pieceSize)
        while true {
            let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
            if count > 0 {
                guard unsafe BIO_write(incoming, buffer, Int32(count)) == Int32(count) else {
                    throw CryptoError.library(doing)
                }
                return true
            }
            if count == 0 { throw CryptoError(.connection, "\(doing): the peer cut the connection") }
            switch errno {
            case EAGAIN: return false
            case EINTR: continue
            default: throw StreamSocket.error("receive")
            }
        }
    }
}
