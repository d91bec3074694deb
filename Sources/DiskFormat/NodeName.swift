import Bytes

/// A node's name: lower-case letters, digits and inner hyphens, at most 63. It is part of its disk key's derivation.
public struct NodeName: Sendable, Hashable, CustomStringConvertible {
    public let description: String

    public init?(_ text: String) {
        let bytes = Array(text.utf8)
        let hyphen = UInt8(ascii: "-")
        guard (1...63).contains(bytes.count), bytes.first != hyphen, bytes.last != hyphen,
            bytes.allSatisfy({ byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == hyphen
            })
        else { return nil }
        description = text
    }
}

extension JSONFields {
    package mutating func nodeName(_ key: String) throws(ParseError) -> NodeName {
        guard let name = NodeName(try string(key)) else {
            throw ParseError("form", field: key, offset: 0, "not a node's name: a-z, 0-9 and inner hyphens, at most 63")
        }
        return name
    }
}
