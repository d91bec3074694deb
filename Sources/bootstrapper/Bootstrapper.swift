import Attestation
import AttestedTLS
import Bytes
import Cluster
import Crypto
import Glibc
import Linux
import NodeService
import StateDisk
import TPMDevice

/// The boot's last part as a list of named phases, then serving until systemd says stop.
///
/// Whatever fails ends the program with an error, and the unit reboots the machine: a node that cannot prove its state
/// is of no use, and one that goes on half-way is worse.
struct Bootstrapper {
    /// What the owner's manifest predicts for register 11 after the initrd: the phases of a running systemd
    /// (systemd-pcrphase.service(8)), measured here because each helper of systemd would cost a second of the boot,
    /// then this program's own.
    static let measuredPhases = ["sysinit", "ready", "nacre-attestable"]
    static let port: UInt16 = 9000
    /// The attested channel: docs/channel.md, docs/cluster.md.
    static let channelPort: UInt16 = 9001

    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    static let phases: [(name: String, status: String, run: @Sendable (inout Bootstrapper) throws -> Void)] = [
        ("platform", "Looking for confidential-computing hardware", { try $0.detectPlatform() }),
        ("tpm", "Opening the TPM", { try $0.openTPM() }),
        ("measure", "Measuring the boot phases", { try $0.measurePhases() }),
        ("key", "Creating the attestation key", { try $0.createKey() }),
        ("serve", "Starting to serve evidence", { try $0.serve() }),
        ("channel", "Starting to listen for the owner", { try $0.listen() }),
    ]

    let started = BootClock.milliseconds
    var platform: DetectedPlatform?
    var source: EvidenceSource?
    var server: Server?
    var node: ClusterNode?
    var channel: ChannelServer<ClusterNode>?
    let log = NodeLog()

    /// - Returns: the exit status.
    mutating func run() -> Int32 {
        for phase in Self.phases {
            ServiceManager.notify("STATUS=\(phase.status)")
            do {
                let before = BootClock.milliseconds
                try phase.run(&self)
                log.append("\(BootClock.milliseconds) boot phase \(phase.name) done")
                Journal.write(
                    .info, "phase \(phase.name) done",
                    [
                        "NACRE_PHASE": phase.name,
                        "NACRE_MILLISECONDS": "\(BootClock.milliseconds - before)",
                    ])
            } catch {
                return fail("\(phase.name): \(error)", phase: phase.name)
            }
        }
        announce()
        return watch()
    }

    private func fail(_ message: String, phase: String) -> Int32 {
        Journal.write(.critical, "phase failed: \(message)", ["NACRE_PHASE": phase, "NACRE_ERROR": message])
        print("nacre: \(message); this machine will reboot")
        ServiceManager.notify("STATUS=Failed: \(message)")
        return 1
    }

    // MARK: Phases

    mutating func detectPlatform() throws {
        let detected = try Self.detectedPlatform()
        platform = detected
        Journal.write(
            .notice, "platform is \(detected.platform.rawValue)",
            [
                "NACRE_PLATFORM": detected.platform.rawValue,
                "NACRE_REPORTS": detected.interface?.description ?? "none",
            ])
    }

    /// On a confidential machine the driver that makes reports may still be loading.
    private static func detectedPlatform() throws(TSMError) -> DetectedPlatform {
        let deadline = Deadline.seconds(15)
        while true {
            do throws(TSMError) {
                return try DetectedPlatform.detect(TSMIssuer())
            } catch {
                if deadline.hasPassed { throw error }
                BootClock.sleep(milliseconds: 100)
            }
        }
    }

    /// A machine without a TPM must be a confidential one: its registers are then the hardware's own. Where the firmware
    /// announces a TPM, it has to work.
    mutating func openTPM() throws {
        guard let platform else { throw Failure(description: "the platform is unknown") }
        let path = "/dev/tpmrm0"
        if platform.platform != .tpm, !File.exists(path), !File.exists("/sys/firmware/acpi/tables/TPM2") {
            Journal.write(.warning, "this machine has no TPM", ["NACRE_PLATFORM": platform.platform.rawValue])
            source = EvidenceSource(platform: platform, tpm: nil)
        } else {
            source = EvidenceSource(platform: platform, tpm: try TPMDevice(path: path))
        }
    }

    func measurePhases() throws {
        guard let source else { throw Failure(description: "nothing is open") }
        for phase in Self.measuredPhases {
            let banks = try source.measure(phase: phase).joined(separator: " ")
            Journal.write(
                .notice, "measured \(phase)",
                ["NACRE_MEASURED": phase, "NACRE_REGISTER": "11", "NACRE_BANKS": banks])
        }
    }

    func createKey() throws {
        guard let source else { throw Failure(description: "nothing is open") }
        let key = try source.createKey()
        // One piece of evidence before anybody asks: what cannot be made must stop the boot here.
        _ = try source.evidence(nonce: [UInt8](repeating: 0, count: 32))
        Journal.write(.info, "attestation key created", ["NACRE_ATTESTATION_KEY": Hex.encode(key)])
        // A TPM without a certificate, or with one that cannot be read, is one that nobody vouches for.
        do {
            let certificate = try source.findEndorsementKey().map { Hex.encode($0) } ?? "none"
            Journal.write(.info, "endorsement certificate: \(certificate)", ["NACRE_ENDORSEMENT": certificate])
        } catch {
            Journal.write(.warning, "no endorsement key: \(error)", ["NACRE_ERROR": "\(error)"])
        }
    }

