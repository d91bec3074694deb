import ArgumentParser
import Bytes
import COpenSSL
import Crypto

/// What a key release cannot do without, by raw OpenSSL calls on one thread and memory instead of sockets: a TLS 1.3
/// handshake with P-256 certificates at both ends and the channel's groups, one signature and one verification.
struct HandshakeYardstick {
    /// Microseconds of the accepting end alone, and of the two operations on evidence.
    let handshake: Double
    let signing: Double
    let verifying: Double

    var total: Double { handshake + signing + verifying }

    init(_ count: Int) throws {
        let server = unsafe try Self.context(TLS_server_method())
        defer { unsafe SSL_CTX_free(server) }
        let client = unsafe try Self.context(TLS_client_method())
        defer { unsafe SSL_CTX_free(client) }
        unsafe SSL_CTX_set_verify(server, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nil)
        unsafe SSL_CTX_set_cert_verify_callback(server, { _, _ in 1 }, nil)
        var spent = 0.0
        for number in -(count / 10)..<count {
            let once = try unsafe Self.handshake(server, client)
            if number >= 0 { spent += once }
        }
        handshake = spent / Double(count) * 1e6
        (signing, verifying) = try Self.operations(count)
    }

    private static func context(_ method: OpaquePointer?) throws -> OpaquePointer {
        let identity = try TLSIdentity(ephemeral: "yardstick", now: .now)
        let (der, pem) = (identity.certificate.der, try identity.key.pem())
        guard let context = unsafe SSL_CTX_new(method) else { throw ValidationError("SSL_CTX_new") }
        guard unsafe nacre_ssl_ctx_tls13_only(context) == 1,
            unsafe SSL_CTX_set_ciphersuites(context, "TLS_AES_256_GCM_SHA384") == 1,
            unsafe SSL_CTX_set_num_tickets(context, 0) == 1,
            unsafe nacre_ssl_ctx_groups(context, "X25519MLKEM768:X25519") == 1
                || nacre_ssl_ctx_groups(context, "X25519") == 1,
            unsafe SSL_CTX_use_certificate_ASN1(context, Int32(der.count), der) == 1
        else { throw ValidationError("TLS cannot be set up") }
        // The BIO refers to the bytes, which must stay where they are.
        let key: OpaquePointer? = unsafe pem.withUnsafeBytes { bytes in
            guard let bio = unsafe BIO_new_mem_buf(bytes.baseAddress, Int32(bytes.count)) else { return nil }
            defer { unsafe BIO_free(bio) }
            return unsafe PEM_read_bio_PrivateKey(bio, nil, nil, nil)
        }
        defer { unsafe EVP_PKEY_free(key) }
        guard unsafe key != nil, unsafe SSL_CTX_use_PrivateKey(context, key) == 1 else { throw ValidationError("key") }
        unsafe nacre_ssl_ctx_options(context)
        ERR_clear_error()
        return unsafe context
    }

    /// - Returns: seconds that the accepting end took, its session made and freed.
    private static func handshake(_ server: OpaquePointer, _ client: OpaquePointer) throws -> Double {
        var spent = 0.0
        func timed<R>(_ body: () throws -> R) rethrows -> R {
            let start = threadSeconds()
            defer { spent += threadSeconds() - start }
            return try body()
        }
        guard let question = unsafe BIO_new(BIO_s_mem()), let answer = unsafe BIO_new(BIO_s_mem()),
            let accepting = unsafe timed({ unsafe SSL_new(server) }), let asking = unsafe SSL_new(client)
        else { throw ValidationError("no memory") }
        // An empty buffer means "not yet"; both ends free both.
        unsafe BIO_ctrl(question, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nil)
        unsafe BIO_ctrl(answer, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nil)
        unsafe BIO_up_ref(question)
        unsafe BIO_up_ref(answer)
        unsafe SSL_set_bio(accepting, question, answer)
        unsafe SSL_set_bio(asking, answer, question)
        unsafe SSL_set_accept_state(accepting)
        unsafe SSL_set_connect_state(asking)
        var isDone = (false, false)
        for _ in 0..<8 where !(isDone.0 && isDone.1) {
            isDone.0 = unsafe SSL_do_handshake(asking) == 1
            isDone.1 = timed { unsafe SSL_do_handshake(accepting) == 1 }
        }
        unsafe SSL_free(asking)
        timed { unsafe SSL_free(accepting) }
        guard isDone.0, isDone.1 else { throw ValidationError("no handshake") }
        return spent
    }

    /// ECDSA P-256 over a digest, with contexts that are set up once: seconds to sign, seconds to verify, in millionths.
    private static func operations(_ count: Int) throws -> (signing: Double, verifying: Double) {
        guard let key = unsafe nacre_ec_keygen("P-256"), let context = unsafe EVP_PKEY_CTX_new(key, nil),
            let other = unsafe EVP_PKEY_CTX_new(key, nil),
            unsafe EVP_PKEY_sign_init(context) == 1, unsafe EVP_PKEY_verify_init(other) == 1
        else { throw ValidationError("no key") }
        defer {
            unsafe EVP_PKEY_CTX_free(context)
            unsafe EVP_PKEY_CTX_free(other)
            unsafe EVP_PKEY_free(key)
        }
        let digest = HashAlgorithm.sha256.hash([1])
        var signature = [UInt8](repeating: 0, count: 80)
        var size = 0
        func each(_ body: () -> Bool) throws -> Double {
            let start = threadSeconds()
            for _ in 0..<count { guard body() else { throw ValidationError("signature") } }
            return (threadSeconds() - start) / Double(count) * 1e6
        }
        let signing = try each {
            size = signature.count
            return unsafe EVP_PKEY_sign(context, &signature, &size, digest, digest.count) == 1
        }
        let verifying = try each {
            unsafe EVP_PKEY_verify(other, signature, size, digest, digest.count) == 1
        }
        return (signing, verifying)
    }
}
