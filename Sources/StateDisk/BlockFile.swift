import CLinux
import Glibc
import Linux

/// A disk opened for reading and writing at any place.
struct BlockFile: ~Copyable {
    private let file: File
    /// Bytes.
    let size: Int

    /// - Parameter exclusively: fails where the kernel already uses the disk (mounted, mapped).
    init(_ path: String, writing: Bool = false, exclusively: Bool = false) throws(SystemError) {
        file = try File(path, (writing ? O_RDWR : O_RDONLY) | (exclusively ? O_EXCL : 0))
        // -1 for what has no size; whoever reads finds out.
        size = max(0, lseek(file.descriptor, 0, SEEK_END))
    }

    borrowing func read(at offset: Int, _ count: Int) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        var done = 0
        while done < count {
            let got = unsafe bytes.withUnsafeMutableBytes { buffer in
                unsafe pread(file.descriptor, buffer.baseAddress.map { unsafe $0 + done }, count - done, offset + done)
            }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw .last("read \(file.path) at \(offset + done)") }
            guard got > 0 else { throw SystemError("read \(file.path) at \(offset + done)", code: ENODATA) }
            done += got
        }
        return bytes
    }

    borrowing func write(_ bytes: [UInt8], at offset: Int) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let put = unsafe bytes.withUnsafeBytes { buffer in
                unsafe pwrite(
                    file.descriptor, buffer.baseAddress.map { unsafe $0 + done }, bytes.count - done, offset + done)
            }
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw .last("write \(file.path) at \(offset + done)") }
            done += put
        }
    }

    /// Until everything written has reached the disk itself: its cache is flushed too.
    borrowing func flush() throws(SystemError) {
        guard fsync(file.descriptor) == 0 else { throw .last("flush \(file.path)") }
    }
}

/// A file in memory that other code can open by a path: where headers are made and opened, out of the disk's reach.
struct MemoryFile: ~Copyable {
    private let descriptor: Int32

    /// - Parameter bytes: its content; the rest up to `size` is zero.
    init(_ bytes: [UInt8] = [], size: Int = 0) throws(SystemError) {
        let descriptor = unsafe memfd_create("nacre-header", UInt32(MFD_CLOEXEC))
        guard descriptor >= 0 else { throw .last("memfd_create") }
        let put = unsafe bytes.withUnsafeBytes { unsafe pwrite(descriptor, $0.baseAddress, $0.count, 0) }
        guard put == bytes.count, ftruncate(descriptor, size) == 0 else {
            let error = SystemError.last("memfd")
            _ = Glibc.close(descriptor)
            throw error
        }
        self.descriptor = descriptor
    }

    /// For this process, and for a child of it until that has started its program.
    var path: String { "/proc/self/fd/\(descriptor)" }

    /// Its first bytes.
    borrowing func read(_ count: Int) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = unsafe bytes.withUnsafeMutableBytes { unsafe pread(descriptor, $0.baseAddress, $0.count, 0) }
        guard got == count else { throw .last("memfd: read") }
        return bytes
    }

    deinit { _ = Glibc.close(descriptor) }
}