    mutating func serve() throws {
        guard let source else { throw Failure(description: "nothing is open") }
        let service = EvidenceService(
            clock: { BootClock.milliseconds },
            report: { Journal.write(.error, "evidence failed: \($0)", ["NACRE_ERROR": $0]) },
            activate: { request in try source.activate(request) },
            evidence: { nonce in try source.evidence(nonce: nonce) })
        let server = try Server(port: Self.port, answer: { request in service.answer(request) })
        try server.start()
        self.server = server
    }

    /// Keys come over the attested channel, from the owner or a peer. The bootstrapper's own boot ends here; what the
    /// node becomes is `ClusterNode`'s story.
    mutating func listen() throws {
        guard let source else { throw Failure(description: "nothing is open") }
        let machine = NodeMachine(
            evidence: { nonce in try source.evidence(nonce: nonce) },
            measure: { identity in
                let banks = try source.measure(cluster: identity).joined(separator: " ")
                Journal.write(
                    .notice, "measured the cluster",
                    [
                        "NACRE_MEASURED": identity.event, "NACRE_REGISTER": "\(ClusterIdentity.register)",
                        "NACRE_BANKS": banks,
                    ])
            },
            milliseconds: { BootClock.milliseconds }, time: { Instant.now },
            report: { line in
                Journal.write(.notice, line, ["NACRE_PHASE": "cluster"])
                print("nacre: \(line)")
                fflush(nil)
            })
        let log = log
        let disk = NodeStateDisk(mounts: MachineMounts.state) { line in
            log.append("\(BootClock.milliseconds) \(line)")
            machine.report(line)
        }
        let node = ClusterNode(machine: machine, disk: disk, log: log)
        let identity = try TLSIdentity(ephemeral: "nacre-node", now: Instant.now)
        // Far below the unit's limit of open files, which the evidence endpoint shares.
        var limits = ChannelLimits()
        limits.pending = 128
        limits.workers = 4
        limits.queue = 64
        let server = try ChannelServer(port: Self.channelPort, identity: identity, limits: limits, service: node)
        try server.start()
        (self.node, channel) = (node, server)
    }

    // MARK: Serving

    /// Says how the boot went, to the console for people and to systemd.
    private func announce() {
        let efi = "/sys/firmware/efi/efivars/LoaderTimeExecUSec-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
        let attestable = BootClock.milliseconds
        let stages = BootStages(
            initrd: (try? File.text("/run/nacre/stages", limit: 4096)) ?? "",
            loaderTime: (try? File.contents(efi, limit: 256)) ?? [], firmware: BootClock.millisecondsBeforeKernel(),
            root: started, attestable: attestable)
        source?.publish(stages.stages)
        var fields = ["NACRE_PHASE": "attestable"]
        for stage in stages.stages { fields["NACRE_STAGE_\(stage.name.uppercased())_MS"] = "\(stage.milliseconds)" }
        Journal.write(.notice, "attestable", fields)
        print(stages.line)
        fflush(nil)
        ServiceManager.notify(
            "READY=1\nSTATUS=Serving evidence on port \(Self.port), the owner's channel on \(Self.channelPort)")
        node?.attested()
        guard let node else { return }
        let seeks = DetachedThread.start {
            node.seekPeers { milliseconds in BootClock.sleep(milliseconds: UInt32(clamping: milliseconds)) }
        }
        if !seeks { Journal.write(.error, "no thread to ask peers from", ["NACRE_PHASE": "cluster"]) }
        let runs = DetachedThread.start {
            var kubernetes = KubernetesNode(node: node)
            kubernetes.run()
        }
        if !runs { Journal.write(.error, "no thread for Kubernetes", ["NACRE_PHASE": "kubernetes"]) }
    }

    /// Feeds systemd's watchdog for as long as the server is healthy, until a signal says stop.
    private func watch() -> Int32 {
        let interval = ServiceManager.watchdogMilliseconds.map { max(1, $0 / 3) } ?? 5000
        var signals = sigset_t()
        unsafe sigemptyset(&signals)
        for signal in [SIGTERM, SIGINT] { unsafe sigaddset(&signals, signal) }
        var pause = timespec(tv_sec: interval / 1000, tv_nsec: interval % 1000 * 1_000_000)
        var wasHealthy = true
        while true {
            let signal = unsafe sigtimedwait(&signals, nil, &pause)
            if signal > 0 {
                ServiceManager.notify("STOPPING=1")
                server?.stop()
                channel?.stop()
                Journal.write(.notice, "stopping", ["NACRE_PHASE": "stop"])
                return 0
            }
            let isHealthy = server?.isHealthy ?? false
            if isHealthy {
                ServiceManager.notify("WATCHDOG=1")
            } else if wasHealthy {
                Journal.write(.critical, "the server hangs", ["NACRE_PHASE": "serve"])
            }
            wasHealthy = isHealthy
        }
    }
}
