/// Why a channel did not come about, or ended.
public enum ChannelError: Error, Equatable, Sendable, CustomStringConvertible {
    /// TLS or the network failed.
    case connection(String)
    /// The peer sent what the protocol does not allow.
    case protocolViolation(String)
    /// The peer refused us; the reason is a stable string, `family` or `family-detail`, and all that it says.
    case refusedByPeer(String)
    /// We refused the peer. The explanation stays here, the peer gets the reason only.
    case refused(reason: String, explanation: String)
    /// A step took longer than it may.
    case timeout(String)

    public var description: String {
        switch self {
        case .connection(let text): text
        case .protocolViolation(let text): "the peer breaks the protocol: \(text)"
        case .refusedByPeer(let reason): "the peer refused: \(reason)"
        case .refused(let reason, let explanation): "refused (\(reason)): \(explanation)"
        case .timeout(let step): "no \(step) in time"
        }
    }
}

/// This end turns the other away.
public struct ChannelRefusal: Error, Equatable, Sendable {
    /// `family` or `family-detail`, at most 64 lower-case letters and hyphens: goes to the peer.
    public let reason: String
    /// For this end's log only: policies are nobody else's business.
    public let explanation: String

    public init(_ reason: String, explanation: String = "") {
        let isPlain = reason.utf8.allSatisfy {
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || $0 == UInt8(ascii: "-")
        }
        self.reason = isPlain && (1...FrameKind.refuse.limit).contains(reason.utf8.count) ? reason : "internal"
        self.explanation = explanation
    }

    /// What a peer sent as its reason, or `nil` where that is not one: it goes into logs and onto terminals.
    static func reason(parsing bytes: [UInt8]) -> String? {
        let refusal = ChannelRefusal(String(decoding: bytes, as: UTF8.self))
        return Array(refusal.reason.utf8) == bytes ? refusal.reason : nil
    }
}
