import Bytes
import Crypto

/// The end that asks. The server proves first; this end proves only to a server it has accepted.
public struct ChannelClient: Sendable {
    private let identity: TLSIdentity
    private let ownKey: [UInt8]

    /// - Parameter identity: a key that lives as long as this process at most; a fresh one by `TLSIdentity(ephemeral:)`.
    public init(identity: TLSIdentity) throws(ChannelError) {
        self.identity = identity
        do throws(CryptoError) { ownKey = try identity.certificate.publicKey().spki } catch {
            throw .connection(error.message)
        }
    }

    /// Seconds for the TLS handshake. A packet to a machine that is still starting may be sent again only much later; who
    /// connects anew is there sooner.
    private static let patience = 5

    /// Connects and attests mutually.
    ///
    /// - Parameters:
    ///   - deadline: for all of it.
    ///   - judge: whether the server's proof, which must carry `session.peerBinding`, is good enough; throws to refuse.
    ///   - prove: this end's proof, which must carry `session.ownBinding`. Only called once `judge` was content.
    public func connect<Peer>(
        _ host: String, port: UInt16, hello: Hello, deadline: Deadline,
        judge: (_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer,
        prove: (_ session: ChannelSession, _ peer: Peer) throws(ChannelRefusal) -> [UInt8]
    ) throws(ChannelError) -> (connection: AttestedConnection, peer: Peer) {
        let tls: TLSConnection
        do {
            tls = try TLSClient.connect(
                host, port: port, deadline: min(deadline, .seconds(Self.patience)), authentication: .unauthenticated,
                identity: identity)
        } catch { throw .connection(error.message) }
        tls.deadline = deadline
        do throws(ChannelError) {
            return try attest(tls, hello: hello, judge: judge, prove: prove)
        } catch {
            tls.close()
            throw error
        }
    }

    func attest<Peer>(
        _ tls: TLSConnection, hello: Hello,
        judge: (_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer,
        prove: (_ session: ChannelSession, _ peer: Peer) throws(ChannelRefusal) -> [UInt8]
    ) throws(ChannelError) -> (connection: AttestedConnection, peer: Peer) {
        let session = try ChannelSession(tls, hello: hello, end: .client, ownKey: ownKey)
        try tls.send(.hello, hello.bytes)
        let theirs = try answer(tls, .proof, "proof of the server")
        let peer: Peer
        let ours: [UInt8]
        do throws(ChannelRefusal) {
            peer = try judge(theirs, session)
            ours = try prove(session, peer)
        } catch {
            tls.refuse(error)
            throw .refused(reason: error.reason, explanation: error.explanation)
        }
        try tls.send(.proof, ours)
        _ = try answer(tls, .accept, "acceptance")
        return (AttestedConnection(tls, session: session), peer)
    }

    /// The payload of the one frame that may come now, unless the server refuses.
    private func answer(_ tls: TLSConnection, _ kind: FrameKind, _ what: String) throws(ChannelError) -> [UInt8] {
        guard let frame = try tls.receive([kind, .refuse], what) else {
            throw .connection("the server closed the connection instead of sending its \(what)")
        }
        guard frame.kind == .refuse else { return frame.payload }
        guard let reason = ChannelRefusal.reason(parsing: frame.payload) else {
            throw .protocolViolation("a refusal whose reason is not a plain word")
        }
        throw .refusedByPeer(reason)
    }
}
