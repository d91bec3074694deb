import Glibc

/// A file that could not be read or written.
public struct FileError: Error, Equatable, Sendable, CustomStringConvertible {
    public let path: String
    public let message: String

    public init(path: String, _ message: String) {
        self.path = path
        self.message = message
    }

    static func system(_ path: String, _ code: Int32 = errno) -> FileError {
        FileError(path: path, unsafe String(cString: strerror(code)))
    }

    public var description: String { "\(path): \(message)" }

    /// The same as a verdict's finding: an input that cannot be read is of family `parse`.
    public var finding: Finding {
        Finding("parse-unreadable", claim: path, expected: "a readable file", actual: message)
    }
}

/// Whole files: read within a bound, written so that nobody ever sees half of one.
public enum Files {
    /// Opens a regular file for reading and returns its descriptor and size. Never waits: a FIFO or device is opened
    /// without blocking and refused.
    private static func open(_ path: String) throws(FileError) -> (descriptor: Int32, size: Int) {
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY)
        guard descriptor >= 0 else { throw FileError.system(path) }
        var info = stat()
        guard unsafe fstat(descriptor, &info) == 0 else {
            let error = FileError.system(path)
            close(descriptor)
            throw error
        }
        guard info.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw FileError(path: path, "not a regular file")
        }
        return (descriptor, info.st_size)
    }

    /// All bytes of a regular file; one larger than `limit` bytes is refused unread.
    public static func read(_ path: String, limit: Int) throws(FileError) -> [UInt8] {
        let (descriptor, size) = try open(path)
        defer { close(descriptor) }
        guard size <= limit else { throw FileError(path: path, "\(size) bytes, at most \(limit) are read") }
        var bytes: [UInt8] = []
        // /proc and /sys files say size 0; a file may also grow while it is read.
        bytes.reserveCapacity(size)
        try stream(descriptor, path) { piece throws(FileError) in
            guard bytes.count + piece.count <= limit else {
                throw FileError(path: path, "more than \(limit) bytes")
            }
            bytes += piece
        }
        return bytes
    }

    /// Lends a regular file of any size piece by piece; returns its size in bytes.
    @discardableResult
    public static func read(
        _ path: String, _ body: (ArraySlice<UInt8>) throws(FileError) -> Void
    ) throws(FileError) -> Int {
        let (descriptor, _) = try open(path)
        defer { close(descriptor) }
        var count = 0
        try stream(descriptor, path) { piece throws(FileError) in
            count += piece.count
            try body(piece)
        }
        return count
    }

    private static func stream(
        _ descriptor: Int32, _ path: String, _ body: (ArraySlice<UInt8>) throws(FileError) -> Void
    ) throws(FileError) {
        var buffer = [UInt8](repeating: 0, count: 1 << 18)
        while true {
            let count = unsafe Glibc.read(descriptor, &buffer, buffer.count)
            if count > 0 {
                try body(buffer[..<count])
            } else if count == 0 {
                return
            } else if errno != EINTR {
                throw FileError.system(path)
            }
        }
    }

    /// Writes `bytes` to `path` whole or not at all: beside it, synced, renamed, and the folder synced.
    ///
    /// - Parameters:
    ///   - mode: permissions, not widened by a file that is replaced.
    ///   - replacing: `false` refuses when `path` exists, without a moment in which two writers could both succeed.
    public static func write(
        _ bytes: [UInt8], to path: String, mode: mode_t = 0o644, replacing: Bool = true
    ) throws(FileError) {
        var info = stat()
        if unsafe lstat(path, &info) == 0 {
            guard replacing else { throw FileError(path: path, "exists already and is never overwritten") }
            guard info.st_mode & S_IFMT == S_IFREG else {
                throw FileError(path: path, "exists and is not a regular file")
            }
        }
        let folder = folder(of: path)
        let temporary = "\(folder)/.nacre-" + String(UInt64.random(in: 0...(.max)), radix: 36)
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC
        let descriptor = unsafe Glibc.open(temporary, flags, 0o600)
        guard descriptor >= 0 else { throw FileError.system(path) }
        do throws(FileError) {
            defer { close(descriptor) }
            guard fchmod(descriptor, mode) == 0 else { throw FileError.system(path) }
            try writeAll(bytes, descriptor, path)
            guard fsync(descriptor) == 0 else { throw FileError.system(path) }
        } catch {
            unsafe unlink(temporary)
            throw error
        }
        let done = unsafe replacing ? rename(temporary, path) : link(temporary, path)
        let error = done == 0 ? nil : FileError.system(path)
        if !replacing || error != nil { unsafe unlink(temporary) }
        if let error { throw error }
        syncFolder(folder)
    }

    private static func writeAll(_ bytes: [UInt8], _ descriptor: Int32, _ path: String) throws(FileError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if errno != EINTR {
                throw FileError.system(path)
            }
        }
    }

    /// The folder of `path`, `.` for a bare name.
    public static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// The last component of `path`.
    public static func name(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[path.index(after: $0)...]) } ?? path
    }

    private static func syncFolder(_ folder: String) {
        // Some file systems do not sync folders; the rename itself has happened.
        let descriptor = unsafe Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { return }
        _ = fsync(descriptor)
        close(descriptor)
    }

    /// `path` below `folder` with every link resolved; refuses absolute paths, and whatever leads out of the folder.
    public static func resolve(_ path: String, within folder: String) throws(FileError) -> String {
        guard !path.isEmpty, !path.hasPrefix("/"), !path.split(separator: "/").contains("..") else {
            throw FileError(path: path, "must be a path below the index's folder")
        }
        let base = try real(folder)
        let resolved = try real("\(folder)/\(path)")
        guard resolved.hasPrefix(base == "/" ? "/" : base + "/") else {
            throw FileError(path: path, "leads out of \(folder)")
        }
        return resolved
    }

    private static func real(_ path: String) throws(FileError) -> String {
        guard let resolved = unsafe realpath(path, nil) else { throw FileError.system(path) }
        defer { unsafe free(resolved) }
        return unsafe String(cString: resolved)
    }
}
