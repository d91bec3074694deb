import CLinux
import Glibc
import Linux

/// A line on the console, at once.
func say(_ line: String) {
    let bytes = Array((line + "\n").utf8)
    _ = unsafe write(1, bytes, bytes.count)
}

/// What an init system would do for the tests, and no more.
enum Machine {
    static func setUp() {
        for (kind, place) in [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")] {
            _ = unsafe mkdir(place, 0o755)
            if unsafe mount(kind, place, kind, 0, "") != 0, errno != EBUSY { say("mount \(place): \(errno)") }
        }
        // As PID 1 of a bare kernel the console may not be open yet.
        let console = unsafe open("/dev/console", O_RDWR)
        for descriptor: Int32 in 0...2 where console >= 0 { _ = dup2(console, descriptor) }
        for module in ["virtio_pci", "virtio_blk"] { _ = run(["/usr/sbin/modprobe", module]) }
        for name in ["/mnt", "/run/cryptsetup"] { _ = unsafe mkdir(name, 0o700) }
    }

    static func turnOff() -> Never {
        sync()
        _ = CLinux.reboot(Int32(bitPattern: 0x4321_FEDC))
        exit(1)
    }

    /// Runs a program to its end; its exit code.
    static func run(_ command: [String]) -> Int32 {
        var child = pid_t()
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe command.map { unsafe strdup($0) }
        unsafe arguments.append(nil)
        defer { unsafe arguments.forEach { unsafe free($0) } }
        guard unsafe posix_spawn(&child, command.first ?? "", nil, nil, arguments, nil) == 0 else { return -1 }
        var status: Int32 = 0
        while unsafe waitpid(child, &status, 0) < 0, errno == EINTR {}
        return status
    }

    /// How often the kernel read a sector whose tag is not of its bytes: changed ones, and those never written.
    static var untagged: Int {
        kernelLog().split(whereSeparator: \.isNewline).count { $0.contains("INTEGRITY AEAD ERROR") }
    }

    /// The kernel's log since the start.
    static func kernelLog() -> String {
        var text: [UInt8] = []
        let descriptor = unsafe open("/dev/kmsg", O_RDONLY | O_NONBLOCK)
        defer { close(descriptor) }
        var buffer = [UInt8](repeating: 0, count: 8192)
        while descriptor >= 0, text.count < 1 << 22 {
            let count = unsafe read(descriptor, &buffer, buffer.count)
            if count <= 0 { break }
            text += buffer.prefix(count)
        }
        return String(decoding: text, as: UTF8.self)
    }
}
