import Bytes

/// The superblock in the first 512 bytes of a dm-verity hash device, version 1
/// (cryptsetup wiki, "DMVerity", On-disk format).
///
/// Nothing in it needs to be trusted: salt and hash tree must lead to the root hash that the command line names. It is
/// read strictly all the same, because its fields become a kernel table line.
///
/// | offset | size | field |
/// |--:|--:|---|
/// | 0 | 8 | signature `verity\0\0` |
/// | 8 | 4 | version = 1 |
/// | 12 | 4 | hash type = 1 |
/// | 16 | 16 | UUID |
/// | 32 | 32 | algorithm, zero-padded |
/// | 64 | 4 | data block size |
/// | 68 | 4 | hash block size |
/// | 72 | 8 | data blocks |
/// | 80 | 2 | salt size |
/// | 82 | 6 | zero |
/// | 88 | 256 | salt, zero-padded |
/// | 344 | 168 | zero |
public struct VeritySuperblock: Equatable, Sendable {
    public static let size = 512
    /// The only block size accepted, for data and hashes.
    public static let blockSize: UInt32 = 4096
    /// 1 PiB of data: far above any image, far below an overflow in sectors.
    static let maximumDataBlocks: UInt64 = 1 << 38

    /// UUID of the hash device, 16 bytes.
    public let uuid: [UInt8]
    /// Blocks of 4096 bytes that are covered.
    public let dataBlocks: UInt64
    /// At most 256 bytes.
    public let salt: [UInt8]

    public init(uuid: [UInt8], dataBlocks: UInt64, salt: [UInt8]) {
        self.uuid = uuid
        self.dataBlocks = dataBlocks
        self.salt = salt
    }

    /// - Parameter bytes: the first 512 bytes of the device, exactly.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        var reader = ByteReader(bytes)
        func refuse(_ detail: String, _ field: String, _ offset: Int, _ message: String) -> ParseError {
            ParseError(detail, field: "verity.\(field)", offset: offset, message)
        }
        guard try reader.take(8, "verity.signature") == Array("verity\0\0".utf8) else {
            throw refuse("form", "signature", 0, "not a dm-verity hash device")
        }
        let version = try reader.le(UInt32.self, "verity.version")
        guard version == 1 else { throw refuse("version", "version", 8, "must be 1, is \(version)") }
        let hashType = try reader.le(UInt32.self, "verity.hash_type")
        guard hashType == 1 else { throw refuse("version", "hash_type", 12, "must be 1, is \(hashType)") }
        uuid = try reader.take(16, "verity.uuid")
        guard try reader.take(32, "verity.algorithm") == Self.padded(Array("sha256".utf8), to: 32) else {
            throw refuse("form", "algorithm", 32, "must be sha256")
        }
        for field in ["data_block_size", "hash_block_size"] {
            let offset = reader.offset
            let size = try reader.le(UInt32.self, "verity.\(field)")
            guard size == Self.blockSize else {
                throw refuse("range", field, offset, "must be \(Self.blockSize), is \(size)")
            }
        }
        dataBlocks = try reader.le(UInt64.self, "verity.data_blocks")
        guard (1...Self.maximumDataBlocks).contains(dataBlocks) else {
            throw refuse("range", "data_blocks", 72, "must be 1 to \(Self.maximumDataBlocks), is \(dataBlocks)")
        }
        let saltSize = Int(try reader.le(UInt16.self, "verity.salt_size"))
        guard saltSize <= 256 else { throw refuse("range", "salt_size", 80, "must be at most 256, is \(saltSize)") }
        try reader.zeros(6, "verity.pad")
        salt = try reader.take(saltSize, "verity.salt")
        try reader.zeros(256 - saltSize, "verity.salt")
        try reader.zeros(168, "verity.pad")
        try reader.end("verity")
    }

    /// The 512 bytes that `init(parsing:)` reads.
    public var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.append("verity\0\0".utf8)
        writer.le(UInt32(1))
        writer.le(UInt32(1))
        writer.append(uuid)
        writer.append(Self.padded(Array("sha256".utf8), to: 32))
        writer.le(Self.blockSize)
        writer.le(Self.blockSize)
        writer.le(dataBlocks)
        writer.le(UInt16(clamping: salt.count))
        writer.zeros(6)
        writer.append(Self.padded(salt, to: 256))
        writer.zeros(168)
        return writer.bytes
    }

    private static func padded(_ bytes: [UInt8], to count: Int) -> [UInt8] {
        bytes + [UInt8](repeating: 0, count: max(0, count - bytes.count))
    }
}
