import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Glibc
import Manifest
import Synchronization
import SyntheticNode
import TestKit
import Testing

@testable import Cluster

/// A state disk in memory: it opens with the key it was formatted with.
final class MemoryDisk: NodeDisk {
    struct State: Sendable {
        var claim: DiskBinding?
        var foreign = false
        /// This machine has no disk at all.
        var hasNone = false
        var key: [UInt8] = []
        var files: [String: [UInt8]] = [:]
        var isOpen = false
        /// The next preparation fails with this.
        var fault: Finding?
        var formats = 0
        var settled = 0
        var isReadOnly = false
        var hints: [PeerEndpoint] = []
    }
    let state = Mutex(State())

    func discover() throws(Finding) -> NodeDiskState {
        state.withLock { state in
            state.isOpen = false
            return state.claim.map { .closed($0) } ?? (state.foreign ? .foreign("ext4") : .blank)
        }
    }

    func prepare(
        _ rule: DiskRule, allowForeign: Bool, expecting expected: DiskBinding, key: borrowing Secret
    ) throws(Finding) -> NodeDiskState {
        let bytes = key.published
        let result = state.withLock { (state) -> Result<Void, Finding> in
            if state.hasNone { return .failure(Finding("disk-none", claim: "state disk")) }
            if let fault = state.fault {
                state.fault = nil
                return .failure(fault)
            }
            guard state.claim == nil else { return .success(()) }
            if state.foreign, !allowForeign { return .failure(Finding("disk-foreign", claim: "state disk")) }
            state.claim = expected
            state.key = bytes
            state.files = [:]
            state.formats += 1
            return .success(())
        }
        try result.get()
        return try open(expected, key: key)
    }

    func rekey(from old: borrowing Secret, to key: borrowing Secret) throws(Finding) -> NodeDiskState {
        let (old, new) = (old.published, key.published)
        let result = state.withLock { (state) -> Result<NodeDiskState, Finding> in
            guard state.isOpen, let present = state.claim else {
                return .failure(Finding("disk-missing", claim: "state disk"))
            }
            guard state.key == old else { return .failure(Finding("header-seal", claim: "state disk")) }
            state.key = new
            let next = present.advanced(epoch: present.epoch + 1, by: 1)
            state.claim = next
            return .success(.open(next))
        }
        return try result.get()
    }

    func open(_ expected: DiskBinding, key: borrowing Secret) throws(Finding) -> NodeDiskState {
        let bytes = key.published
        let result = state.withLock { (state) -> Result<NodeDiskState, Finding> in
            guard let present = state.claim else { return .failure(Finding("disk-missing", claim: "state disk")) }
            do throws(DiskError) { try expected.check(present) } catch { return .failure(error.finding) }
            guard state.key == bytes else { return .failure(Finding("disk-key", claim: "state disk")) }
            state.isOpen = true
            let next = present.advanced(by: 1)
            state.claim = next
            return .success(.open(next))
        }
        return try result.get()
    }

    func settle() throws(Finding) { state.withLock { $0.settled += 1 } }
    func hints() -> [PeerEndpoint] { state.withLock { $0.hints } }
    func keepHints(_ peers: [PeerEndpoint]) throws(Finding) { state.withLock { $0.hints = peers } }

    /// An older copy of the disk.
    func copy() -> MemoryDisk {
        let copy = MemoryDisk()
        let present = state.withLock { $0 }
        copy.state.withLock { $0 = present }
        return copy
    }

    func close() { state.withLock { $0.isOpen = false } }

    func store(_ bytes: borrowing Secret, as name: String) throws(Finding) {
        let copy = bytes.published
        let isKept = state.withLock { state in
            if !state.isReadOnly { state.files[name] = copy }
            return !state.isReadOnly
        }
        guard isKept else { throw Finding("disk-io", claim: name) }
    }

    func load(_ name: String) throws(Finding) -> Secret {
        guard var bytes = state.withLock({ $0.isOpen ? $0.files[name] : nil }) else {
            throw Finding("disk-missing", claim: name)
        }
        return Secret(wiping: &bytes)
    }
}

