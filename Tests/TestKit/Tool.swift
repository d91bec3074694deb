import CLinux
import Glibc

/// An independent program to compare with, such as `veritysetup` or `tpm2_checkquote`.
public struct Tool: Sendable {
    public struct Failed: Error, CustomStringConvertible {
        public let description: String
    }

    public let path: String

    /// `nil`, with a line that says so, where the program is not installed.
    public init?(_ name: String) {
        let found: String? = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/bin", "/sbin"].map { (folder: String) in
            "\(folder)/\(name)"
        }.first { unsafe access($0, X_OK) == 0 }
        guard let found else {
            print("skipped: \(name) is not installed")
            return nil
        }
        path = found
    }

    /// Runs it to its end.
    /// - Parameter environment: `NAME=value`, added to a constant environment.
    /// - Returns: what it wrote to standard output and standard error.
    /// - Throws: `Failed` with that text when it does not exit with 0.
    @discardableResult
    public func run(_ arguments: String..., environment: [String] = []) throws -> String {
        var pipe: [Int32] = [0, 0]
        guard unsafe Glibc.pipe(&pipe) == 0 else { throw Failed(description: "no pipe") }
        let process = try start(arguments, output: pipe[1], environment: environment)
        close(pipe[1])
        var output: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = unsafe read(pipe[0], &chunk, chunk.count)
            if count <= 0 { break }
            output += chunk.prefix(count)
        }
        close(pipe[0])
        var status: Int32 = 0
        _ = unsafe waitpid(process, &status, 0)
        let text = String(decoding: output, as: UTF8.self)
        guard status == 0 else {
            throw Failed(description: "\(path) \(arguments.joined(separator: " ")): status \(status): \(text)")
        }
        return text
    }

    /// Starts it with standard output and error going to `output`, and returns its process id.
    func start(_ arguments: [String], output: Int32, environment: [String] = []) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { _ = unsafe posix_spawn_file_actions_destroy(&actions) }
        _ = unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        _ = unsafe posix_spawn_file_actions_adddup2(&actions, output, 1)
        _ = unsafe posix_spawn_file_actions_adddup2(&actions, output, 2)
        // Descriptors of tests that run beside this one must not leak into it: a pipe held open never ends.
        _ = unsafe posix_spawn_file_actions_addclosefrom_np(&actions, 3)
        let own = ["PATH=/usr/bin:/usr/sbin:/bin:/sbin", "LC_ALL=C", "TZ=UTC", "HOME=/nonexistent"]
        var argv = unsafe ([path] + arguments).map { unsafe strdup($0) } + [nil]
        var variables = unsafe (own + environment).map { unsafe strdup($0) } + [nil]
        defer { unsafe (argv + variables).forEach { unsafe free($0) } }
        // Threads of a test run block signals, and a program that inherits that cannot be asked to end.
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { _ = unsafe posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        _ = unsafe sigemptyset(&none)
        _ = unsafe posix_spawnattr_setsigmask(&attributes, &none)
        _ = unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var process: pid_t = 0
        let result = unsafe posix_spawn(&process, path, &actions, &attributes, &argv, &variables)
        guard result == 0 else { throw Failed(description: "\(path) does not start: error \(result)") }
        return process
    }
}

/// A directory that is gone, with everything in it, when this is.
public final class TemporaryFolder: Sendable {
    public let root: String

    public init() throws {
        var template = Array("/tmp/nacre-test-XXXXXX".utf8CString)
        guard let made = unsafe mkdtemp(&template) else { throw Tool.Failed(description: "no temporary folder") }
        root = unsafe String(cString: made)
    }

    public func path(_ name: String) -> String { "\(root)/\(name)" }

    deinit { _ = try? Tool("rm")?.run("-rf", "--", root) }
}
