import ArgumentParser
import Attestation
import AttestedTLS
import Bytes
import Cluster
import Crypto
import DiskFormat
import Glibc
import Kubernetes
import Linux
import Manifest
import Synchronization
import SyntheticNode

/// Many nodes that enrol at once with one control plane, all of them in this process.
struct EnrolBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "enrol",
        abstract: "Nodes enrolling at once against one control plane, software evidence at both ends.",
        discussion: """
            Every node is a member with its own keys, registers and disk; all of them begin at the same moment, each on a \
            thread of its own: mutual attestation, five certificates, the policy and the answer \
            checked. Both ends share this machine's processors. The clients' memory is counted too.
            """)

    @Option(help: "Nodes.")
    var nodes = 1000

    func validate() throws {
        guard (1...NetworkPlan.maximumNodes - 1).contains(nodes) else {
            throw ValidationError("--nodes must be 1 to \(NetworkPlan.maximumNodes - 1)")
        }
    }

    func run() throws {
        let plane = try MemberNode("control-plane-0", secret: ClusterSecret())
        let owner = try OwnerKey()
        let secret = plane.secret
        let manifest = try SyntheticNode.manifest()
        let client = try OwnerClient(owner: owner, clusterID: secret.clusterID, now: .now, patience: 300) {
            Appraisal.judge(
                $0, nonce: $1, reference: .pinned(manifest), policy: .development, cluster: $2, at: MemberNode.now)
        }
        _ = try client.initialise(
            plane.endpoint,
            InitRequest(node: plane.name, role: .controlPlane, manifest: manifest.bytes, policy: .development), secret)
        var members: [MemberNode] = []
        for number in 0..<nodes { members.append(try MemberNode("worker-\(number)", secret: nil)) }
        for member in members {
            _ = try client.initialise(
                member.endpoint,
                InitRequest(
                    node: member.name, role: .worker, manifest: manifest.bytes, policy: .development,
                    peers: [plane.endpoint]), secret)
            member.hangUp()
        }
        let entries = ([plane] + members).enumerated().compactMap { number, node in
            NodeIndex(number + 1).map {
                ClusterPolicy.Node(name: node.name, role: number == 0 ? .controlPlane : .worker, index: $0)
            }
        }
        let policy = ClusterPolicy(
            clusterID: secret.clusterID, nodes: entries, images: [manifest], attestation: .development)
        _ = try client.apply(plane.endpoint, try SignedPolicy(signing: policy, by: owner))
        _ = try plane.node.enrol(endpoints: [], linkLocalInterface: nil)
        let before = residentKiB()
        let (times, failures, wall) = try Self.enrolAll(members)
        let after = residentKiB()
        say("nodes              \(nodes) at once: \(failures.count) failed in \(fixed(wall, 1)) s   (target: none)")
        for failure in failures.prefix(3) { say("  \(failure)") }
        func time(_ part: Double) -> String {
            times.isEmpty ? "-" : fixed(times[min(times.count - 1, Int(Double(times.count) * part))], 2)
        }
        say("until enrolled     median \(time(0.5)) s, p99 \(time(0.99)) s, slowest \(time(1)) s")
        say(
            "memory             \(before / 1024) MiB before, \(after / 1024) MiB after, all nodes and their threads "
                + "included   (target: at most 200 for the control plane)")
        _ = try plane.node.refreshMesh(endpoints: [], linkLocalInterface: nil)
        // The first question is answered with the whole mesh, the others with nothing new.
        let (asking, questions) = (members[0], 2000)
        let first = try Self.milliseconds { _ = try asking.poll() }
        let next = try Self.milliseconds { for _ in 0..<questions { _ = try asking.poll() } } / Double(questions)
        say("a node's question  \(fixed(first, 1)) ms with the whole mesh as answer, \(fixed(next, 1)) ms with no news")
        guard failures.isEmpty else { throw ExitCode(1) }
    }

    private static func milliseconds(_ body: () throws -> Void) rethrows -> Double {
        let start = monotonicSeconds()
        try body()
        return (monotonicSeconds() - start) * 1000
    }

    private static func enrolAll(
        _ members: [MemberNode]
    ) throws -> (times: [Double], failures: [String], wall: Double) {
        let result = Mutex<(times: [Double], failures: [String], done: Int)>(([], [], 0))
        let start = monotonicSeconds()
        for member in members {
            let isStarted = DetachedThread.start {
                let begun = monotonicSeconds()
                var failure: String?
                do throws(Finding) {
                    _ = try member.node.enrol(endpoints: [], linkLocalInterface: nil, patience: 300)
                } catch { failure = "\(member.name): \(error)" }
                let time = monotonicSeconds() - begun
                result.withLock {
                    $0.done += 1
                    if let failure { $0.failures.append(failure) } else { $0.times.append(time) }
                }
            }
            guard isStarted else { throw ValidationError("no thread") }
        }
        while result.withLock({ $0.done }) < members.count { usleep(20_000) }
        let wall = monotonicSeconds() - start
        return result.withLock { ($0.times.sorted(), $0.failures, wall) }
    }
}

