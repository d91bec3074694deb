import Bytes
import CLinux
import Glibc

/// What to run, and with which files, directory and environment. Nothing is inherited that is not named here.
package struct Command: Sendable, Equatable {
    /// Absolute path of the program.
    package var program: String
    package var arguments: [String]
    /// `NAME=value`; the whole environment.
    package var environment: [String: String]
    /// The directory it starts in; programs that run long get short, relative socket paths this way (108 bytes at most,
    /// unix(7)).
    package var directory: String
    /// Standard output and error are appended here, relative to `directory` or absolute; standard input is empty.
    package var log: String

    package init(
        program: String, arguments: [String], environment: [String: String], directory: String, log: String
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.log = log
    }
}

/// A program that was started, still a child of this process.
package struct Spawned: Sendable {
    package let identity: ProcessIdentity
    package let name: String

    /// The exit status once it has ended, else `nil`. Never waits.
    package func status() -> ExitStatus? {
        var raw: Int32 = 0
        let result = unsafe waitpid(identity.pid, &raw, WNOHANG)
        if result == 0 { return nil }
        if result < 0 { return identity.isAlive ? nil : .unknown }
        return ExitStatus(raw: raw)
    }

    /// Waits until it has ended.
    package func wait(for limit: Duration) -> ExitStatus? {
        let deadline = ContinuousClock.now + limit
        while ContinuousClock.now < deadline {
            if let status = status() { return status }
            usleep(10_000)
        }
        return status()
    }
}

package enum ExitStatus: Equatable, Sendable, CustomStringConvertible {
    case exited(Int32)
    case signalled(Int32)
    case unknown

    /// wait(2): low seven bits the signal, the next byte the exit code.
    package init(raw: Int32) { self = raw & 0x7F == 0 ? .exited((raw >> 8) & 0xFF) : .signalled(raw & 0x7F) }

    package var description: String {
        switch self {
        case .exited(let code): "exit code \(code)"
        case .signalled(let number): "signal \(number)"
        case .unknown: "an unknown status"
        }
    }
}

extension Command {
    /// Starts the program in a session of its own, so that neither the terminal nor the end of this process reaches it.
    ///
    /// - Parameter files: open descriptors it gets as 3, 4, … in this order; every other one is closed.
    /// - Throws: `local-spawn`.
    package func start(passing files: [Int32] = []) throws(Finding) -> Spawned {
        var actions = unsafe posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        unsafe posix_spawn_file_actions_init(&actions)
        unsafe posix_spawnattr_init(&attributes)
        defer {
            unsafe posix_spawn_file_actions_destroy(&actions)
            unsafe posix_spawnattr_destroy(&attributes)
        }
        var none = sigset_t()
        var all = sigset_t()
        unsafe sigemptyset(&none)
        unsafe sigfillset(&all)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setsigdefault(&attributes, &all)
        unsafe posix_spawnattr_setflags(
            &attributes, Int16(POSIX_SPAWN_SETSID | Int32(POSIX_SPAWN_SETSIGMASK) | Int32(POSIX_SPAWN_SETSIGDEF)))

        unsafe posix_spawn_file_actions_addchdir_np(&actions, directory)
        // First out of the way of the numbers they will get, then into place: dup2 also clears close-on-exec.
        let base = Int32(200)
        for (index, file) in files.enumerated() {
            unsafe posix_spawn_file_actions_adddup2(&actions, file, base + Int32(index))
        }
        for index in files.indices {
            unsafe posix_spawn_file_actions_adddup2(&actions, base + Int32(index), 3 + Int32(index))
        }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        unsafe posix_spawn_file_actions_adddup2(&actions, 1, 2)
        unsafe posix_spawn_file_actions_addclosefrom_np(&actions, 3 + Int32(files.count))

        var pid = pid_t()
        let variables = environment.map { "\($0.key)=\($0.value)" }.sorted()
        let code = unsafe Self.withArray([program] + arguments) { argv in
            unsafe Self.withArray(variables) { envp in
                unsafe posix_spawn(&pid, program, &actions, &attributes, argv, envp)
            }
        }
        guard code == 0 else {
            throw Finding(
                "local-spawn", claim: program, expected: "to start in \(directory)",
                actual: unsafe String(cString: strerror(code)))
        }
        // A child that has ended already is a zombie and still has its start time.
        guard let identity = ProcessIdentity(pid: pid) else {
            throw Finding("local-spawn", claim: program, expected: "a process", actual: "gone at once")
        }
        return Spawned(identity: identity, name: HostFiles.name(of: program))
    }

    /// Runs the program to its end and returns what it printed; it is killed at the limit.
    ///
    /// - Throws: `local-command` with the last lines where it fails.
    package func run(limit: Duration) throws(Finding) {
        let child = try start()
        let path = log.hasPrefix("/") ? log : "\(directory)/\(log)"
        guard let status = child.wait(for: limit) else {
            child.identity.signal(SIGKILL)
            _ = child.wait(for: .seconds(5))
            throw Finding("local-command", claim: program, expected: "an end within \(limit)", actual: "none")
        }
        guard status == .exited(0) else {
            throw Finding(
                "local-command", claim: program, expected: "exit code 0",
                actual: "\(status); it said: \(ConsoleTail.lines(path, count: 5).joined(separator: " / "))")
        }
    }

    /// Calls `body` with the strings as C wants them: an array of pointers that ends with a null pointer.
    private static func withArray<Result>(
        _ strings: [String], _ body: (UnsafePointer<UnsafeMutablePointer<CChar>?>) -> Result
    ) -> Result {
        let vector = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: strings.count + 1)
        for (index, string) in strings.enumerated() {
            unsafe vector.advanced(by: index).initialize(to: strdup(string))
        }
        unsafe vector.advanced(by: strings.count).initialize(to: nil)
        defer {
            for index in strings.indices { unsafe free(vector[index]) }
            unsafe vector.deallocate()
        }
        return unsafe body(UnsafePointer(vector))
    }
}

/// The last lines of a log, made safe to print.
package enum ConsoleTail {
    package static func lines(_ path: String, count: Int) -> [String] {
        let size = HostFiles.size(path)
        let window = 64 << 10
        guard let bytes = try? HostFiles.read(path, from: max(0, size - window), limit: window) else { return [] }
        var sanitiser = Sanitised()
        let lines = sanitiser.text(bytes).split(whereSeparator: \.isNewline).filter { line in
            line.contains { $0 != " " }
        }
        return lines.suffix(count).map(String.init)
    }
}
