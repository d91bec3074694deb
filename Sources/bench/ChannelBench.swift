import ArgumentParser
import Attestation
import AttestedTLS
import Bytes
import Cluster
import Crypto
import DiskFormat
import Glibc
import Linux
import Manifest
import Synchronization
import SyntheticNode

/// Disk keys given to nodes over the attested channel: whole handshakes, both ends with software evidence.
struct ChannelBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "channel",
        abstract: "Key releases over the attested channel, software evidence at both ends.",
        discussion: """
            A control plane that was initialised over the channel gives disk keys to nodes that connect anew each time: \
            TLS 1.3 with keys at both ends, its own quote made and sent, theirs judged (key, quote, logs, registers), the \
            key derived and sent. Counted is the processor time of the serving threads alone: that of the process without \
            that of the clients' threads, which share the machine.
            """)

    @Option(help: "Key releases counted.")
    var count = 4000
    @Option(help: "Clients at once.")
    var clients = 2

    func run() throws {
        let plane = try Plane()
        try plane.serve(max(200, count / 10), clients: clients)
        try plane.explain()
        let before = residentKiB()
        let (start, processor) = (monotonicSeconds(), processSeconds())
        let spent = try plane.serve(count, clients: clients)
        let wall = monotonicSeconds() - start
        let serving = processSeconds() - processor - spent
        let after = residentKiB()
        say("key releases       \(fixed(Double(count) / wall, 1)) / s on this machine, clients included")
        say("serving side       \(fixed(Double(count) / serving, 1)) / s per core   (target: at least 1000)")
        say("its share          \(fixed(serving / (serving + spent) * 100, 0)) % of the processor time")
        say(
            "memory             \(before) KiB after warming up, \(after) KiB after \(count): ratio "
                + "\(fixed(Double(after) / Double(max(1, before)), 3))   (target: flat)")
        say("key exchange       \(plane.group.withLock { $0 })")
    }
}

/// A control plane without a disk, a member of a cluster of its own.
private final class Plane: Sendable {
    private struct NoDisk: NodeDisk {
        func discover() throws(Finding) -> NodeDiskState { .none("benchmark") }
        func prepare(
            _ rule: DiskRule, allowForeign: Bool, expecting expected: DiskBinding, key: borrowing Secret
        ) throws(Finding) -> NodeDiskState { .open(expected) }
        func rekey(from old: borrowing Secret, to key: borrowing Secret) throws(Finding) -> NodeDiskState {
            throw Finding("disk-missing", claim: "state disk")
        }
        func open(_ expected: DiskBinding, key: borrowing Secret) throws(Finding) -> NodeDiskState { .open(expected) }
        func settle() throws(Finding) {}
        func close() {}
        func store(_ bytes: borrowing Secret, as name: String) throws(Finding) {}
        func load(_ name: String) throws(Finding) -> Secret { throw Finding("disk-missing", claim: name) }
        func hints() -> [PeerEndpoint] { [] }
        func keepHints(_ peers: [PeerEndpoint]) throws(Finding) {}
    }

    private let server: ChannelServer<ClusterNode>
    private let identity: ClusterIdentity
    private let joiner: SyntheticMachine
    let group = Mutex("")

    init() throws {
        let machine = SyntheticMachine(try SyntheticNode())
        joiner = SyntheticMachine(try SyntheticNode())
        let time = Instant(seconds: 1_800_000_000)
        let node = ClusterNode(
            machine: NodeMachine(
                evidence: { try machine.evidence($0) }, measure: { try machine.measure($0) },
                milliseconds: { machine.tick() }, time: { time }, report: { _ in }), disk: NoDisk())
        server = try ChannelServer(
            port: 0, address: "127.0.0.1", identity: try TLSIdentity(ephemeral: "plane", now: .now), service: node)
        try server.start()
        node.attested()
        let owner = try OwnerKey()
        let secret = ClusterSecret()
        identity = try ClusterIdentity(clusterID: secret.clusterID, owner: owner.digest)
        let manifest = try SyntheticNode.manifest()
        let client = try OwnerClient(
            owner: owner, clusterID: secret.clusterID, now: .now, judge: Self.judge(manifest))
        guard let name = NodeName("control-plane-0") else { throw ValidationError("name") }
        let status = try client.initialise(
            .init(host: "127.0.0.1", port: server.port),
            InitRequest(node: name, role: .controlPlane, manifest: manifest.bytes, policy: .development), secret)
        guard status.phase == .run else { throw ValidationError("init came to \(status.phase)") }
    }

