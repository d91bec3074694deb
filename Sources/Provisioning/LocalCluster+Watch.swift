import Attestation
import Bytes
import Glibc
import Host

/// A started machine with all that is needed to follow it.
struct WatchedMachine {
    let node: ClusterDocument.Node
    let machine: LocalMachine
    let record: MachineRecord
    /// When the machine started, on this host's monotonic clock.
    let start: ContinuousClock.Instant
    let monitor: QMPConnection?
    var watch: BootWatch
    var console = ConsoleReader()
    var consoleOffset: Int
    var lastReport: ContinuousClock.Instant

    var time: Duration { start.duration(to: .now) }
}

extension LocalCluster {
    /// Makes and starts one machine, or takes it up as it runs.
    func bringUp(
        _ index: Int, of document: inout ClusterDocument, acceleration: Acceleration, tools: LocalTools,
        limits: BootWatch.Limits, tell: (Progress) -> Void
    ) throws(Finding) -> WatchedMachine {
        let name = document.nodes[index].name
        let machine = machine(name, of: document)
        if let record = machine.running {
            tell(.note("\(name) runs since \(record.started)"))
            let age = Duration.seconds(max(0, Instant.now.seconds - record.started.seconds))
            return WatchedMachine(
                node: document.nodes[index], machine: machine, record: record, start: .now - age,
                monitor: try? QMPConnection(machineDirectory: machine.directory),
                watch: BootWatch(node: name, limits: limits, resumedAfter: age),
                consoleOffset: HostFiles.size(machine.console), lastReport: .now)
        }
        if !machine.exists { tell(.note("\(name): making its variables and TPM")) }
        try machine.make(firmware: document.firmwareVariables, tools: tools)
        let record = try start(index, of: &document, acceleration: acceleration, tools: tools, tell: tell)
        tell(.step(node: name, name: "started", time: .zero))
        return WatchedMachine(
            node: document.nodes[index], machine: machine, record: record, start: .now,
            monitor: try? QMPConnection(machineDirectory: machine.directory),
            watch: BootWatch(node: name, limits: limits), consoleOffset: record.consoleOffset, lastReport: .now)
    }

    /// Starts a machine; changes the port where another program has taken it, and the acceleration where KVM fails.
    func start(
        _ index: Int, of document: inout ClusterDocument, acceleration: Acceleration, tools: LocalTools,
        tell: (Progress) -> Void
    ) throws(Finding) -> MachineRecord {
        let name = document.nodes[index].name
        let machine = machine(name, of: document)
        var acceleration = acceleration
        var attempts = 0
        while true {
            attempts += 1
            try moveTakenPorts(of: index, in: &document, tell)
            var shape = MachineShape(
                name: "nacre-\(name)", memoryMiB: document.memoryMiB, processors: document.processors,
                image: document.image, firmwareCode: document.firmwareCode, port: document.nodes[index].port,
                channelPort: document.nodes[index].channelPort, apiPort: document.nodes[index].apiPort,
                diskMiB: document.diskMiB, reachesHost: document.nodes.count > 1)
            if document.nodes.count > 1 {
                let segment = Segment(instance: document.instance)
                (shape.segment, shape.hardwareAddress) = (segment, segment.hardwareAddress(of: name))
            }
            do throws(Finding) {
                return try machine.start(shape, acceleration: acceleration, tools: tools)
            } catch {
                guard attempts < 3 else { throw error }
                if acceleration.kind == .kvm {
                    acceleration = Acceleration(
                        kind: .tcg, reason: "QEMU does not start with KVM: \(Acceleration.emulation)")
                    tell(.note("\(name): \(error.actual); \(acceleration.reason)"))
                } else if Self.ports([document.nodes[index]]).allSatisfy(LoopbackPort.isFree) {
                    throw error
                }
            }
        }
    }

    private func moveTakenPorts(
        of index: Int, in document: inout ClusterDocument, _ tell: (Progress) -> Void
    ) throws(Finding) {
        func other(_ port: UInt16) throws(Finding) -> UInt16? {
            if LoopbackPort.isFree(port) { return nil }
            let free = try LoopbackPort.free(except: Self.ports(document.nodes))
            tell(.note("\(document.nodes[index].name): port \(port) is taken by another program, now \(free)"))
            return free
        }
        let before = document
        if let port = try other(document.nodes[index].port) { document.nodes[index].port = port }
        if let channel = document.nodes[index].channelPort, let port = try other(channel) {
            document.nodes[index].channelPort = port
        }
        if let api = document.nodes[index].apiPort, let port = try other(api) { document.nodes[index].apiPort = port }
        if document != before { try save(document) }
    }

