import Bytes
import Glibc
import TestKit

/// What kept a machine from being made.
struct MachineFailure: Error {
    let what: String
}

/// A machine without firmware, TPM or system: the built image's kernel, modules and libraries, and the state disk's test
/// program as process 1. This host's kernel need not have device-mapper.
struct StateDiskMachine {
    static let program = Built.root + "/.build-release/release/state-disk-test"
    static let isBuilt = unsafe Built.missing.isEmpty && access(program, R_OK) == 0

    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        let made = try Tool.run([Built.root + "/tools/disk-guest", Built.image, Self.program, folder.path + "/guest"])
        guard made.status == 0 else { throw MachineFailure(what: "tools/disk-guest: \(made.errors)") }
    }

    /// A sparse file in the machine's folder.
    func disk(_ name: String, size: Int) throws -> String {
        let path = "\(folder.path)/\(name).img"
        let descriptor = unsafe open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        defer { close(descriptor) }
        guard descriptor >= 0, ftruncate(descriptor, size) == 0 else { throw MachineFailure(what: path) }
        return path
    }

    /// One run; the lines `case NAME ok|FAIL …` of the console, by name.
    ///
    /// - Parameter disks: serial and block device, in QEMU's words.
    func run(_ table: String, _ disks: [(serial: String, device: String)], seconds: Int) throws -> [(
        name: String, result: String
    )] {
        let console = folder.path + "/console-\(table).log"
        unsafe unlink(console)
        // Accelerated where that works, as the kernel's own check of /dev/kvm would say; emulation is always there.
        var command = [
            "timeout", "\(seconds)", "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none",
            "-machine",
            "q35,smm=off,vmport=off", "-accel", "kvm", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m",
            "1024M", "-object", "rng-random,id=rng0,filename=/dev/urandom", "-device", "virtio-rng-pci,rng=rng0",
            "-kernel", folder.path + "/guest/kernel", "-initrd", folder.path + "/guest/initrd", "-append",
            "console=ttyS0 panic=-1 loglevel=4 nacre.disktest=\(table)", "-no-reboot", "-serial", "file:" + console,
        ]
        for disk in disks {
            command += [
                "-blockdev", "node-name=\(disk.serial),\(disk.device)", "-device",
                "virtio-blk-pci,drive=\(disk.serial),serial=\(disk.serial)",
            ]
        }
        let result = try Tool.run(command)
        let text = String(decoding: (try? readFile(console)) ?? [], as: UTF8.self)
        let cases = text.split(whereSeparator: \.isNewline).compactMap { line -> (name: String, result: String)? in
            let words = line.split(separator: " ", maxSplits: 2)
            guard words.count == 3, words[0] == "case" else { return nil }
            return (String(words[1]), String(words[2]))
        }
        if result.status != 0 || cases.last?.name != "all" {
            print("QEMU: status \(result.status) \(result.errors)\n\(text.suffix(4000))")
        }
        return cases
    }
}