    /// What of a release is evidence: the quote that this end makes, and the judgement of the other's.
    func explain() throws {
        let judge = Self.judge(try SyntheticNode.manifest())
        let nonce = [UInt8](repeating: 1, count: 32)
        var documents: [[UInt8]] = []
        let making = try Self.microseconds(200) {
            documents.append(Array(try joiner.evidence(nonce).json.compact.utf8))
        }
        let judging = try Self.microseconds(200) {
            let evidence = try Evidence(parsing: documents[0])
            guard judge(evidence, nonce, .none).verdict.isAccepted else { throw ValidationError("rejected") }
        }
        say("own evidence       \(fixed(making, 0)) µs to make, \(documents[0].count) bytes")
        say("their evidence     \(fixed(judging, 0)) µs to judge")
    }

    private static func microseconds(_ count: Int, _ body: () throws -> Void) rethrows -> Double {
        let start = threadSeconds()
        for _ in 0..<count { try body() }
        return (threadSeconds() - start) / Double(count) * 1e6
    }

    private static func judge(_ manifest: Manifest) -> NodeProof.Judge {
        {
            Appraisal.judge(
                $0, nonce: $1, reference: .pinned(manifest), policy: .development, cluster: $2,
                at: Instant(seconds: 1_800_000_000))
        }
    }

    /// - Returns: processor seconds that the clients' threads used.
    @discardableResult
    func serve(_ count: Int, clients: Int) throws -> Double {
        let left = Atomic(count)
        let result = Mutex<(spent: Double, failure: (any Error)?, done: Int)>((0, nil, 0))
        for _ in 0..<clients {
            let isStarted = DetachedThread.start {
                let start = threadSeconds()
                var failure: (any Error)?
                do {
                    while left.subtract(1, ordering: .relaxed).oldValue > 0 { try self.release() }
                } catch { failure = error }
                let spent = threadSeconds() - start
                result.withLock { $0 = ($0.spent + spent, $0.failure ?? failure, $0.done + 1) }
            }
            guard isStarted else { throw ValidationError("no thread") }
        }
        while result.withLock({ $0.done }) < clients { usleep(20_000) }
        if let failure = result.withLock({ $0.failure }) { throw failure }
        return result.withLock { $0.spent }
    }

    private func release() throws {
        let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "node", now: .now))
        let connection = try client.connect(
            "127.0.0.1", port: server.port, hello: try Hello(purpose: "rejoin", clusterID: identity.clusterID),
            deadline: .seconds(30), judge: { (_, _) throws(ChannelRefusal) in },
            prove: { (session, _) throws(ChannelRefusal) in
                guard let evidence = try? self.joiner.evidence(NodeProof.nonce(session.ownBinding)) else {
                    throw ChannelRefusal("internal")
                }
                return Array(evidence.json.compact.utf8)
            }
        ).connection
        defer { connection.close() }
        guard let name = NodeName("worker-0") else { throw ValidationError("name") }
        try connection.send(
            Array(JoinRequest(node: name, epoch: 1, generation: 0).json.compact.utf8), deadline: .seconds(30))
        guard try connection.receive(deadline: .seconds(30)) != nil else { throw ValidationError("no answer") }
        guard try connection.receiveSecret(count: 32, deadline: .seconds(30)).count == 32 else {
            throw ValidationError("no key")
        }
        group.withLock { $0 = connection.session.group }
    }
}