/// A node that exists only here: made-up registers, a disk in memory, real channel and real judgement.
final class SoftwareNode: Sendable {
    let machine: SyntheticMachine
    let disk: MemoryDisk
    let service: ClusterNode
    let server: ChannelServer<ClusterNode>
    let reports: NodeReports
    let clock: NodeClock

    init(disk: MemoryDisk = MemoryDisk(), ahead: Int64 = 0, change: (inout SyntheticNode) -> Void = { _ in }) throws {
        let clock = NodeClock(ahead)
        self.clock = clock
        var synthetic = try SyntheticNode()
        change(&synthetic)
        let registers = SyntheticMachine(synthetic)
        let reports = NodeReports()
        self.disk = disk
        self.reports = reports
        service = ClusterNode(
            machine: NodeMachine(
                evidence: { try registers.evidence($0) }, measure: { try registers.measure($0) },
                milliseconds: { registers.tick() }, time: { clock.time }, report: { reports.append($0) }),
            disk: disk)
        machine = registers
        server = try ChannelServer(
            port: 0, address: "127.0.0.1", identity: try TLSIdentity(ephemeral: "node", now: .now), service: service)
        try server.start()
        service.attested()
    }

    static let now = Instant(seconds: 1_800_000_000)

    var endpoint: OwnerClient.Endpoint { .init(host: "127.0.0.1", port: server.port) }

    /// The same machine after a restart: registers as they start, the disk as it was.
    func restarted() throws -> SoftwareNode {
        server.stop()
        return try SoftwareNode(disk: disk, ahead: clock.ahead.withLock { $0 })
    }

    deinit { server.stop() }
}

/// A node's clock, which a test moves.
final class NodeClock: Sendable {
    /// Seconds after `SoftwareNode.now`.
    let ahead: Mutex<Int64>

    init(_ ahead: Int64) { self.ahead = Mutex(ahead) }

    var time: Instant { Instant(seconds: SoftwareNode.now.seconds + ahead.withLock { $0 }) }
}

final class NodeReports: Sendable {
    private let lines = Mutex<[String]>([])
    func append(_ line: String) { lines.withLock { $0.append(line) } }
    func contains(_ text: String) -> Bool { lines.withLock { $0.contains { $0.contains(text) } } }

    /// Within two seconds: the node reports after it has answered.
    func willContain(_ text: String) -> Bool {
        for _ in 0..<200 {
            if contains(text) { return true }
            usleep(10_000)
        }
        return false
    }
}

/// An owner with a key, a cluster secret, and a manifest to judge by.
final class Owner: Sendable {
    let key: OwnerKey
    let secret: ClusterSecret
    let manifest: Manifest
    let client: OwnerClient

    init(secret: consuming ClusterSecret = ClusterSecret(), key: OwnerKey? = nil, manifest: Manifest? = nil) throws {
        let key = try key ?? OwnerKey()
        let manifest = try manifest ?? SyntheticNode.manifest()
        self.key = key
        self.manifest = manifest
        client = try OwnerClient(
            owner: key, clusterID: secret.clusterID, now: .now, patience: 30, judge: Self.judge(manifest))
        self.secret = secret
    }

    static func judge(_ manifest: Manifest) -> NodeProof.Judge {
        {
            Appraisal.judge(
                $0, nonce: $1, reference: .pinned(manifest), policy: .development, cluster: $2, at: SoftwareNode.now)
        }
    }

    var identity: ClusterIdentity {
        get throws { try ClusterIdentity(clusterID: secret.clusterID, owner: key.digest) }
    }

    func request(
        _ name: String = "control-plane-0", _ role: Membership.Role = .controlPlane, generation: Int = 0,
        peers: [PeerEndpoint] = []
    ) throws -> InitRequest {
        InitRequest(
            node: try #require(NodeName(name)), role: role, manifest: manifest.bytes, policy: .development,
            generation: generation, peers: peers)
    }

    func initialise(_ node: SoftwareNode) throws -> NodeStatus {
        try client.initialise(node.endpoint, try request(), secret)
    }
}

/// The finding that `body` throws, as an error for `#expect`.
func reason(_ body: () throws -> Void) -> String? {
    do { try body() } catch let finding as Finding { return finding.reason } catch { return "\(error)" }
    return nil
}
