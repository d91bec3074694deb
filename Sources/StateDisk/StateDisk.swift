import Bytes
import Crypto
import DiskFormat
import Glibc
import Linux

/// The node's state disk: found by the owner's rule, judged before a key is used, made, opened, re-keyed. Every step that
/// writes can be cut off at any moment (`docs/state-disk.md` has the orders).
public enum StateDisk {
    /// Has the kernel load the file system's module, which takes a while, before it is needed. Nothing depends on it.
    public static func prepare() { FileSystem.prepare() }

    /// The one disk that the rule names.
    public static func find(_ rule: DiskRule) throws(DiskError) -> BlockDevice {
        try rule.choose(among: try BlockDevice.all())
    }

    /// What the disk holds; the header is read once, here, and what is opened later is those bytes.
    public static func inspect(_ device: BlockDevice) throws(DiskError) -> DiskState {
        do throws(SystemError) {
            let file = try BlockFile(device.path)
            guard file.size >= DiskLayout.minimumSize else {
                throw SystemError("size of \(device.path)", code: ENOSPC)
            }
            var start = try file.read(at: 0, DiskLayout.headerSize)
            if DiskHeader.isBlank(start) {
                start += try file.read(at: start.count, DiskLayout.dataOffset - start.count)
            }
            return DiskState(
                start: start,
                end: try file.read(at: file.size - DiskLayout.clearedSize, DiskLayout.clearedSize))
        } catch { throw DiskError(error, device.path) }
    }

    /// Makes header and file system, and leaves the disk open. Whatever interrupts it, the next `inspect` says
    /// `unfinished` (or `blank`) until everything is in place, and `ours` from then on.
    ///
    /// - Parameters:
    ///   - binding: its generation is what the disk begins with; this opening counts as that one.
    ///   - allowForeign: the owner has said that this very disk may lose what it holds.
    /// - Throws: `disk-foreign`, `disk-ours`, `header-…` where it holds something; `disk-busy`.
    public static func format(
        _ device: BlockDevice, key: borrowing Secret, binding: DiskBinding, allowForeign: Bool = false
    ) throws(DiskError) -> OpenDisk {
        try allow(try inspect(device), binding, allowForeign)
        do throws(SystemError) {
            // Nothing else may use it; the claim itself would keep the mapping out, so it ends here.
            _ = try BlockFile(device.path, writing: true, exclusively: true)
        } catch {
            throw DiskError(
                "busy", device.path, expected: "a disk that nothing uses", actual: "\(error)",
                next: "detach what uses it")
        }
        do {
            try HeaderWrites.begin(try BlockFile(device.path, writing: true))
            let memory = try MemoryFile(size: DiskLayout.dataOffset)
            try make(in: memory, device, key)
            let superblock = try superblock(of: device)
            let header = try DiskHeader(parsing: try memory.read(DiskLayout.headerSize)).bound(
                [.init(keyslot: 0, binding: binding)], superblock: superblock
            ) { [0: Seal.make(key, over: $0)] }
            // Through what will be the header: a keyslot that does not open is found here, not at the next boot.
            let final = try MemoryFile(header.bytes, size: DiskLayout.dataOffset)
            let crypt = try Cryptsetup(header: final, disk: device.path)
            try crypt.load()
            try crypt.activate(key, slot: 0)
            do {
                try FileSystem.make(on: OpenDisk.mapped)
                try HeaderWrites.finish(try BlockFile(device.path, writing: true), header)
            } catch {
                try? crypt.deactivate()
                throw error
            }
            return OpenDisk(device: device, binding: binding, header: header, superblock: superblock)
        } catch { throw DiskError(wrapping: error, device.path) }
    }

    private static func make(
        in memory: borrowing MemoryFile, _ device: BlockDevice, _ key: borrowing Secret
    ) throws(DiskError) {
        let crypt = try Cryptsetup(header: memory, disk: device.path)
        try crypt.format()
        try crypt.addFirstKey(key)
    }

    private static func allow(_ state: DiskState, _ binding: DiskBinding, _ allowForeign: Bool) throws(DiskError) {
        switch state {
        case .blank, .unfinished: return
        case .damaged(let error): throw DiskError(error)
        case .foreign(let what):
            guard !allowForeign else { return }
            throw DiskError(
                "foreign", "state disk", expected: "an empty disk, or this node's own", actual: what,
                source: "the disk's first bytes",
                next: "attach an empty disk, or say that this one may go: nacre init --erase-disk NODE")
        case .ours(_, let found):
            let isSame = found.clusterID == binding.clusterID && found.node == binding.node
            guard allowForeign, !isSame else {
                throw DiskError(
                    "ours", "state disk", expected: "an empty disk",
                    actual: "the disk of node \(found.node), cluster \(Hex.encode(found.clusterID))",
                    source: "the disk's header",
                    next: "open it with its key; a disk in use is never formatted again: to start over, empty it")
            }
        }
    }

    /// dm-integrity's superblock, judged.
    static func superblock(of device: BlockDevice) throws(DiskError) -> [UInt8] {
        do {
            let file = try BlockFile(device.path)
            let bytes = try file.read(at: DiskLayout.dataOffset, IntegritySuperblock.size)
            _ = try IntegritySuperblock(parsing: bytes, available: file.size - DiskLayout.dataOffset)
            return bytes
        } catch { throw DiskError(wrapping: error, device.path) }
    }

    /// Opens the disk whose header `inspect` returned: checks seal and binding, counts the opening on the disk, and maps it.
    ///
    /// A re-key that was interrupted ends here: the header keeps the keyslot of `key` alone.
    /// - Parameter expected: whose disk it must be; its generation is the last one that the cluster remembers.
    /// - Throws: `disk-other-cluster`, `disk-other-node`, `disk-epoch`, `disk-rollback`, `header-seal`,
    ///   `header-superblock`.
    public static func open(
        _ device: BlockDevice, header: DiskHeader, key: borrowing Secret, expecting expected: DiskBinding
    ) throws(DiskError) -> OpenDisk {
        // By what the tokens claim first, for the reason's sake; then by what the key vouches for.
        let claims = header.metadata.bindings.map { DiskBinding($0) }
        guard let claim = claims.first(where: { $0.epoch == expected.epoch }) ?? claims.first else {
            throw DiskError(HeaderError("token", "json.tokens", expected: "one at least", actual: "none"))
        }
        try expected.check(claim)
        let superblock = try superblock(of: device)
        do {
            let token = try header.token(sealedBy: key, superblock: superblock)
            try expected.check(DiskBinding(token))
            let binding = DiskBinding(token).advanced(by: 1)
            let next = try header.bound([.init(keyslot: token.keyslot, binding: binding)], superblock: superblock) {
                [token.keyslot: Seal.make(key, over: $0)]
            }
            let memory = try MemoryFile(next.bytes, size: DiskLayout.dataOffset)
            let crypt = try Cryptsetup(header: memory, disk: device.path)
            try crypt.load()
            try HeaderWrites.replace(header, by: next, try BlockFile(device.path, writing: true))
            try crypt.activate(key, slot: token.keyslot)
            return OpenDisk(device: device, binding: binding, header: next, superblock: superblock)
        } catch { throw DiskError(wrapping: error, device.path) }
    }
}
