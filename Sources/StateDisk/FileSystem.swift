import Bytes
import CLinux
import DiskFormat
import Glibc
import Host
import Linux

/// XFS on the open disk. It reads no block that it has not written, so that sectors without a tag yet, of which a new disk is
/// full, are never asked for; and what making one writes does not grow with the disk.
enum FileSystem {
    static let program = "/usr/sbin/mkfs.xfs"
    static let label = "nacre-state"

    static func prepare() {
        let context = unsafe nacre_fsopen("xfs")
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
            // No discard: nothing below takes one. The smallest journal, the same for every disk.
            let arguments = ["-q", "-f", "-K", "-L", label, "-l", "size=64m", "-d", "agcount=4", device]
            try Command(
                program: program, arguments: arguments,
                environment: ["PATH": "/usr/sbin:/usr/bin", "LC_ALL": "C.UTF-8"],
                directory: "/", log: log.path
            ).run(limit: .seconds(120))
        } catch {
            throw DiskError(
                "filesystem", device, expected: "an XFS file system", actual: "\(error)", source: program,
                next: "boot again: the disk is formatted from the start")
        }
        do throws(SystemError) { try BlockFile(device, writing: true).flush() } catch { throw DiskError(error, device) }
    }

    static func mount(_ device: String, at target: String) throws(DiskError) {
        if unsafe mkdir(target, 0o700) != 0, errno != EEXIST {
            throw DiskError(SystemError.last("create \(target)"), target)
        }
        let flags = UInt(MS_NOSUID | MS_NODEV | MS_NOATIME)
        guard unsafe CLinux.mount(device, target, "xfs", flags, "") == 0 else {
            throw DiskError(
                "mount", target, expected: "the state disk's file system", actual: "\(SystemError.last("mount"))",
                next: "the kernel's log says more; data that was changed on the disk is never handed out")
        }
    }

    static func unmount(_ target: String) throws(DiskError) {
        guard unsafe umount2(target, 0) == 0 else { throw DiskError(SystemError.last("unmount \(target)"), target) }
    }
}