    /// Follows all machines until each has an outcome.
    func watch(
        _ machines: inout [WatchedMachine], judge: (ClusterDocument.Node, Duration) -> NodeAnswer,
        tell: (Progress) -> Void
    ) {
        while machines.contains(where: { $0.watch.outcome == nil }) {
            for index in machines.indices where machines[index].watch.outcome == nil {
                let seen = machines[index].watch.stages.count
                observe(&machines[index], judge: judge)
                for stage in machines[index].watch.stages.dropFirst(seen) {
                    tell(.step(node: machines[index].node.name, name: stage.name, time: stage.time))
                }
                if machines[index].lastReport.duration(to: .now) >= .milliseconds(200) {
                    machines[index].lastReport = .now
                    tell(.waiting(node: machines[index].node.name, time: machines[index].time))
                }
            }
        }
    }

    /// One look at one machine, a fifth of a second at most beside the question itself.
    private func observe(_ machine: inout WatchedMachine, judge: (ClusterDocument.Node, Duration) -> NodeAnswer) {
        if let monitor = machine.monitor, monitor.isOpen {
            for event in (try? monitor.takeEvents(waiting: .milliseconds(200))) ?? [] where event.isGuestReset {
                machine.watch.apply(.guestReset, at: machine.time)
            }
        } else {
            usleep(200_000)
        }
        let bytes = (try? HostFiles.read(machine.machine.console, from: machine.consoleOffset, limit: 1 << 20)) ?? []
        machine.consoleOffset += bytes.count
        for event in machine.console.events(bytes) { machine.watch.apply(.console(event), at: machine.time) }
        if !machine.record.qemu.isAlive {
            let words = ConsoleTail.lines("\(machine.machine.directory)/\(MachineFile.qemuLog)", count: 3)
            let said = words.isEmpty ? "" : "; it said: \(words.joined(separator: " / "))"
            machine.watch.apply(.ended("QEMU has ended\(said)"), at: machine.time)
        } else if machine.watch.shouldAsk(at: machine.time) {
            let answer = judge(machine.node, machine.watch.questionPatience)
            machine.watch.apply(.answer(answer), at: machine.time)
        }
        machine.watch.apply(.tick, at: machine.time)
    }

    /// Keeps the verdict with the machine, for `nacre status`.
    func conclude(_ machine: WatchedMachine) throws(Finding) -> UpResult.Node {
        guard let outcome = machine.watch.outcome else {
            throw Finding("local-watch", claim: machine.node.name, expected: "an outcome", actual: "none")
        }
        let result = UpResult.Node(node: machine.node, outcome: outcome, stages: machine.watch.stages)
        if case .judged(let judged) = outcome {
            let note = VerdictNote(
                at: .now, isAccepted: judged.verdict.isAccepted, reason: judged.verdict.reason,
                imageDigest: judged.imageDigest, protection: judged.protection, stages: result.timings)
            try note.write(to: machine.machine.directory)
        }
        return result
    }
}

/// `vm/<node>/verdict.json`: the last verdict on a node. A note for people, never taken instead of judging again.
struct VerdictNote {
    static let schema = "nacre.verdict-note.v1"
    static let file = "verdict.json"

    let at: Instant
    let isAccepted: Bool
    let reason: String
    let imageDigest: [UInt8]?
    let protection: Protection?
    let stages: [(name: String, seconds: Double)]

    private var json: JSON {
        .fields([
            "schema": .string(Self.schema), "at": .string(at.description),
            "verdict": isAccepted ? "accept" : "reject", "reason": .string(reason),
            "imageDigest": imageDigest.map { .hex($0) }, "protection": protection.map { .string($0.rawValue) },
            "stages": .array(stages.map { ["name": .string($0.name), "seconds": .double($0.seconds)] }),
        ])
    }

    func write(to directory: String) throws(Finding) {
        try HostFiles.write("\(directory)/\(Self.file)", Array(json.pretty.utf8))
    }

    /// The note as it stands, or `nil` where none can be read.
    static func read(from directory: String) -> JSON? {
        guard let bytes = try? HostFiles.read("\(directory)/\(file)", limit: 1 << 20) else { return nil }
        let json = try? JSON(parsing: bytes)
        return json?["schema"]?.string == schema ? json : nil
    }
}
