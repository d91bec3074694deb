import Bytes

/// Where another node's channel may be. A hint: whoever answers there has to prove itself.
public struct PeerEndpoint: Sendable, Hashable, CustomStringConvertible {
    /// As many as are kept and asked.
    public static let maximumCount = 16

    /// A name or an address.
    public let host: String
    public let port: UInt16

    public init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    public var description: String { "\(host):\(port)" }

    public var json: JSON { ["host": .string(host), "port": .integer(Int128(port))] }

    public init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        host = try fields.string("host")
        let number = try fields.integer("port")
        try fields.end()
        let isHost = host.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
                || byte == UInt8(ascii: "-") || byte == UInt8(ascii: ".") || byte == UInt8(ascii: ":")
        }
        guard isHost, (1...253).contains(host.utf8.count), let port = UInt16(exactly: number), port > 0 else {
            throw ParseError("form", field: path, offset: 0, "must be a host in lower case and a port")
        }
        self.port = port
    }

    /// At most `maximumCount`, none of them twice.
    public static func list(_ values: [JSON], path: String) throws(ParseError) -> [PeerEndpoint] {
        try JSONFields.distinct(values, atMost: maximumCount, path: path) { (value, path) throws(ParseError) in
            try PeerEndpoint(json: value, path: path)
        }
    }
}
