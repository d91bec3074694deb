import Bytes
import CLinux
import Glibc
import Host

/// One virtual machine of this directory: its files below `vm/<node>/`, and the two processes that make it run.
///
/// Every step can be cut short by the end of this process: files are made beside and renamed, and processes are found
/// again by their marker, so the next command continues or cleans up.
struct LocalMachine: Sendable {
    let name: String
    /// Absolute path of `vm/<node>`.
    let directory: String
    let marker: String
    let host: Host

    init(cluster: String, name: String, marker: String, host: Host) {
        self.name = name
        directory = "\(cluster)/vm/\(name)"
        self.marker = marker
        self.host = host
    }

    private var partial: String { directory + ".partial" }
    private func path(_ file: String) -> String { "\(directory)/\(file)" }
    var console: String { path(MachineFile.console) }
    var exists: Bool { HostFiles.exists(directory) }

    private var environment: [String: String] {
        host.environment.merging([MarkedProcesses.variable: marker]) { _, marker in marker }
    }

    // MARK: Files

    /// Makes the machine's files, or leaves whole ones as they are.
    func make(firmware: String, tools: LocalTools) throws(Finding) {
        if exists { return }
        endStrays()
        try HostFiles.remove(partial)
        try HostFiles.makeDirectory(partial, mode: 0o700)
        try HostFiles.create(
            "\(partial)/\(MachineFile.variables)", try HostFiles.read(firmware, limit: 64 << 20), mode: 0o600)
        try HostFiles.makeDirectory("\(partial)/\(MachineFile.tpmState)", mode: 0o700)
        // No endorsement certificate: it would come from a certificate authority on this very host.
        try Command(
            program: tools.swtpmSetup,
            arguments: ["--tpm2", "--tpmstate", MachineFile.tpmState, "--pcr-banks", "sha256,sha384"],
            environment: environment, directory: partial, log: MachineFile.tpmLog
        ).run(limit: .seconds(60))
        for name in try HostFiles.names(in: "\(partial)/\(MachineFile.tpmState)") {
            try HostFiles.flush("\(partial)/\(MachineFile.tpmState)/\(name)")
        }
        try HostFiles.flush("\(partial)/\(MachineFile.tpmState)")
        try HostFiles.flush(partial)
        try HostFiles.move(partial, to: directory)
    }

    /// Ends what runs and removes every file.
    func destroy() throws(Finding) {
        endStrays()
        try HostFiles.remove(partial)
        try HostFiles.remove(directory)
    }

    // MARK: Processes

    /// The record of a machine that runs now.
    var running: MachineRecord? {
        guard let bytes = try? HostFiles.read(path(MachineFile.processes), limit: 1 << 16),
            let record = try? MachineRecord(parsing: bytes), record.qemu.isAlive, record.swtpm.isAlive
        else { return nil }
        return record
    }

    /// Starts swtpm and QEMU. A machine that runs already is left alone.
    func start(_ shape: MachineShape, acceleration: Acceleration, tools: LocalTools) throws(Finding) -> MachineRecord {
        if let running { return running }
        endStrays()
        try forgetProcesses()
        if let size = shape.diskMiB, !HostFiles.exists(path(MachineFile.stateDisk)) {
            try HostFiles.createSparse(path(MachineFile.stateDisk), size: size << 20)
        }
        var ends: [Int32] = [-1, -1]
        // A pair of sockets instead of a path: nothing to name, nothing left behind, and swtpm ends with its peer.
        guard unsafe socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0
        else { throw HostFiles.problem("making a pair of sockets for", name) }
        defer { for end in ends { close(end) } }
        let offset = HostFiles.size(console)
        let swtpm = try Command(
            program: tools.swtpm,
            arguments: [
                "socket", "--tpm2", "--tpmstate", "dir=\(MachineFile.tpmState)", "--ctrl", "type=unixio,clientfd=3",
                "--terminate",
            ], environment: environment, directory: directory, log: MachineFile.tpmLog
        ).start(passing: [ends[0]])
        do throws(Finding) {
            let qemu = try Command(
                program: tools.qemu,
                arguments: shape.arguments(
                    acceleration: acceleration.kind, machine: MachineShape.pinnedMachine, tpm: 3),
                environment: environment, directory: directory, log: MachineFile.qemuLog
            ).start(passing: [ends[1]])
            try waitForMonitor(of: qemu)
            let record = MachineRecord(
                qemu: qemu.identity, swtpm: swtpm.identity, acceleration: acceleration, started: .now,
                consoleOffset: offset)
            try HostFiles.write(path(MachineFile.processes), Array(record.json.pretty.utf8), mode: 0o600)
            return record
        } catch {
            endStrays()
            try forgetProcesses()
            throw error
        }
    }

