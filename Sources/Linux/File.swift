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
