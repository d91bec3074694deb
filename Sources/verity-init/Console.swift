import CLinux
import Glibc
import Linux

/// The two places where the initrd speaks: the kernel's log and, for the last words, the console.
enum Console {
    static func log(_ message: String, level: Int = 3) {
        let line = "<\(level)>nacre initrd: \(message)\n"
        try? File("/dev/kmsg", O_WRONLY).write(Array(line.utf8))
    }

    /// Says what failed, then reboots. Nothing is asked, nothing waits for a key.
    static func fail(_ message: String) -> Never {
        log(message, level: 2)
        try? File("/dev/console", O_WRONLY).write(Array("nacre initrd: \(message); rebooting in 3 s\n".utf8))
        sync()
        sleep(3)
        _ = reboot(RB_AUTOBOOT)
        // Only reached without the right to reboot; init must not return, and its end panics the kernel.
        abort()
    }
}