    /// QEMU opens its monitor after every device; before that it ends with a message in its log.
    private func waitForMonitor(of qemu: Spawned) throws(Finding) {
        let deadline = ContinuousClock.now + .seconds(30)
        while ContinuousClock.now < deadline {
            if let status = qemu.status() {
                throw Finding(
                    "local-qemu", claim: name, expected: "QEMU to start",
                    actual: "\(status); it said: "
                        + ConsoleTail.lines(path(MachineFile.qemuLog), count: 4).joined(separator: " / "))
            }
            if HostFiles.exists(path(MachineFile.monitor)),
                (try? QMPConnection(machineDirectory: directory, limit: .seconds(5))) != nil
            {
                return
            }
            usleep(50_000)
        }
        throw Finding("local-qemu", claim: name, expected: "QEMU's monitor within 30 s", actual: "no answer")
    }

    /// How a machine came to its end.
    enum Ending: Equatable, Sendable {
        /// It was not running.
        case wasStopped
        /// The guest shut down by itself after the power button.
        case orderly
        /// The guest did not follow the power button in time; QEMU was told to end, with its own files flushed.
        case forced
        /// Killed: what its disks had only in caches is lost.
        case powerCut
    }

    /// Stops the machine and waits until both processes are gone.
    func stop(powerCut: Bool, patience: Duration) throws(Finding) -> Ending {
        guard let record = running else {
            endStrays()
            try forgetProcesses()
            return .wasStopped
        }
        var ending = Ending.powerCut
        if powerCut {
            record.qemu.signal(SIGKILL)
            _ = record.qemu.waitForEnd(.seconds(10))
        } else {
            ending = pressPowerButton(record, patience: patience) ? .orderly : .forced
            // SIGTERM is QEMU's `quit`: block devices are flushed and closed.
            if ending == .forced { record.qemu.end(patience: .seconds(10)) }
        }
        if !record.swtpm.waitForEnd(.seconds(5)) { record.swtpm.end(patience: .seconds(2)) }
        endStrays()
        try forgetProcesses()
        return ending
    }

    private func pressPowerButton(_ record: MachineRecord, patience: Duration) -> Bool {
        guard let monitor = try? QMPConnection(machineDirectory: directory),
            (try? monitor.execute("system_powerdown")) != nil
        else { return false }
        return record.qemu.waitForEnd(patience)
    }

    /// Ends every process of this machine, recorded or not, and nothing else.
    func endStrays() {
        for place in [directory, partial] {
            let processes = MarkedProcesses.find(marker: marker, below: place)
            // swtpm_setup takes a second and keeps a file in /tmp meanwhile: it is left to finish.
            for process in processes where process.programName == "swtpm_setup" {
                _ = process.waitForEnd(.seconds(10))
            }
            for process in processes { process.signal(SIGTERM) }
            for process in processes { process.end(patience: .seconds(5)) }
        }
    }

    private func forgetProcesses() throws(Finding) {
        try HostFiles.remove(path(MachineFile.processes))
        try HostFiles.remove(path(MachineFile.monitor))
    }
}

/// Loopback ports.
enum LoopbackPort {
    /// A port that nobody listens on now. Somebody may take it before QEMU does; QEMU then says so and another is
    /// chosen.
    static func free(except taken: Set<UInt16> = []) throws(Finding) -> UInt16 {
        for _ in 0..<64 {
            if let port = bound(to: 0), !taken.contains(port) { return port }
        }
        throw Finding("local-port", claim: "127.0.0.1", expected: "a free port", actual: "none")
    }

    static func isFree(_ port: UInt16) -> Bool { bound(to: port) != nil }

    private static func bound(to port: UInt16) -> UInt16? {
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard socket >= 0 else { return nil }
        defer { close(socket) }
        // As QEMU does: a connection that lingers from the last run is no obstacle.
        var reuse: Int32 = 1
        _ = unsafe setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &reuse, socklen_t(MemoryLayout<Int32>.size))
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                unsafe bind(socket, name, size) == 0 ? unsafe getsockname(socket, name, &size) : -1
            }
        }
        return code == 0 ? UInt16(bigEndian: address.sin_port) : nil
    }
}
