import Bytes
import CLinux
import Glibc

/// The few file operations of a cluster's directory, each whole or not at all.
package enum HostFiles {
    /// The words of `errno` for a finding.
    package static func problem(_ doing: String, _ path: String, next: String = "") -> Finding {
        let code = errno
        let words = unsafe String(cString: strerror(code))
        return Finding("local-file", claim: "\(doing) \(path)", actual: words, next: next)
    }

    package static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    package static func isReadable(_ path: String) -> Bool { unsafe access(path, R_OK) == 0 }

    /// Absolute path without links, or `nil` where nothing is there.
    package static func resolved(_ path: String) -> String? {
        guard let found = unsafe realpath(path, nil) else { return nil }
        defer { unsafe free(found) }
        return unsafe String(cString: found)
    }

    /// All bytes of a regular file, at most `limit`; those of /proc and /sys, which say that they are empty, too.
    package static func read(_ path: String, limit: Int) throws(Finding) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard file >= 0 else { throw problem("reading", path) }
        defer { close(file) }
        try requireRegular(file, path)
        let bytes = try readAll(file, path: path, limit: limit + 1)
        guard bytes.count <= limit else {
            throw Finding("local-file", claim: "reading \(path)", expected: "at most \(limit) bytes", actual: "more")
        }
        return bytes
    }

    /// Bytes of a regular file from `offset` on, at most `limit`; empty where the file is shorter or missing.
    package static func read(_ path: String, from offset: Int, limit: Int) throws(Finding) -> [UInt8] {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard file >= 0 else { return [] }
        defer { close(file) }
        try requireRegular(file, path)
        guard lseek(file, off_t(offset), SEEK_SET) >= 0 else { throw problem("reading", path) }
        return try readAll(file, path: path, limit: limit)
    }

    /// A FIFO would never answer, a device never end: both are opened without waiting and refused here.
    private static func requireRegular(_ file: Int32, _ path: String) throws(Finding) {
        var status = stat()
        guard unsafe fstat(file, &status) == 0 else { throw problem("reading", path) }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw Finding("local-file", claim: "reading \(path)", expected: "a regular file", actual: "another kind")
        }
    }

    private static func readAll(_ file: Int32, path: String, limit: Int) throws(Finding) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while bytes.count < limit {
            let count = unsafe Glibc.read(file, &chunk, min(chunk.count, limit - bytes.count))
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { throw problem("reading", path) }
            if count == 0 { break }
            bytes.append(contentsOf: chunk[..<count])
        }
        return bytes
    }

    /// Size in bytes, 0 where nothing is there.
    package static func size(_ path: String) -> Int {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int(status.st_size) : 0
    }

    /// Replaces `path` in one step: written beside, flushed, renamed; the directory is flushed too.
    package static func write(_ path: String, _ bytes: [UInt8], mode: mode_t = 0o644) throws(Finding) {
        let beside = path + ".partial"
        try create(beside, bytes, mode: mode)
        guard unsafe rename(beside, path) == 0 else { throw problem("renaming to", path) }
        try flush(parent(of: path))
    }

    /// As `write`, from where no copy is left; for its owner alone.
    package static func write(_ path: String, secret: borrowing Secret) throws(Finding) {
        let beside = path + ".partial"
        try secret.withBytes { (span) throws(Finding) in
            let result = unsafe span.withUnsafeBytes { buffer -> Result<Void, Finding> in
                do throws(Finding) { return .success(unsafe try create(beside, buffer, mode: 0o600)) } catch {
                    return .failure(error)
                }
            }
            try result.get()
        }
        guard unsafe rename(beside, path) == 0 else { throw problem("renaming to", path) }
        try flush(parent(of: path))
    }

    /// A new file with these bytes on disk. An older one of that name is replaced, and may be seen half-written.
    package static func create(_ path: String, _ bytes: [UInt8], mode: mode_t = 0o644) throws(Finding) {
        let result = unsafe bytes.withUnsafeBytes { buffer -> Result<Void, Finding> in
            do throws(Finding) { return .success(unsafe try create(path, buffer, mode: mode)) } catch {
                return .failure(error)
            }
        }
        try result.get()
    }

    private static func create(_ path: String, _ bytes: UnsafeRawBufferPointer, mode: mode_t) throws(Finding) {
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)
        guard file >= 0 else { throw problem("writing", path) }
        defer { close(file) }
        var written = 0
        while written < bytes.count {
            let count = unsafe Glibc.write(file, bytes.baseAddress?.advanced(by: written), bytes.count - written)
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { throw problem("writing", path) }
            written += count
        }
        guard fsync(file) == 0 else { throw problem("flushing", path) }
    }

    /// A file of `size` bytes that takes no room yet.
    package static func createSparse(_ path: String, size: Int) throws(Finding) {
        let partial = path + ".partial"
        let file = unsafe open(partial, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard file >= 0 else { throw problem("creating", path) }
        let isMade = ftruncate(file, size) == 0
        close(file)
        guard isMade else { throw problem("creating", path) }
        try move(partial, to: path)
    }

    /// Brings a file's bytes, or a directory's entries, to the disk.
    package static func flush(_ path: String) throws(Finding) {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw problem("opening", path) }
        defer { close(file) }
        guard fsync(file) == 0 else { throw problem("flushing", path) }
    }

    /// Makes `path`, not its parents; already there is fine. Says whether this call made it.
    @discardableResult
    package static func makeDirectory(_ path: String, mode: mode_t = 0o755) throws(Finding) -> Bool {
        if unsafe mkdir(path, mode) == 0 { return true }
        var status = stat()
        guard errno == EEXIST, unsafe stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR else {
            throw problem("making directory", path)
        }
        return false
    }

    package static func move(_ from: String, to path: String) throws(Finding) {
        guard unsafe rename(from, path) == 0 else { throw problem("renaming \(from) to", path) }
        try flush(parent(of: path))
    }

    /// Removes a file, link, socket or whole directory; links are never followed, nothing there is fine.
    package static func remove(_ path: String) throws(Finding) {
        if unsafe unlink(path) == 0 || errno == ENOENT { return }
        guard errno == EISDIR || errno == EPERM else { throw problem("removing", path) }
        for name in try names(in: path) { try remove("\(path)/\(name)") }
        guard unsafe rmdir(path) == 0 || errno == ENOENT else { throw problem("removing", path) }
    }

    /// Removes `path` if it is an empty directory; otherwise leaves it.
    package static func removeIfEmpty(_ path: String) { _ = unsafe rmdir(path) }

    /// Names in a directory, sorted, without `.` and `..`; empty where there is none.
    package static func names(in path: String) throws(Finding) -> [String] {
        guard let directory = unsafe opendir(path) else {
            if errno == ENOENT { return [] }
            throw problem("listing", path)
        }
        defer { _ = unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { field in
                unsafe field.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    package static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    package static func name(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    /// Where a symbolic link points, unresolved.
    package static func linkTarget(_ path: String) -> String? {
        var buffer = [CChar](repeating: 0, count: 4096)
        let count = unsafe readlink(path, &buffer, buffer.count)
        return count > 0 ? String(decoding: buffer[..<count].lazy.map { UInt8(bitPattern: $0) }, as: UTF8.self) : nil
    }
}

extension HostFiles {
    package static func isRegular(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
    }

    package static func isDirectory(_ path: String) -> Bool {
        var status = stat()
        return unsafe stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }

    /// Makes `path` and its parents.
    package static func makeDirectories(_ path: String) throws(Finding) {
        if path.isEmpty || isDirectory(path) { return }
        if path != parent(of: path) { try makeDirectories(parent(of: path)) }
        try makeDirectory(path)
    }

    /// A second name for the file, or a copy where the two places are on different file systems.
    ///
    /// - Parameter mode: of the copy.
    package static func link(_ from: String, to path: String, mode: mode_t = 0o644) throws(Finding) {
        if unsafe Glibc.link(from, path) == 0 { return }
        guard errno == EXDEV || errno == EPERM || errno == EMLINK else { throw problem("linking", path) }
        try copy(from, to: path, mode: mode)
    }

    /// Copies a file's bytes; the new one has `mode`.
    package static func copy(_ from: String, to path: String, mode: mode_t) throws(Finding) {
        let source = unsafe open(from, O_RDONLY | O_CLOEXEC)
        guard source >= 0 else { throw problem("reading", from) }
        defer { close(source) }
        let target = unsafe open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard target >= 0 else { throw problem("writing", path) }
        defer { close(target) }
        while true {
            let count = copy_file_range(source, nil, target, nil, 1 << 30, 0)
            if count < 0, errno == EINTR { continue }
            if count == 0 { break }
            if count < 0 {
                // Not between these two file systems: by hand, from where it stopped.
                guard errno == EXDEV || errno == EINVAL || errno == ENOSYS || errno == EOPNOTSUPP else {
                    throw problem("copying to", path)
                }
                let size = size(from)
                var offset = Int(lseek(source, 0, SEEK_CUR))
                while offset < size {
                    let chunk = try read(from, from: offset, limit: 1 << 20)
                    guard !chunk.isEmpty, unsafe Glibc.write(target, chunk, chunk.count) == chunk.count else {
                        throw problem("copying to", path)
                    }
                    offset += chunk.count
                }
                break
            }
        }
        guard fchmod(target, mode) == 0 else { throw problem("setting the mode of", path) }
    }
}
