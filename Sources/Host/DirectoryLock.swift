import Bytes
import CLinux
import Glibc

/// The one process that changes a directory (a cluster's, a cache, a build's result): `flock` on `<dir>/.lock` or on a
/// file of its own, whose text says who holds it.
///
/// The kernel drops the lock with the process, however it ends; a text left behind by a dead holder means nothing.
package struct DirectoryLock: ~Copyable {
    private let file: Int32
    private let path: String

    /// - Parameters:
    ///   - purpose: what this process does, shown to whoever waits, e.g. `nacre up`.
    ///   - patience: how long to wait for another holder.
    ///   - file: what to lock where the directory itself comes and goes.
    ///   - waiting: called once, with who holds it, before waiting.
    /// - Throws: `local-lock` naming the holder.
    package init(
        directory: String, purpose: String, patience: Duration, file lock: String? = nil,
        waiting: (String) -> Void = { _ in }
    ) throws(Finding) {
        path = lock ?? "\(directory)/.lock"
        let deadline = ContinuousClock.now + patience
        var told = false
        while true {
            let file = unsafe open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o644)
            guard file >= 0 else { throw HostFiles.problem("opening", path) }
            if flock(file, LOCK_EX | LOCK_NB) == 0 {
                // `down` removes the file while it holds it: a lock on a removed file guards nothing.
                if Self.isSame(file, path) {
                    self.file = file
                    break
                }
                close(file)
                continue
            }
            let code = errno
            close(file)
            guard code == EWOULDBLOCK || code == EINTR else { throw HostFiles.problem("locking", path) }
            let holder = Self.holder(path)
            if !told { waiting(holder) }
            told = true
            guard ContinuousClock.now < deadline else {
                throw Finding(
                    "local-lock", claim: directory, expected: "no other command at work here",
                    actual: "held by \(holder)", next: "wait until it is done, or end it")
            }
            usleep(100_000)
        }
        let text = Array("pid \(getpid()), \(purpose), since \(Instant.now)\n".utf8)
        _ = ftruncate(file, 0)
        _ = unsafe pwrite(file, text, text.count, 0)
    }

    /// Removes the lock file itself; the lock stays with this value until it goes.
    package func removeFile() { _ = unsafe unlink(path) }

    /// A use of the lock that keeps it until here.
    package func keep() {}

    deinit { close(file) }

    private static func isSame(_ file: Int32, _ path: String) -> Bool {
        var held = stat()
        var named = stat()
        return unsafe fstat(file, &held) == 0 && lstat(path, &named) == 0 && held.st_ino == named.st_ino
            && held.st_dev == named.st_dev
    }

    private static func holder(_ path: String) -> String {
        let bytes = (try? HostFiles.read(path, limit: 512)) ?? []
        let text = Sanitised.line(bytes)
        return text.isEmpty ? "another process" : text
    }
}
