import Bytes
import Crypto
import DiskFormat
import Linux

/// A state disk that is mapped; it stays so until `close`, whatever becomes of this value.
public struct OpenDisk: ~Copyable, Sendable {
    public static let mapped = "/dev/mapper/\(DiskLayout.mapping)"

    public let device: BlockDevice
    /// With the generation that this opening wrote, which the cluster is to remember.
    public private(set) var binding: DiskBinding
    private var header: DiskHeader
    private let superblock: [UInt8]

    init(device: BlockDevice, binding: DiskBinding, header: DiskHeader, superblock: [UInt8]) {
        self.device = device
        self.binding = binding
        self.header = header
        self.superblock = superblock
    }

    public borrowing func mount(at target: String) throws(DiskError) { try FileSystem.mount(Self.mapped, at: target) }
    public borrowing func unmount(_ target: String) throws(DiskError) { try FileSystem.unmount(target) }

    public consuming func close() throws(DiskError) {
        do {
            let memory = try MemoryFile(header.bytes, size: DiskLayout.dataOffset)
            let crypt = try Cryptsetup(header: memory, disk: device.path)
            try crypt.load()
            try crypt.deactivate()
        } catch { throw DiskError(wrapping: error, device.path) }
    }

    /// Exchanges the key for that of the next epoch while the disk is in use: a second keyslot, then the first one goes.
    /// Cut off in between, either key opens the disk, and opening it decides.
    public mutating func rekey(from old: borrowing Secret, to key: borrowing Secret) throws(DiskError) {
        do {
            let token = try header.token(sealedBy: old, superblock: superblock)
            let slot = token.keyslot == 0 ? 1 : 0
            let memory = try MemoryFile(header.bytes, size: DiskLayout.dataOffset)
            let crypt = try Cryptsetup(header: memory, disk: device.path)
            try crypt.load()
            try crypt.addKey(key, slot: slot, by: old, oldSlot: token.keyslot)
            // An opening too: a copy from before the change must be an older one.
            let binding = binding.advanced(epoch: binding.epoch + 1, by: 1)
            let tokens = [
                DiskHeader.Token(keyslot: token.keyslot, binding: self.binding),
                DiskHeader.Token(keyslot: slot, binding: binding),
            ]
            let both = try DiskHeader(parsing: try memory.read(DiskLayout.headerSize)).bound(
                tokens, superblock: superblock
            ) {
                [token.keyslot: Seal.make(old, over: $0), slot: Seal.make(key, over: $0)]
            }
            let file = try BlockFile(device.path, writing: true)
            try HeaderWrites.replace(header, by: both, file)
            header = both
            let one = try both.bound([tokens[1]], superblock: superblock) { [slot: Seal.make(key, over: $0)] }
            try HeaderWrites.replace(both, by: one, file)
            header = one
            self.binding = binding
        } catch { throw DiskError(wrapping: error, device.path) }
    }
}
