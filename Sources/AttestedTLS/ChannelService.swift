import Bytes

/// What a server does with those who come; every function may be called on several threads at once.
public protocol ChannelService: Sendable {
    /// What is known of a peer once it is accepted.
    associatedtype Peer: Sendable

    /// Whether this server takes part in what the client asks for; the cheapest refusal comes first.
    func admit(_ hello: Hello) throws(ChannelRefusal)
    /// This server's proof, which must carry `session.ownBinding`. It proves first, to anybody.
    func prove(_ session: ChannelSession) throws(ChannelRefusal) -> [UInt8]
    /// Whether the client's proof, which must carry `session.peerBinding`, is good enough.
    func judge(_ proof: [UInt8], _ session: ChannelSession) throws(ChannelRefusal) -> Peer
    /// The conversation with an accepted client; the connection is closed when this returns.
    func serve(_ connection: AttestedConnection, _ peer: Peer)
    /// For the log: how a connection ended that was not served. `error` may hold what the peer is not told.
    func failed(_ error: ChannelError, _ hello: Hello?)
}

/// How much a server puts up with.
public struct ChannelLimits: Sendable {
    /// Connections that have not been accepted yet; above it the one that has waited longest for its peer has to go.
    public var pending = 4096
    /// Milliseconds that a peer may take for each step: handshake, hello, taking our proof, sending its own.
    public var step = 10_000
    /// Threads that prove, judge and serve.
    public var workers = 16
    /// Accepted conversations and steps of work that wait for a thread; above it newcomers are refused as `busy`.
    public var queue = 1024

    public init() {}
}
