import Bytes
import COpenSSL
import Glibc

/// The end that answers: TLS 1.3 (RFC 8446) only, one certificate, no resumption, no early data.
@safe public final class TLSServer: @unchecked Sendable {
    // Sendable by hand: an SSL_CTX is not changed after construction, and SSL_new on it is thread-safe.
    private let context: OpaquePointer

    /// - Parameters:
    ///   - certificate: sent to the peer, usually `Certificate.selfSigned`.
    ///   - key: the certificate's private key; `.form` when it is another one.
    public init(certificate: Certificate, key: PrivateKey) throws(CryptoError) {
        unsafe context = try TLSContext.make(TLS_server_method())
        guard unsafe SSL_CTX_use_certificate(context, certificate.handle) == 1,
            unsafe SSL_CTX_use_PrivateKey(context, key.handle) == 1,
            unsafe SSL_CTX_check_private_key(context) == 1
        else { throw CryptoError.library("certificate and key do not belong together", kind: .form) }
    }

    deinit { unsafe SSL_CTX_free(context) }

    /// Handshakes over an already connected socket, which the connection then owns (and closes, also on failure).
    public func accept(_ descriptor: Int32, deadline: Deadline) throws(CryptoError) -> TLSConnection {
        try accept(StreamSocket(adopting: descriptor), deadline: deadline)
    }

    public func accept(_ socket: consuming StreamSocket, deadline: Deadline) throws(CryptoError) -> TLSConnection {
        let connection = try unsafe TLSConnection(context, socket, deadline: deadline)
        try unsafe connection.handshake { unsafe SSL_accept($0) }
        return connection
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
        _ host: String, port: UInt16, deadline: Deadline, authentication: Authentication
    ) throws(CryptoError) -> TLSConnection {
        let socket = try StreamSocket(connectingTo: host, port: port, deadline: deadline)
        return try connect(over: socket, host: host, deadline: deadline, authentication: authentication)
    }

    /// The same over a socket that is already connected; `host` is sent as server name unless it is an address.
    public static func connect(
        over socket: consuming StreamSocket, host: String, deadline: Deadline, authentication: Authentication
    ) throws(CryptoError) -> TLSConnection {
        let context = try unsafe TLSContext.make(TLS_client_method())
        defer { unsafe SSL_CTX_free(context) }
        switch authentication {
        case .unauthenticated: unsafe SSL_CTX_set_verify(context, SSL_VERIFY_NONE, nil)
        }
        let connection = try unsafe TLSConnection(context, socket, deadline: deadline)
        // RFC 6066 §3: literal addresses are not permitted as server names.
        let isName = host.utf8.contains { !(0x30...0x39).contains($0) && $0 != 0x2E } && !host.contains(":")
        try unsafe connection.handshake { session in
            if isName { _ = unsafe nacre_ssl_set_sni(session, host) }
            return unsafe SSL_connect(session)
        }
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
        // A refused first list leaves its reason in the queue.
        ERR_clear_error()
        _ = unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
        return unsafe context
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

    fileprivate func handshake(_ step: (OpaquePointer) -> Int32) throws(CryptoError) {
        guard try unsafe drive("TLS handshake", step) else {
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

    /// Repeats one libssl operation, feeding and draining its buffers, until it is done.
    ///
    /// - Returns: `false` when the peer has closed in an orderly way.
    private func drive(_ doing: String, _ step: (OpaquePointer) -> Int32) throws(CryptoError) -> Bool {
        while true {
            guard descriptor >= 0 else { throw CryptoError(.connection, "\(doing): the connection is closed") }
            ERR_clear_error()
            let result = unsafe step(session)
            let reason = unsafe result == 1 ? SSL_ERROR_NONE : SSL_get_error(session, result)
            // Alerts wait in the outgoing buffer, so that it is emptied before a failure is reported.
            switch reason {
            case SSL_ERROR_NONE:
                try flush()
                return true
            case SSL_ERROR_WANT_READ:
                try flush()
                try fill(doing)
            case SSL_ERROR_WANT_WRITE: try flush()
            case SSL_ERROR_ZERO_RETURN: return false
            default:
                let error = CryptoError.library(doing, kind: .connection)
                try? flush()
                throw error
            }
        }
    }

    /// Sends everything that libssl has produced.
    private func flush() throws(CryptoError) {
        var buffer = [UInt8](repeating: 0, count: Self.pieceSize)
        while true {
            let count = unsafe BIO_read(outgoing, &buffer, Int32(buffer.count))
            guard count > 0 else { return }
            var sent = 0
            while sent < Int(count) {
                let written = unsafe buffer[sent..<Int(count)].withUnsafeBytes { bytes in
                    unsafe send(descriptor, bytes.baseAddress, bytes.count, Int32(MSG_NOSIGNAL))
                }
                if written > 0 {
                    sent += written
                } else if errno == EAGAIN {
                    try StreamSocket.wait(descriptor, POLLOUT, deadline)
                } else if errno != EINTR {
                    throw StreamSocket.error("send")
                }
            }
        }
    }

    /// Waits for bytes from the peer and hands one piece to libssl.
    private func fill(_ doing: String) throws(CryptoError) {
        var buffer = [UInt8](repeating: 0, count: Self.pieceSize)
        while true {
            let count = unsafe recv(descriptor, &buffer, buffer.count, 0)
            if count > 0 {
                guard unsafe BIO_write(incoming, buffer, Int32(count)) == Int32(count) else {
                    throw CryptoError.library(doing)
                }
                return
            }
            if count == 0 { throw CryptoError(.connection, "\(doing): the peer cut the connection") }
            switch errno {
            case EAGAIN: try StreamSocket.wait(descriptor, POLLIN, deadline)
            case EINTR: continue
            default: throw StreamSocket.error("receive")
            }
        }
    }
}
