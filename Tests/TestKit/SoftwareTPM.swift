import CLinux
import Glibc

/// A software TPM (swtpm) of the test's own, fresh and started up, on a TCP port of the loopback device; it ends with
/// this object.
public final class SoftwareTPM: Sendable {
    /// Commands go here; the control channel is the next port.
    public let port: UInt16
    private let process: pid_t
    private let folder: TemporaryFolder

    /// An authority of the test's own (swtpm_localca) that certifies endorsement keys of software TPMs.
    public struct Authority: Sendable {
        let folder: TemporaryFolder

        /// `nil`, with a line that says so, where swtpm_localca is not installed.
        public init?() throws {
            guard let tool = Tool.find("swtpm_localca") else { return nil }
            folder = try TemporaryFolder()
            let path = folder.path
            _ = try folder.file(
                "setup.conf",
                """
                create_certs_tool = \(tool)
                create_certs_tool_config = \(path)/localca.conf
                create_certs_tool_options = \(path)/localca.options
                """)
            _ = try folder.file(
                "localca.conf",
                """
                statedir = \(path)
                signingkey = \(path)/signkey.pem
                issuercert = \(path)/issuercert.pem
                certserial = \(path)/certserial
                """)
            _ = try folder.file(
                "localca.options",
                "--platform-manufacturer Nacre\n--platform-version 1.0\n--platform-model test\n")
        }

        /// The authority that issues, and the root above it: PEM, once it has issued something.
        public func certificates() throws -> (issuer: [UInt8], root: [UInt8]) {
            (
                try readFile("\(folder.path)/issuercert.pem"),
                try readFile("\(folder.path)/swtpm-localca-rootca-cert.pem")
            )
        }
    }

    /// `nil`, with a line that says so, where swtpm is not installed.
    /// - Parameter banks: active banks of registers; `nil` leaves swtpm's default.
    /// - Parameter authority: puts endorsement certificates of this authority into the TPM, RSA 2048 and P-384.
    public init?(banks: String? = nil, authority: Authority? = nil) throws {
        guard let tool = Tool.find("swtpm") else { return nil }
        folder = try TemporaryFolder()
        if banks != nil || authority != nil {
            guard let setup = Tool.find("swtpm_setup") else { return nil }
            var command = [setup, "--tpm2", "--tpmstate", folder.path, "--pcr-banks", banks ?? "sha256"]
            if let authority {
                command += [
                    "--create-ek-cert", "--create-platform-cert", "--lock-nvram", "--not-overwrite", "--config",
                    "\(authority.folder.path)/setup.conf",
                ]
            }
            let made = try Tool.run(command)
            guard made.status == 0 else { throw Unavailable(what: "swtpm_setup: \(made.errors)") }
        }
        let log = unsafe open("\(folder.path)/log", O_WRONLY | O_CREAT | O_CLOEXEC, 0o600)
        defer { close(log) }
        for _ in 0..<20 {
            let port = UInt16.random(in: 20000..<32000)
            let process = try Self.start(
                [
                    tool,
                    "socket", "--tpm2", "--tpmstate", "dir=\(folder.path)", "--flags", "not-need-init,startup-clear",
                    "--server", "type=tcp,port=\(port)", "--ctrl", "type=tcp,port=\(port + 1)",
                ], output: log)
            for _ in 0..<200 {
                if let probe = Self.connect(port + 1) {
                    close(probe)
                    self.port = port
                    self.process = process
                    return
                }
                var status: Int32 = 0
                if unsafe waitpid(process, &status, WNOHANG) == process { break }
                usleep(10_000)
            }
        }
        throw Unavailable(what: "swtpm does not start")
    }

    public struct Unavailable: Error {
        public let what: String
    }

    /// For the option `-T` of tpm2-tools.
    public var tcti: String { "swtpm:host=127.0.0.1,port=\(port)" }

    /// Sends one command as bytes and returns the answer.
    public func transmit(_ command: [UInt8]) throws -> [UInt8] {
        guard let socket = Self.connect(port) else { throw Unavailable(what: "swtpm does not answer") }
        defer { close(socket) }
        guard unsafe write(socket, command, command.count) == command.count else {
            throw Unavailable(what: "swtpm does not listen")
        }
        var answer = [UInt8](repeating: 0, count: 4096)
        let count = unsafe read(socket, &answer, answer.count)
        return Array(answer.prefix(max(0, count)))
    }

    /// Starts `command` with its output going to `output`.
    ///
    /// Threads of a test run block signals: a program that inherits that could not be asked to end. Descriptors of tests
    /// that run at the same time must not be inherited either.
    private static func start(_ command: [String], output: Int32) throws -> pid_t {
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, 1)
        unsafe posix_spawn_file_actions_adddup2(&actions, output, 2)
        unsafe posix_spawn_file_actions_addclosefrom_np(&actions, 3)
        var attributes = posix_spawnattr_t()
        unsafe posix_spawnattr_init(&attributes)
        defer { unsafe posix_spawnattr_destroy(&attributes) }
        var none = sigset_t()
        unsafe sigemptyset(&none)
        unsafe posix_spawnattr_setsigmask(&attributes, &none)
        unsafe posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK))
        var arguments = unsafe command.map { unsafe strdup($0) } + [nil]
        defer { unsafe arguments.forEach { unsafe free($0) } }
        // Nothing of the test's environment: a software TPM has no use for it.
        var environment: [UnsafeMutablePointer<CChar>?] = unsafe [nil]
        var process: pid_t = 0
        let code = unsafe posix_spawn(&process, command.first ?? "", &actions, &attributes, &arguments, &environment)
        guard code == 0 else { throw Unavailable(what: command.first ?? "") }
        return process
    }

    private static func connect(_ port: UInt16) -> Int32? {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let result = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe Glibc.connect(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        if result == 0 { return socket }
        close(socket)
        return nil
    }

    deinit {
        kill(process, SIGTERM)
        var status: Int32 = 0
        _ = unsafe waitpid(process, &status, 0)
    }
}
