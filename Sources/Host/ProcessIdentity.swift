import Bytes
import CLinux
import Glibc

/// One process for ever: its number, when it started, and in which boot of this host.
///
/// A number alone is reused; the three together are not (proc_pid_stat(5), field 22, in clock ticks since boot).
package struct ProcessIdentity: Hashable, Sendable {
    package let pid: Int32
    package let startTime: UInt64
    package let bootID: String

    package init(pid: Int32, startTime: UInt64, bootID: String) {
        self.pid = pid
        self.startTime = startTime
        self.bootID = bootID
    }

    /// The process that has this number now, zombies included.
    package init?(pid: Int32) {
        guard let stat = Self.stat(pid) else { return nil }
        self.init(pid: pid, startTime: stat.startTime, bootID: Self.currentBoot)
    }

    /// Runs, and is the same process that was recorded. A zombie is dead: only its parent's bookkeeping is left.
    package var isAlive: Bool {
        guard bootID == Self.currentBoot, let stat = Self.stat(pid) else { return false }
        return stat.startTime == startTime && stat.state != "Z" && stat.state != "X"
    }

    /// Sends a signal if the process is alive. The number is pinned by a handle before it is compared, so a stranger
    /// that takes it over in between is never hit.
    @discardableResult
    package func signal(_ number: Int32) -> Bool {
        let handle = nacre_pidfd_open(pid)
        guard handle >= 0 else { return false }
        defer { close(handle) }
        guard isAlive else { return false }
        return nacre_pidfd_send_signal(handle, number) == 0
    }

    /// Asks to end, waits, then kills; returns when it is gone or `patience` twice over.
    package func end(patience: Duration) {
        if signal(SIGTERM), waitForEnd(patience) { return }
        if signal(SIGKILL) { _ = waitForEnd(patience) }
    }

    /// Waits until it is gone; collects the status where it is a child of this process.
    package func waitForEnd(_ limit: Duration) -> Bool {
        let deadline = ContinuousClock.now + limit
        while true {
            _ = waitpid(pid, nil, WNOHANG)
            if !isAlive { return true }
            guard ContinuousClock.now < deadline else { return false }
            usleep(20_000)
        }
    }

    /// Name of the program it runs, cut to 15 characters by the kernel.
    package var programName: String {
        Sanitised.line((try? HostFiles.read("/proc/\(pid)/comm", limit: 64)) ?? [])
    }

    package static let currentBoot: String = {
        let bytes = (try? HostFiles.read("/proc/sys/kernel/random/boot_id", limit: 64)) ?? []
        return Sanitised.line(bytes)
    }()

    private static func stat(_ pid: Int32) -> (state: Character, startTime: UInt64)? {
        guard pid > 0, let bytes = try? HostFiles.read("/proc/\(pid)/stat", limit: 4096) else { return nil }
        return parse(stat: String(decoding: bytes, as: UTF8.self))
    }

    /// `pid (name) state ppid … starttime …`. The name may hold spaces and brackets: fields are counted from the last
    /// bracket.
    package static func parse(stat: String) -> (state: Character, startTime: UInt64)? {
        guard let bracket = stat.lastIndex(of: ")") else { return nil }
        let fields = stat[stat.index(after: bracket)...].split(separator: " ")
        guard fields.count > 19, let state = fields[0].first, let startTime = UInt64(fields[19]) else { return nil }
        return (state, startTime)
    }
}

extension ProcessIdentity {
    package init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        guard let pid = Int32(exactly: try fields.integer("pid")), pid > 0,
            let startTime = try fields.required("startTime").unsigned
        else { throw ParseError("range", field: path, offset: 0, "not a process") }
        self.init(pid: pid, startTime: startTime, bootID: try fields.string("bootID"))
        try fields.end()
    }

    package var json: JSON {
        ["pid": .integer(Int128(pid)), "startTime": .integer(Int128(startTime)), "bootID": .string(bootID)]
    }
}

/// Finds what a machine's directory started, recorded or not.
///
/// Every process of a machine carries `NACRE_MACHINE=<marker>` in its environment and works inside the machine's
/// directory. A process is ours only if both hold: a copied directory has the marker, but not the place.
package enum MarkedProcesses {
    package static let variable = "NACRE_MACHINE"

    /// Live processes with this marker whose working directory is `directory` or below (also after its removal).
    package static func find(marker: String, below directory: String) -> [ProcessIdentity] {
        let wanted = Array("\(variable)=\(marker)".utf8)
        var found: [ProcessIdentity] = []
        for name in (try? HostFiles.names(in: "/proc")) ?? [] {
            guard let pid = Int32(name), pid != getpid(), let identity = ProcessIdentity(pid: pid), identity.isAlive,
                let place = HostFiles.linkTarget("/proc/\(pid)/cwd"), isBelow(place, directory),
                let environment = try? HostFiles.read("/proc/\(pid)/environ", limit: 1 << 20),
                environment.split(separator: 0).contains(where: { $0.elementsEqual(wanted) })
            else { continue }
            found.append(identity)
        }
        return found
    }

    private static func isBelow(_ place: String, _ directory: String) -> Bool {
        place == directory || place.hasPrefix(directory + "/") || place.hasPrefix(directory + " (deleted)")
    }
}
