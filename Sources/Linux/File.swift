import CLinux
import Glibc

/// An open file that closes itself. Every descriptor is close-on-exec.
public struct File: ~Copyable, Sendable {
    public let descriptor: Int32
    public let path: String

    /// - Parameter flags: `O_RDONLY` and the like; `O_CLOEXEC` and `O_NOCTTY` are added.
    public init(_ path: String, _ flags: Int32 = O_RDONLY, mode: mode_t = 0) throws(SystemError) {
        let descriptor = unsafe open(path, flags | O_CLOEXEC | O_NOCTTY, mode)
        guard descriptor >= 0 else { throw .last("open \(path)") }
        self.descriptor = descriptor
        self.path = path
    }

    /// One `read`: up to `count` bytes, fewer at the end; what a TPM device answers comes in one piece.
    public func read(_ count: Int) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        while true {
            let found = unsafe Glibc.read(descriptor, &bytes, count)
            if found >= 0 {
                bytes.removeLast(count - found)
                return bytes
            }
            if errno != EINTR { throw .last("read \(path)") }
        }
    }

    /// Everything up to the end; more than `limit` bytes are an error (`EFBIG`), never a cut.
    public func readAll(limit: Int) throws(SystemError) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let chunk = try read(min(1 << 16, limit - bytes.count + 1))
            if chunk.isEmpty { return bytes }
            bytes += chunk
            guard bytes.count <= limit else { throw SystemError("read \(path)", code: EFBIG) }
        }
    }

    /// Writes all of `bytes`.
    public func write(_ bytes: [UInt8]) throws(SystemError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
            if written < 0 {
                if errno == EINTR { continue }
                throw .last("write \(path)")
            }
            rest = rest.dropFirst(written)
        }
    }

    /// Puts a whole file in the place of `path`: written beside it, then renamed.
    ///
    /// - Parameter isFlushed: the bytes and the name are on the disk before this returns.
    public static func replace(
        _ path: String, with bytes: UnsafeRawBufferPointer, mode: mode_t, isFlushed: Bool
    ) throws(SystemError) {
        let cut = path.lastIndex(of: "/") ?? path.startIndex
        let (folder, name) = (String(path[..<cut]), String(path[cut...].drop { $0 == "/" }))
        let partial = "\(folder)/.\(name).partial"
        unsafe unlink(partial)
        let file = try File(partial, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: mode)
        // What this process's mask takes away is given back: `mode` is what is meant.
        guard fchmod(file.descriptor, mode) == 0 else { throw .last("mode of \(partial)") }
        var done = 0
        while done < bytes.count {
            let put = unsafe Glibc.write(
                file.descriptor, bytes.baseAddress.map { unsafe $0 + done }, bytes.count - done)
            if put < 0, errno == EINTR { continue }
            guard put > 0 else { throw .last("write \(partial)") }
            done += put
        }
        if isFlushed, fsync(file.descriptor) != 0 { throw .last("flush \(partial)") }
        guard unsafe rename(partial, path) == 0 else { throw .last("rename \(partial)") }
        guard isFlushed else { return }
        let place = try File(folder, O_RDONLY | O_DIRECTORY)
        guard fsync(place.descriptor) == 0 else { throw .last("flush \(folder)") }
    }

    /// A folder and those above it, as far as they are missing.
    public static func makeFolders(_ path: String, mode: mode_t) throws(SystemError) {
        var made = ""
        for part in path.split(separator: "/") {
            made += "/\(part)"
            guard unsafe mkdir(made, mode) == 0 else {
                guard errno == EEXIST else { throw .last("create \(made)") }
                continue
            }
            // What this process's mask took away.
            guard unsafe chmod(made, mode) == 0 else { throw .last("mode of \(made)") }
        }
    }

    /// The whole of a small file.
    public static func contents(_ path: String, limit: Int) throws(SystemError) -> [UInt8] {
        try File(path).readAll(limit: limit)
    }

    /// The whole of a small text file, without white space at its end.
    public static func text(_ path: String, limit: Int = 1 << 16) throws(SystemError) -> String {
        var text = String(decoding: try contents(path, limit: limit), as: UTF8.self)
        while text.last?.isWhitespace == true { text.removeLast() }
        return text
    }

    public static func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

    /// Names in a directory, sorted, without `.` and `..`.
    public static func names(in path: String) throws(SystemError) -> [String] {
        guard let directory = unsafe opendir(path) else { throw .last("list \(path)") }
        defer { _ = unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    deinit { close(descriptor) }
}