/// A member of a cluster with made-up registers and a disk in memory.
private final class MemberNode: Sendable {
    static let now = Instant(seconds: 1_800_000_000)

    let name: NodeName
    let node: ClusterNode
    private let held: SecretBox
    private let server: ChannelServer<ClusterNode>

    private final class SecretBox: Sendable {
        let secret: ClusterSecret
        init(_ secret: consuming ClusterSecret) { self.secret = secret }
    }

    var secret: ClusterSecret { held.secret.copy() }

    init(_ text: String, secret: consuming ClusterSecret?) throws {
        guard let name = NodeName(text) else { throw ValidationError("name") }
        self.name = name
        held = SecretBox(secret ?? ClusterSecret())
        let machine = SyntheticMachine(try SyntheticNode())
        node = ClusterNode(
            machine: NodeMachine(
                evidence: { try machine.evidence($0) }, measure: { try machine.measure($0) },
                milliseconds: { machine.tick() }, time: { Self.now }, report: { _ in }), disk: FileTable())
        var limits = ChannelLimits()
        // As the bootstrapper sets them, but for a queue that holds all of them.
        limits.workers = text.hasPrefix("control") ? 4 : 1
        limits.queue = 1024
        server = try ChannelServer(
            port: 0, address: "127.0.0.1", identity: try TLSIdentity(ephemeral: "node", now: .now), limits: limits,
            service: node)
        try server.start()
        node.attested()
    }

    var endpoint: PeerEndpoint { PeerEndpoint(host: "127.0.0.1", port: server.port) }
    func hangUp() { server.stop() }
    func poll() throws -> NodeConfiguration? { try node.refreshMesh(endpoints: [], linkLocalInterface: nil) }
}

/// Files in memory, in place of a state disk.
private final class FileTable: NodeDisk {
    private let files = Mutex<[String: [UInt8]]>([:])

    func discover() throws(Finding) -> NodeDiskState { .blank }
    func prepare(
        _ rule: DiskRule, allowForeign: Bool, expecting expected: DiskBinding, key: borrowing Secret
    ) throws(Finding) -> NodeDiskState { .open(expected) }
    func rekey(from old: borrowing Secret, to key: borrowing Secret) throws(Finding) -> NodeDiskState {
        throw Finding("disk-missing", claim: "state disk")
    }
    func open(_ expected: DiskBinding, key: borrowing Secret) throws(Finding) -> NodeDiskState { .open(expected) }
    func settle() throws(Finding) {}
    func close() {}
    func store(_ bytes: borrowing Secret, as name: String) throws(Finding) {
        let copy = bytes.withBytes { span in span.indices.map { span[$0] } }
        files.withLock { $0[name] = copy }
    }
    func load(_ name: String) throws(Finding) -> Secret {
        guard var bytes = files.withLock({ $0[name] }) else { throw Finding("disk-missing", claim: name) }
        return Secret(wiping: &bytes)
    }
    func hints() -> [PeerEndpoint] { [] }
    func keepHints(_ peers: [PeerEndpoint]) throws(Finding) {}
}
