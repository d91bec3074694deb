import Bytes

/// The device-mapper table of a verity device (Linux `Documentation/admin-guide/device-mapper/verity.rst`).
public struct VerityTable: Equatable, Sendable {
    /// Length of the device in 512-byte sectors.
    public let sectors: UInt64
    /// Parameters of the target `verity`.
    public let parameters: String

    /// The hash tree starts in the block after the superblock. A corrupted block panics the kernel: the node reboots
    /// rather than run on with a file system that somebody has touched.
    /// - Parameters: `data` and `hash` are the devices' numbers, `major:minor`.
    public init(data: String, hash: String, superblock: VeritySuperblock, rootHash: RootHash) {
        let block = VeritySuperblock.blockSize
        let salt = superblock.salt.isEmpty ? "-" : Hex.encode(superblock.salt)
        sectors = superblock.dataBlocks * UInt64(block / 512)
        parameters =
            "1 \(data) \(hash) \(block) \(block) \(superblock.dataBlocks) 1 sha256 \(rootHash.hex) \(salt) "
            + "1 panic_on_corruption"
    }
}
