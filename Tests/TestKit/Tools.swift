import Bytes
import CLinux
import Glibc

/// Runs the independent tools that golden tests compare against.
public enum Tool {
    public struct Output: Sendable {
        public let status: Int32
        public let output: [UInt8]
        public let errors: String
        public var text: String { String(decoding: output, as: UTF8.self) }
    }

    /// The path of an executable on `PATH`, or `nil` with a line that says what was skipped.
    public static func find(_ name: String) -> String? {
        let path = unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? "/usr/bin:/bin"
        for folder in path.split(separator: ":") where unsafe access("\(folder)/\(name)", X_OK) == 0 {
            return "\(folder)/\(name)"
        }
        print("skipped: \(name) is not installed, its golden test did not run")
        return nil
    }

    /// Runs `command` (a path or a name on `PATH`) with `input` on standard input and collects what it prints.
    public static func run(_ command: [String], input: [UInt8] = []) throws -> Output {
        let folder = try TemporaryFolder()
        let (inFile, outFile, errFile) = (folder.path + "/in", folder.path + "/out", folder.path + "/err")
        try writeFile(inFile, input)
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, inFile, O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, 1, outFile, O_WRONLY | O_CREAT, 0o600)
        unsafe posix_spawn_file_actions_addopen(&actions, 2, errFile, O_WRONLY | O_CREAT, 0o600)
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe command.map { unsafe strdup($0) }
        unsafe arguments.append(nil)
        defer { unsafe arguments.forEach { unsafe free($0) } }
        // Threads of test runners block signals; a program should end when it is told to.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var child: pid_t = 0
        let code = unsafe posix_spawnp(&child, command.first ?? "", &actions, &attributes, arguments, Glibc.environ)
        guard code == 0 else { throw FileMissing(path: command.first ?? "") }
        var status: Int32 = 0
        while unsafe waitpid(child, &status, 0) < 0, errno == EINTR {}
        let exit = status & 0x7F == 0 ? (status >> 8) & 0xFF : 128 + (status & 0x7F)
        return Output(
            status: exit, output: try readFile(outFile),
            errors: String(decoding: try readFile(errFile), as: UTF8.self))
    }
}

/// A folder below the system's temporary one, removed with everything in it.
public final class TemporaryFolder: Sendable {
    public let path: String

    public init() throws {
        var template = Array("/tmp/nacre-test-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw FileMissing(path: "/tmp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// Writes `bytes` to `name` inside and returns the whole path.
    public func file(_ name: String, _ bytes: [UInt8]) throws -> String {
        try writeFile("\(path)/\(name)", bytes)
        return "\(path)/\(name)"
    }

    public func file(_ name: String, _ text: String) throws -> String { try file(name, Array(text.utf8)) }

    deinit { Self.remove(path) }

    private static func remove(_ path: String) {
        if let folder = unsafe opendir(path) {
            var names: [String] = []
            while let entry = unsafe readdir(folder) {
                let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                    unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
                }
                if name != ".", name != ".." { names.append(name) }
            }
            unsafe closedir(folder)
            for name in names {
                // Symbolic links are removed, not followed.
                var info = stat()
                let isFolder = unsafe lstat("\(path)/\(name)", &info) == 0 && info.st_mode & S_IFMT == S_IFDIR
                if isFolder { remove("\(path)/\(name)") } else { unsafe unlink("\(path)/\(name)") }
            }
        }
        unsafe rmdir(path)
    }
}

/// A temporary folder for the time of `body`.
public func withTemporaryFolder<R>(_ body: (String) throws -> R) throws -> R {
    let folder = try TemporaryFolder()
    return try withExtendedLifetime(folder) { try body(folder.path) }
}

/// Runs `body` on a thread of its own, for blocking calls that must not occupy Swift's few pool threads.
public func onThread<R: Sendable>(_ body: @escaping @Sendable () -> R) async -> R {
    await withCheckedContinuation { continuation in
        startThread { continuation.resume(returning: body()) }
    }
}

/// Starts `body` on a thread at once, however busy the pool is: for servers that a blocking client talks to. The stream
/// yields its one result.
public func started<R: Sendable>(_ body: @escaping @Sendable () -> R) -> AsyncStream<R> {
    let (stream, continuation) = AsyncStream.makeStream(of: R.self)
    startThread {
        continuation.yield(body())
        continuation.finish()
    }
    return stream
}

private func startThread(_ body: @escaping @Sendable () -> Void) {
    let box = unsafe Unmanaged.passRetained(Job(body))
    var thread = pthread_t()
    let code = unsafe pthread_create(
        &thread, nil,
        { argument in
            if let argument = unsafe argument {
                unsafe Unmanaged<Job>.fromOpaque(argument).takeRetainedValue().body()
            }
            return nil
        }, unsafe box.toOpaque())
    precondition(code == 0, "no thread")
    pthread_detach(thread)
}

private final class Job: Sendable {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
}
