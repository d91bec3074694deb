import Bytes
import CLinux
import DiskFormat
import Glibc
import Host
import Linux

/// btrfs on the open disk. What its superblock leads to was written whole, elsewhere, before: after a power cut too, sectors
/// without a tag yet, of which a new disk is full, are never asked for. (XFS' log holds parts of blocks, and its recovery
/// reads each block first. ext4 wants inode tables written, which grow with the disk.) What making one writes does not grow
/// with the disk, and its checksums show an older sector of a file that a host puts back together with its tag.
enum FileSystem {
    static let type = "btrfs"
    static let program = "/usr/sbin/mkfs.btrfs"
    static let label = "nacre-state"

    static func prepare() {
        let context = unsafe nacre_fsopen(type)
        if context >= 0 { close(context) }
    }

    static func make(on device: String) throws(DiskError) {
        do throws(SystemError) {
            // Whatever looks for signatures reads the ends, which therefore get tags.
            let file = try BlockFile(device, writing: true)
            let zeros = [UInt8](repeating: 0, count: DiskLayout.clearedSize)
            try file.write(zeros, at: 0)
            try file.write(zeros, at: (file.size - zeros.count) / DiskLayout.sectorSize * DiskLayout.sectorSize)
            try file.flush()
        } catch { throw DiskError(error, device) }
        do {
            let log = try MemoryFile()
            // No discard: nothing below takes one. One copy of the metadata too: who damages one damages both.
            let arguments = [
                "--quiet", "--force", "--nodiscard", "--label", label, "--metadata", "single", "--data", "single",
                device,
            ]
            try Command(
                program: program, arguments: arguments,
                environment: ["PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"],
                directory: "/", log: log.path
            ).run(limit: .seconds(120))
        } catch {
            throw DiskError(
                "filesystem", device, expected: "a file system (\(type))", actual: "\(error)", source: program,
                next: "boot again: the disk is formatted from the start")
        }
        do throws(SystemError) { try BlockFile(device, writing: true).flush() } catch { throw DiskError(error, device) }
    }

    static func mount(_ device: String, at target: String) throws(DiskError) {
        if unsafe mkdir(target, 0o700) != 0, errno != EEXIST {
            throw DiskError(SystemError.last("create \(target)"), target)
        }
        let flags = UInt(MS_NOSUID | MS_NODEV | MS_NOATIME)
        guard unsafe CLinux.mount(device, target, type, flags, "") == 0 else {
            throw DiskError(
                "mount", target, expected: "the state disk's file system", actual: "\(SystemError.last("mount"))",
                next: "the kernel's log says more; data that was changed on the disk is never handed out")
        }
    }

    static func unmount(_ target: String) throws(DiskError) {
        guard unsafe umount2(target, 0) == 0 else { throw DiskError(SystemError.last("unmount \(target)"), target) }
    }
}
