import Bytes
import Crypto

/// Which end of the channel speaks.
public enum ChannelEnd: String, Sendable {
    case client, server
}

/// What a proof on the channel is about: this TLS session between these two keys, and nothing else.
///
/// A proof for another session, from the other end, for another purpose or cluster has another binding, so that it can be
/// neither replayed, nor relayed by somebody in the middle, nor reflected (CVE-2026-33697).
public enum ChannelBinding {
    /// RFC 8446 §7.5; the context is empty.
    public static let exporterLabel = "EXPORTER-nacre-attested-channel"
    public static let exporterSize = 32
    static let label = "nacre/v1/attested-channel"

    /// SHA-512 over length-prefixed (u32, big-endian) {label, sender, exporter, sender's SPKI, receiver's SPKI, cluster
    /// id, purpose}; the 64 bytes of a hardware report's data.
    ///
    /// - Parameters:
    ///   - sender: who makes the proof.
    ///   - own: SubjectPublicKeyInfo (DER) of the sender's TLS key.
    ///   - peer: the receiver's.
    public static func compute(
        sender: ChannelEnd, exporter: [UInt8], own: [UInt8], peer: [UInt8], hello: Hello
    ) -> [UInt8] {
        var writer = ByteWriter()
        for part in [
            Array(label.utf8), Array(sender.rawValue.utf8), exporter, own, peer, hello.clusterID,
            Array(hello.purpose.utf8),
        ] {
            writer.be(UInt32(clamping: part.count))
            writer.append(part)
        }
        return HashAlgorithm.sha512.hash(writer.bytes)
    }
}

/// What both ends know of a session once TLS stands and the client has said hello.
public struct ChannelSession: Sendable {
    public let hello: Hello
    public let end: ChannelEnd
    /// TLS keys, SubjectPublicKeyInfo DER.
    public let ownKey: [UInt8]
    public let peerKey: [UInt8]
    /// Key exchange, such as `X25519MLKEM768`.
    public let group: String
    /// 64 bytes: what this end's proof must carry, and what the peer's must.
    public let ownBinding: [UInt8]
    public let peerBinding: [UInt8]

    init(_ tls: TLSConnection, hello: Hello, end: ChannelEnd, ownKey: [UInt8]) throws(ChannelError) {
        do throws(CryptoError) {
            guard let peerKey = tls.peerKey else {
                throw CryptoError(.connection, "the peer showed no certificate")
            }
            guard tls.version == "TLSv1.3", !tls.isResumed else {
                throw CryptoError(
                    .connection, "\(tls.version), resumed: \(tls.isResumed); only a full TLS 1.3 handshake")
            }
            let exporter = try tls.exporter(
                label: ChannelBinding.exporterLabel, context: [], count: ChannelBinding.exporterSize)
            self.peerKey = peerKey
            self.ownKey = ownKey
            self.hello = hello
            self.end = end
            group = tls.keyExchange
            let other: ChannelEnd = end == .client ? .server : .client
            ownBinding = ChannelBinding.compute(
                sender: end, exporter: exporter, own: ownKey, peer: peerKey, hello: hello)
            peerBinding = ChannelBinding.compute(
                sender: other, exporter: exporter, own: peerKey, peer: ownKey, hello: hello)
        } catch { throw ChannelError.connection(error.message) }
        // An end that talks to itself proves nothing about anybody else.
        guard !constantTimeEqual(peerKey, ownKey) else {
            throw ChannelError.protocolViolation("the peer has our own key")
        }
    }
}
