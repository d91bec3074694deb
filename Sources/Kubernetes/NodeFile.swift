import Bytes
import Crypto

/// A file that a node's services read, whole.
public struct NodeFile: Sendable {
    public enum Contents: Sendable {
        case published([UInt8])
        case secret(SecretContents)
    }

    /// Absolute, below `/run`.
    public let path: String
    public let mode: UInt32
    public let contents: Contents

    /// What anybody on the node may read.
    package init(_ path: String, _ text: String) {
        self.path = path
        mode = 0o644
        contents = .published(Array(text.utf8))
    }

    init(_ path: String, _ json: JSON) { self.init(path, json.pretty) }

    /// What only root may read; services that are not root get it by `LoadCredential=`.
    init(_ path: String, _ secret: consuming Secret) {
        self.path = path
        mode = 0o600
        contents = .secret(SecretContents(secret))
    }
}

/// A secret that several may hold, wiped when the last of them lets go.
public final class SecretContents: Sendable {
    public let secret: Secret

    public init(_ secret: consuming Secret) { self.secret = secret }
}
