import Bytes
import CLinux
import Glibc
import Linux
import MeasuredPhase
import VerityRoot

/// The initrd's work as a list of named phases. There is no other path through it: whatever fails reboots the machine.
/// No shell, no prompt, no network, no file that could change what happens.
struct InitrdBoot {
    /// What went wrong, in words.
    struct Failure: Error {
        let message: String
        init(_ message: String) { self.message = message }
    }

    static let sysroot = "/sysroot"
    /// How long disks and a TPM may take to appear.
    static let deviceDeadline = 30_000

    static let phases: [(name: String, run: @Sendable (inout InitrdBoot) throws -> Void)] = [
        ("mount the kernel's file systems", { try $0.mountKernelFileSystems() }),
        ("load modules", { try $0.loadModules() }),
        ("find the TPM", { try $0.findTPM() }),
        ("measure enter-initrd", { try $0.measure("enter-initrd") }),
        ("read the root hash", { try $0.readRootHash() }),
        ("find the root partitions", { try $0.findPartitions() }),
        ("set up dm-verity", { try $0.setUpVerity() }),
        ("mount the root file system", { try $0.mountRoot() }),
        ("measure leave-initrd", { try $0.measure("leave-initrd") }),
        ("switch root", { try $0.switchRoot() }),
        ("start the system", { try $0.startSystem() }),
    ]

    let started = BootClock.milliseconds
    /// Path of the TPM's device; `nil` on machines without one.
    var tpm: String?
    var rootHash: RootHash?
    var data: BlockDevice?
    var hash: BlockDevice?
    /// `/dev/mapper/root` once it exists.
    var root: String?

    mutating func run() -> Never {
        for phase in Self.phases {
            do {
                try phase.run(&self)
            } catch {
                Console.fail("\(phase.name): \((error as? Failure)?.message ?? "\(error)")")
            }
        }
        // `startSystem` only ever returns by throwing.
        Console.fail("nothing was started")
    }

    // MARK: Kernel file systems, modules

    func mountKernelFileSystems() throws {
        let everywhere = UInt(MS_NOSUID | MS_NOEXEC)
        try mount("proc", on: "/proc", type: "proc", flags: everywhere | UInt(MS_NODEV))
        try mount("sysfs", on: "/sys", type: "sysfs", flags: everywhere | UInt(MS_NODEV))
        // The kernel may have mounted it by itself (CONFIG_DEVTMPFS_MOUNT does so for roots on disk only).
        try mount("devtmpfs", on: "/dev", type: "devtmpfs", flags: everywhere, options: "mode=0755")
        try mount(
            "tmpfs", on: "/run", type: "tmpfs", flags: UInt(MS_NOSUID | MS_NODEV), options: "mode=0755,size=20%")
        try makeDirectory(Self.sysroot)
        try makeDirectory("/run/nacre")
        try recordStage("initrd", milliseconds: started)
    }

    func mount(_ source: String, on target: String, type: String, flags: UInt, options: String = "") throws {
        try makeDirectory(target)
        guard unsafe CLinux.mount(source, target, type, flags, options) == 0 else {
            throw SystemError.last("mount \(target)")
        }
    }

    func makeDirectory(_ path: String) throws {
        if unsafe mkdir(path, 0o755) != 0, errno != EEXIST { throw SystemError.last("create \(path)") }
    }

    /// Appends to the boot's timings, which the bootstrapper hands on to people; nothing depends on them.
    func recordStage(_ name: String, milliseconds: Int) throws {
        let file = try File("/run/nacre/stages", O_CREAT | O_WRONLY | O_APPEND | O_NOFOLLOW, mode: 0o644)
        try file.write(Array("\(name) \(milliseconds)\n".utf8))
    }

    /// Loads what `/modules/load` lists, in that order: one path below `/modules` a line. A module that is not there is
    /// built into the kernel; one that does not load is only reported, as what needs it fails by its own name later.
    func loadModules() throws {
        guard File.exists("/modules/load") else { return }
        for name in try File.text("/modules/load", limit: 1 << 20).split(separator: "\n") {
            let path = "/modules/\(name)"
            guard File.exists(path) else { continue }
            do {
                let file = try File(path)
                // ENODEV: a driver of another hypervisor's disks.
                guard unsafe nacre_finit_module(file.descriptor, "", 0) == 0 || errno == EEXIST || errno == ENODEV
                else { throw SystemError.last("load \(path)") }
            } catch { Console.log("\(error)") }
        }
    }

