import Bytes
import CLinux
import Glibc
import Linux

/// Systemd's userspace measurement log, opened for one record.
///
/// Systemd's protocol, followed here so that both may write: the file is locked, its sticky bit is set before the
/// register is extended and cleared after the record is complete. Whoever finds the bit set under the lock knows that a
/// measurement was made which the log lacks.
public struct MeasurementLog: ~Copyable {
    private let file: File

    /// Creates the log if there is none, locks it and marks it as being written. Call this before extending.
    /// - Throws: `SystemError`; `ESTALE` when an earlier writer died between extending and recording.
    public init(_ path: String = PhaseRecord.logPath) throws(SystemError) {
        var parent = ""
        for part in path.split(separator: "/").dropLast() {
            parent += "/\(part)"
            if unsafe mkdir(parent, 0o755) != 0, errno != EEXIST { throw .last("create \(parent)") }
        }
        // 0600 not because the log is secret, but because whoever can open it can hold its lock.
        let file = try File(path, O_CREAT | O_WRONLY | O_APPEND | O_NOFOLLOW, mode: 0o600)
        guard flock(file.descriptor, LOCK_EX) == 0 else { throw .last("lock \(path)") }
        var status = stat()
        guard unsafe fstat(file.descriptor, &status) == 0 else { throw .last("stat \(path)") }
        guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError("open \(path)", code: EBADF) }
        guard status.st_mode & S_ISVTX == 0 else { throw SystemError("continue \(path)", code: ESTALE) }
        guard fchmod(file.descriptor, 0o600 | S_ISVTX) == 0 else { throw .last("mark \(path)") }
        self.file = file
    }

    /// Appends `record` and releases the log.
    public consuming func append(_ record: PhaseRecord) throws(SystemError) {
        try file.write(record.bytes)
        guard fsync(file.descriptor) == 0 else { throw .last("sync \(file.path)") }
        guard fchmod(file.descriptor, 0o600) == 0 else { throw .last("unmark \(file.path)") }
    }
}
