import Bytes
import Crypto

/// Whom a restarted node asks for the key of its disk, on the disk before its data and outside of the sealed header: it
/// has to be read before there is a key. Whoever can write to the disk can change it, and gains only to be asked.
///
/// | bytes | what |
/// |--:|---|
/// | 8 | `NACREHNT` |
/// | 4 | length of the document, big-endian |
/// | n | `nacre.hints.v1`: `{"schema", "peers": [{"host", "port"}]}`, at most 16 |
/// | 32 | SHA-256 of all before |
/// | | zeros, up to `DiskLayout.hintsSize` |
public enum PeerHints {
    public static let schema = "nacre.hints.v1"
    private static let magic = Array("NACREHNT".utf8)
    private static let overhead = 8 + 4 + 32

    /// - Throws: `parse-range` for more than there is room for.
    public static func bytes(_ peers: [PeerEndpoint]) throws(ParseError) -> [UInt8] {
        let json: JSON = ["schema": .string(schema), "peers": .array(peers.map(\.json))]
        let document = Array(json.compact.utf8)
        guard peers.count <= PeerEndpoint.maximumCount, document.count <= DiskLayout.hintsSize - overhead else {
            throw ParseError("range", field: "hints.peers", offset: 0, "\(peers.count) peers, \(document.count) bytes")
        }
        var writer = ByteWriter()
        writer.append(magic)
        writer.be(UInt32(document.count))
        writer.append(document)
        writer.append(HashAlgorithm.sha256.hash(writer.bytes))
        writer.zeros(DiskLayout.hintsSize - overhead - document.count)
        return writer.bytes
    }

    /// Strict; a torn record is none.
    public static func parse(_ bytes: [UInt8]) throws(ParseError) -> [PeerEndpoint] {
        guard bytes.count == DiskLayout.hintsSize else {
            throw ParseError("length", field: "hints", offset: 0, "\(bytes.count) bytes")
        }
        var reader = ByteReader(bytes)
        guard try reader.take(8, "magic") == magic else {
            throw ParseError("form", field: "hints.magic", offset: 0, "no hints here")
        }
        let length = Int(try reader.be(UInt32.self, "length"))
        guard length <= DiskLayout.hintsSize - overhead else {
            throw ParseError("length", field: "hints.length", offset: 8, "\(length)")
        }
        let document = try reader.take(length, "document")
        guard try reader.take(32, "checksum") == HashAlgorithm.sha256.hash(bytes.prefix(12 + length)) else {
            throw ParseError("form", field: "hints.checksum", offset: 12 + length, "another digest")
        }
        try reader.zeros(DiskLayout.hintsSize - overhead - length, "padding")
        var fields = try JSONFields(try JSON(parsing: document, limit: DiskLayout.hintsSize), path: "hints")
        guard try fields.string("schema") == schema else {
            throw ParseError("version", field: "hints.schema", offset: 0, "must be \(schema)")
        }
        let peers = try PeerEndpoint.list(try fields.array("peers"), path: "hints.peers")
        try fields.end()
        return peers
    }
}
