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
            // Certificates at both ends have a P-256 key (docs/channel.md): the list is offered, looked through and
            // answered with in each handshake.
            guard unsafe nacre_ssl_ctx_signatures(context, "ecdsa_secp256r1_sha256") == 1 else {
                throw CryptoError.library("signature algorithms for TLS")
            }
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
        /// Whom this authority names as the host that was asked for, by DNS name or by address (RFC 6125), now.
        case authority(Certificate)
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
        case .authority(let authority): try unsafe TLSContext.trust(authority, host, in: context)
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
        // What was read is wiped from libssl's buffers once it is delivered, and nothing a stranger sent is decompressed.
        unsafe nacre_ssl_ctx_options(context)
        // A refused first list leaves its reason in the queue.
        ERR_clear_error()
        _ = unsafe SSL_CTX_ctrl(context, SSL_CTRL_SET_SESS_CACHE_MODE, Int(SSL_SESS_CACHE_OFF), nil)
        return unsafe context
    }

    /// Only what `authority` has signed itself, for `host`.
    static func trust(_ authority: Certificate, _ host: String, in context: OpaquePointer) throws(CryptoError) {
        guard let store = unsafe SSL_CTX_get_cert_store(context), let wanted = unsafe SSL_CTX_get0_param(context),
            unsafe X509_STORE_add_cert(store, authority.handle) == 1
        else { throw CryptoError.library("an authority for TLS") }
        let isNamed =
            IPAddress(host) == nil
            ? unsafe X509_VERIFY_PARAM_set1_host(wanted, host, 0) : unsafe X509_VERIFY_PARAM_set1_ip_asc(wanted, host)
        guard isNamed == 1 else { throw CryptoError(.form, "not a host's name or address: \(host)") }
        unsafe SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nil)
    }

    static func use(_ certificate: Certificate, _ key: PrivateKey, in context: OpaquePointer) throws(CryptoError) {
        guard unsafe SSL_CTX_use_certificate(context, certificate.handle) == 1,
            unsafe SSL_CTX_use_PrivateKey(context, key.handle) == 1,
            unsafe SSL_CTX_check_private_key(context) == 1
        else { throw CryptoError.library("certificate and key do not belong together", kind: .form) }
    }
}