    // MARK: The root file system

    mutating func readRootHash() throws {
        rootHash = try RootHash(commandLine: try File.text("/proc/cmdline"))
    }

    /// Waits for both partitions. Where two carry the same UUID the first by name is taken: either verifies or neither
    /// matters.
    mutating func findPartitions() throws {
        guard let rootHash else { throw Failure("no root hash") }
        try wait(for: "partitions \(rootHash.dataPartition) and \(rootHash.hashPartition)") {
            let devices = try File.names(in: "/sys/class/block").compactMap { name in
                (try? File.text("/sys/class/block/\(name)/uevent")).flatMap { BlockDevice(uevent: $0) }
            }
            data = devices.first { $0.partitionUUID == rootHash.dataPartition }
            hash = devices.first { $0.partitionUUID == rootHash.hashPartition }
            return data != nil && hash != nil
        }
    }

    /// Polls `condition` until it holds or the deadline has passed.
    func wait(for what: String, until condition: () throws -> Bool) throws {
        let deadline = BootClock.milliseconds + Self.deviceDeadline
        while try !condition() {
            guard BootClock.milliseconds < deadline else {
                throw Failure("\(what): not there after \(Self.deviceDeadline / 1000) s")
            }
            BootClock.sleep(milliseconds: 20)
        }
    }

    mutating func setUpVerity() throws {
        guard let rootHash, let data, let hash else { throw Failure("partitions are missing") }
        // devtmpfs names devices as it likes; a node of our own is certain (in /dev: /run is mounted nodev).
        let node = "/dev/nacre-hash"
        try makeBlockNode(node, device: nacre_makedev(hash.major, hash.minor))
        defer { _ = unsafe unlink(node) }
        let superblock = try VeritySuperblock(parsing: try File(node).read(VeritySuperblock.size))
        let table = VerityTable(data: data.numbers, hash: hash.numbers, superblock: superblock, rootHash: rootHash)

        try makeDirectory("/dev/mapper")
        let mapper = try DeviceMapper()
        let device = try mapper.create(
            name: "root", uuid: "CRYPT-VERITY-\(Hex.encode(superblock.uuid))-root", table: table)
        try makeBlockNode("/dev/mapper/root", device: device)
        root = "/dev/mapper/root"
    }

    func makeBlockNode(_ path: String, device: dev_t) throws {
        guard unsafe mknod(path, S_IFBLK | 0o600, device) == 0 || errno == EEXIST else {
            throw SystemError.last("create \(path)")
        }
    }

    func mountRoot() throws {
        guard let root else { throw Failure("no root device") }
        try mount(root, on: Self.sysroot, type: "erofs", flags: UInt(MS_RDONLY | MS_NODEV))
    }

    // MARK: Handing over

    /// Makes the verified root file system `/` and empties the initrd, whose memory nothing else would free.
    func switchRoot() throws {
        try recordStage("switch-root", milliseconds: BootClock.milliseconds)
        let initrd = try File("/", O_DIRECTORY)
        for name in ["/dev", "/proc", "/sys", "/run"] {
            guard unsafe CLinux.mount(name, Self.sysroot + name, nil, UInt(MS_MOVE), nil) == 0 else {
                throw SystemError.last("move \(name)")
            }
        }
        guard unsafe chdir(Self.sysroot) == 0,
            unsafe CLinux.mount(".", "/", nil, UInt(MS_MOVE), nil) == 0,
            unsafe chroot(".") == 0, unsafe chdir("/") == 0
        else { throw SystemError.last("make \(Self.sysroot) the root") }
        OldRoot.empty(initrd)
    }

    /// Replaces this program by systemd. The environment is a constant one: the kernel puts words of its command line
    /// there otherwise.
    func startSystem() throws {
        for path in ["/usr/lib/systemd/systemd", "/sbin/init"] where File.exists(path) {
            // Set and empty: systemd then leaves alone the EFI variable SystemdOptions, a second command line that the
            // host could write and nothing measures.
            try Exec.replaceProcess(path, environment: ["HOME=/", "TERM=linux", "SYSTEMD_EFI_OPTIONS="])
        }
        throw Failure("the root file system has no init")
    }
}
