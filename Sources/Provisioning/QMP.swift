import Bytes
import CLinux
import Glibc
import Host

/// One message of QEMU's machine protocol (qemu qmp-spec: greeting, return, error, event).
enum QMPMessage: Equatable, Sendable {
    case greeting
    case result(JSON)
    case failure(String)
    case event(name: String, data: JSON)

    init(line: [UInt8]) throws(ParseError) {
        let json = try JSON(parsing: line, limit: QMPBuffer.longestLine)
        if json["QMP"] != nil {
            self = .greeting
        } else if let name = json["event"]?.string {
            self = .event(name: name, data: json["data"] ?? .object([:]))
        } else if let error = json["error"] {
            self = .failure(error["desc"]?.string ?? error.compact)
        } else if let result = json["return"] {
            self = .result(result)
        } else {
            throw ParseError("form", field: "qmp", offset: 0, "neither greeting, event, return nor error")
        }
    }

    /// The guest reset itself (not asked for from here).
    var isGuestReset: Bool {
        if case .event(name: "RESET", let data) = self { return data["guest"]?.bool == true }
        return false
    }
}

/// Splits a stream into lines; bounded.
struct QMPBuffer: Sendable {
    static let longestLine = 1 << 20
    private var bytes: [UInt8] = []

    mutating func lines(_ new: [UInt8]) throws(ParseError) -> [[UInt8]] {
        bytes += new
        var lines: [[UInt8]] = []
        while let end = bytes.firstIndex(of: UInt8(ascii: "\n")) {
            var line = Array(bytes[..<end])
            bytes.removeSubrange(...end)
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if !line.isEmpty { lines.append(line) }
        }
        guard bytes.count <= Self.longestLine else {
            throw ParseError("length", field: "qmp", offset: 0, "a line above \(Self.longestLine) bytes")
        }
        return lines
    }
}

/// A connection to a running QEMU's monitor.
///
/// The socket lies in the machine's directory, whose path may be longer than an address can hold (108 bytes): it is
/// reached through a descriptor of the directory.
final class QMPConnection {
    private let socket: Int32
    private var buffer = QMPBuffer()
    /// Events that came while a command waited for its answer.
    private var events: [QMPMessage] = []
    private(set) var isOpen = true

    /// - Throws: `local-monitor` where nobody answers in time.
    init(machineDirectory: String, limit: Duration = .seconds(10)) throws(Finding) {
        let directory = unsafe open(machineDirectory, O_PATH | O_DIRECTORY | O_CLOEXEC)
        guard directory >= 0 else { throw HostFiles.problem("opening", machineDirectory) }
        defer { close(directory) }
        socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { throw HostFiles.problem("making a socket for", machineDirectory) }
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        let path = "/proc/self/fd/\(directory)/\(MachineFile.monitor)"
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: path.utf8) }
        let code = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        guard code == 0 else { throw HostFiles.problem("connecting to QEMU's monitor in", machineDirectory) }
        let deadline = ContinuousClock.now + limit
        guard try next(until: deadline) == .greeting else {
            throw Self.silent("a greeting", "another message")
        }
        _ = try execute("qmp_capabilities", limit: limit)
    }

    deinit { close(socket) }

    private static func silent(_ expected: String, _ actual: String) -> Finding {
        Finding("local-monitor", claim: "QEMU's monitor", expected: expected, actual: actual)
    }

    /// Runs one command and returns its result; events meanwhile are kept for `takeEvents`.
    func execute(_ command: String, limit: Duration = .seconds(10)) throws(Finding) -> JSON {
        let line = Array("{\"execute\":\"\(command)\"}\n".utf8)
        guard unsafe send(socket, line, line.count, Int32(MSG_NOSIGNAL)) == line.count else {
            isOpen = false
            throw Self.silent("to take \(command)", "closed")
        }
        let deadline = ContinuousClock.now + limit
        while true {
            switch try next(until: deadline) {
            case .result(let json): return json
            case .failure(let text): throw Self.silent("\(command) to work", text)
            case .greeting: continue
            case .event: continue
            case nil: throw Self.silent("an answer to \(command)", isOpen ? "none within \(limit)" : "closed")
            }
        }
    }

    /// Events so far, waiting at most `limit` for the first.
    func takeEvents(waiting limit: Duration) throws(Finding) -> [QMPMessage] {
        if events.isEmpty, isOpen { _ = try receive(until: ContinuousClock.now + limit) }
        defer { events = [] }
        return events
    }

    private var pending: [QMPMessage] = []

    /// The next message that is no event.
    private func next(until deadline: ContinuousClock.Instant) throws(Finding) -> QMPMessage? {
        while pending.isEmpty {
            guard isOpen, ContinuousClock.now < deadline else { return nil }
            _ = try receive(until: deadline)
        }
        return pending.removeFirst()
    }

    private func receive(until deadline: ContinuousClock.Instant) throws(Finding) -> Bool {
        let left = ContinuousClock.now.duration(to: deadline)
        let milliseconds = max(0, left.components.seconds * 1000 + left.components.attoseconds / 1_000_000_000_000_000)
        var wait = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
        guard unsafe poll(&wait, 1, Int32(clamping: milliseconds)) > 0 else { return false }
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        let count = unsafe recv(socket, &chunk, chunk.count, 0)
        guard count > 0 else {
            isOpen = false
            return false
        }
        do throws(ParseError) {
            for line in try buffer.lines(Array(chunk[..<count])) {
                let message = try QMPMessage(line: line)
                if case .event = message { events.append(message) } else { pending.append(message) }
            }
        } catch {
            isOpen = false
            throw Self.silent("a message of its protocol", error.description)
        }
        return true
    }
}
