import Bytes

/// Why a message was not read or written.
public struct HTTPError: Error, Equatable, Sendable, CustomStringConvertible {
    public enum Kind: Sendable, Equatable {
        /// Not of the form that RFC 9112 or this room's narrower reading demands.
        case malformed
        /// Header or body longer than the limit.
        case tooLarge
        /// A form that RFC 9112 allows and this room does not speak: other versions, chunked bodies.
        case unsupported
        /// The stream ended inside a message, or failed.
        case transport
    }
    public let kind: Kind
    public let message: String

    public init(_ kind: Kind, _ message: String) {
        self.kind = kind
        self.message = message
    }

    public var description: String { message }

    /// The status with which a server answers this error; `nil` when nobody is there to read it.
    public var status: Int? {
        switch kind {
        case .malformed: 400
        case .tooLarge: 413
        case .unsupported: 501
        case .transport: nil
        }
    }
}

/// A request as it stands on the wire; `target` in origin form (RFC 9112 §3.2.1).
public struct HTTPRequest: Sendable, Equatable {
    public var method: String
    public var target: String
    /// Field names in lower case.
    public var fields: [String: String]
    public var body: [UInt8]

    public init(method: String = "GET", target: String, fields: [String: String] = [:], body: [UInt8] = []) {
        self.method = method
        self.target = target
        self.fields = fields
        self.body = body
    }

    /// The target up to `?`, percent-encoding left in place.
    public var path: Substring { target.prefix { $0 != "?" } }

    /// The query's `name=value` pairs, percent-decoded; `nil` for a malformed query or a name that stands twice.
    public var query: [String: String]? {
        guard let mark = target.firstIndex(of: "?") else { return [:] }
        var items: [String: String] = [:]
        for pair in target[target.index(after: mark)...].split(separator: "&", omittingEmptySubsequences: false) {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let first = parts.first, let name = Self.percentDecoded(first), !name.isEmpty,
                let value = parts.count == 2 ? Self.percentDecoded(parts[1]) : "",
                items.updateValue(value, forKey: name) == nil
            else { return nil }
        }
        return items
    }

    private static func percentDecoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            if byte == UInt8(ascii: "%") {
                guard rest.count >= 2, let pair = Hex.decode(String(decoding: rest.prefix(2), as: UTF8.self)) else {
                    return nil
                }
                bytes += pair
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}

/// A response as it stands on the wire.
public struct HTTPResponse: Sendable, Equatable {
    /// 100 to 599.
    public var status: Int
    /// Field names in lower case.
    public var fields: [String: String]
    public var body: [UInt8]

    public init(status: Int, fields: [String: String] = [:], body: [UInt8] = []) {
        self.status = status
        self.fields = fields
        self.body = body
    }

    public static func json(_ value: JSON, status: Int = 200) -> HTTPResponse {
        HTTPResponse(status: status, fields: ["content-type": "application/json"], body: Array(value.compact.utf8))
    }

    public static func text(_ text: String, status: Int) -> HTTPResponse {
        HTTPResponse(
            status: status, fields: ["content-type": "text/plain; charset=utf-8"], body: Array((text + "\n").utf8))
    }
}
