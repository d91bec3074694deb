import COpenSSL

/// What OpenSSL, or a rule of this room, refused.
public struct CryptoError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// Input that is not of the form asked for (PEM, DER, a key of another type).
        case form
        /// A signature that does not verify.
        case signature
        /// The library failed; its own words are in the message.
        case library
        /// A connection failed or was closed.
        case connection
    }
    public let kind: Kind
    public let message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    public var description: String { message }

    /// The error with OpenSSL's own reason appended; empties its error queue.
    static func library(_ doing: String, kind: Kind = .library) -> CryptoError {
        var text = [CChar](repeating: 0, count: 256)
        let code = ERR_get_error()
        ERR_clear_error()
        guard code != 0 else { return CryptoError(kind, doing) }
        unsafe ERR_error_string_n(code, &text, text.count)
        let bytes = text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        return CryptoError(kind, "\(doing): \(String(decoding: bytes, as: UTF8.self))")
    }
}
