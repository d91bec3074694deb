import ArgumentParser
import Attestation
import AttestedTLS
import Bytes
import CLinux
import COpenSSL
import Cluster
import Crypto
import DiskFormat
import Manifest
import SyntheticNode

/// Disk keys given to nodes over the attested channel: whole handshakes, both ends with software evidence.
struct ChannelBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "channel",
        abstract: "Key releases over the attested channel, software evidence at both ends.",
        discussion: """
            A control plane that was initialised over the channel gives disk keys to nodes that connect anew each time: \
            TLS 1.3 with keys at both ends, its own quote made and sent, theirs judged (key, quote, logs, registers), the \
            key derived and sent. The nodes are processes of their own. All of them and this one share one \
            processor, which is never idle as long as there is a node that asks: waking an idle one would be counted \
            otherwise. Counted is this process's processor time, all its threads, user and system, and none of the \
            nodes'. The yardstick is what no release can do without, by raw OpenSSL calls on one thread, before and after.
            """)

    @Option(help: "Key releases counted.")
    var count = 4000
    @Option(help: "Clients at once.")
    var clients = 8

    func run() throws {
        // Before the first thread is started; processes that are started inherit it.
        guard nacre_run_on_one() == 0 else { throw ValidationError("cannot stay on one processor") }
        let version = unsafe String(cString: OpenSSL_version(OPENSSL_VERSION))
        say("library            \(version)")
        let plane = try Plane()
        try plane.serve(max(200, count / 10), clients: clients, isQuiet: true)
        try plane.explain()
        let first = try HandshakeYardstick(500)
        let before = residentKiB()
        let (start, processor) = (monotonicSeconds(), processSeconds())
        try plane.serve(count, clients: clients, isQuiet: false)
        let wall = monotonicSeconds() - start
        let serving = processSeconds() - processor
        let after = residentKiB()
        let second = try HandshakeYardstick(500)
        let each = serving / Double(count) * 1e6
        let floor = (first.total + second.total) / 2
        say(
            "raw OpenSSL        handshake \(fixed((first.handshake + second.handshake) / 2, 0)) µs, sign "
                + "\(fixed((first.signing + second.signing) / 2, 0)) µs, verify "
                + "\(fixed((first.verifying + second.verifying) / 2, 0)) µs: \(fixed(1e6 / floor, 0)) / s at most")
        say("key releases       \(fixed(Double(count) / wall, 1)) / s on this machine, clients included")
        say("serving side       \(fixed(Double(count) / serving, 1)) / s per core   (target: at least 1000)")
        say("one release        \(fixed(each, 0)) µs, \(fixed(each / floor, 2)) times raw OpenSSL's")
        say(
            "memory             \(before) KiB after warming up, \(after) KiB after \(count): ratio "
                + "\(fixed(Double(after) / Double(max(1, before)), 3))   (target: flat)")
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

    init() throws {
        let machine = SyntheticMachine(try SyntheticNode())
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
        let node = SyntheticMachine(try SyntheticNode())
        let nonce = [UInt8](repeating: 1, count: 32)
        var documents: [[UInt8]] = []
        let making = try Self.microseconds(200) {
            documents.append(try node.evidence(nonce).bytes)
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

    /// Until `count` keys were given.
    func serve(_ count: Int, clients: Int, isQuiet: Bool) throws {
        let shares = (0..<clients).map { (count + $0) / clients }
        let running = try shares.enumerated().map { number, share in
            try ChannelClients.start(
                share, port: server.port, clusterID: identity.clusterID, isQuiet: isQuiet || number > 0)
        }
        for client in running {
            guard client.wait(for: .seconds(3600)) == .exited(0) else { throw ValidationError("a client failed") }
        }
    }
}
