import Bytes

/// The client's first message: what it wants, in which cluster. Not secret, not trusted; bound into both proofs.
public struct Hello: Sendable, Equatable {
    /// Version of the protocol; another one is refused.
    public static let version: UInt16 = 1
    private static let magic = Array("NACRE".utf8)

    /// 1 to 32 lower-case letters and hyphens: `init`, `join`, `rejoin`, `recover`, `status`, `logs`.
    public let purpose: String
    /// 32 bytes; empty when the client knows no cluster yet, or the server is in none.
    public let clusterID: [UInt8]

    /// - Throws: `parse-form` for a purpose or cluster id of another form.
    public init(purpose: String, clusterID: [UInt8] = []) throws(ParseError) {
        guard (1...32).contains(purpose.utf8.count),
            purpose.utf8.allSatisfy({ (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || $0 == UInt8(ascii: "-") })
        else { throw ParseError("form", field: "hello.purpose", offset: 8, "not 1 to 32 letters") }
        guard clusterID.isEmpty || clusterID.count == 32 else {
            throw ParseError("form", field: "hello.clusterID", offset: 0, "\(clusterID.count) bytes, must be 0 or 32")
        }
        self.purpose = purpose
        self.clusterID = clusterID
    }

    /// `NACRE`, version (u16), purpose (u8 length), cluster id (u8 length).
    public var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.append(Self.magic)
        writer.be(Self.version)
        for part in [Array(purpose.utf8), clusterID] {
            writer.u8(UInt8(clamping: part.count))
            writer.append(part)
        }
        return writer.bytes
    }

    /// - Throws: `parse-version` for another version, `parse-…` for anything that is not exactly this form.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = ByteReader(bytes)
        guard try reader.take(Self.magic.count, "hello.magic") == Self.magic else {
            throw ParseError("form", field: "hello.magic", offset: 0, "not NACRE")
        }
        let version = try reader.be(UInt16.self, "hello.version")
        guard version == Self.version else {
            throw ParseError("version", field: "hello.version", offset: 5, "\(version), known is \(Self.version)")
        }
        let purpose = try reader.take(Int(try reader.u8("hello.purpose.length")), "hello.purpose")
        let clusterID = try reader.take(Int(try reader.u8("hello.clusterID.length")), "hello.clusterID")
        try reader.end("hello")
        try self.init(purpose: String(decoding: purpose, as: UTF8.self), clusterID: clusterID)
    }
}
