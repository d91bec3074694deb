import AttestedTLS
import Bytes
import CTSS2SoftwareTPM
import Crypto
import Manifest
import NodeService
import SyntheticNode
import TPMDevice
import TestKit
import Testing

@testable import Attestation
@testable import Cluster

/// A node whose registers are a real (software) TPM's, extended as the synthetic boot extends them: everything between
/// the channel and `Esys_Quote` is what a node runs.
private final class TPMNode {
    private let tpm: SoftwareTPM
    private let folder: TemporaryFolder
    let source: EvidenceSource
    let disk: MemoryDisk
    let service: ClusterNode
    let server: ChannelServer<ClusterNode>

    init?(disk: MemoryDisk = MemoryDisk()) throws {
        guard let tpm = try SoftwareTPM(banks: "sha256,sha384") else { return nil }
        self.tpm = tpm
        folder = try TemporaryFolder()
        let boot = try SyntheticNode()
        let settings = "host=127.0.0.1,port=\(tpm.port)"
        let device = try unsafe TPMDevice("open swtpm") { unsafe Tss2_Tcti_Swtpm_Init($0, $1, settings) }
        for event in boot.events where event.phase == nil {
            _ = try device.extend(register: event.register, with: event.data)
        }
        var paths = EvidenceSource.Paths()
        paths.firmwareLog = try folder.file("firmware", boot.eventLog)
        paths.bootID = try folder.file("boot_id", "00112233-4455-6677-8899-aabbccddeeff\n")
        paths.userspaceLog = "\(folder.path)/run/log/systemd/tpm2-measure.log"
        let source = EvidenceSource(
            platform: DetectedPlatform(platform: .tpm, interface: nil), tpm: device, paths: paths)
        for event in boot.events { if let phase = event.phase { _ = try source.measure(phase: phase) } }
        _ = try source.createKey()
        self.source = source
        self.disk = disk
        service = ClusterNode(
            machine: NodeMachine(
                evidence: { try source.evidence(nonce: $0) }, measure: { _ = try source.measure(cluster: $0) },
                milliseconds: { 0 }, time: { SoftwareNode.now }, report: { _ in }), disk: disk)
        server = try ChannelServer(
            port: 0, address: "127.0.0.1", identity: try TLSIdentity(ephemeral: "node", now: .now), service: service)
        try server.start()
        service.attested()
    }

    var endpoint: OwnerClient.Endpoint { .init(host: "127.0.0.1", port: server.port) }

    deinit { server.stop() }
}

@Suite("Nodes with a software TPM at both ends")
struct SoftwareTPMTests {
    @Test("init, register 15 as predicted, a second owner refused, and a worker that rejoins")
    func both() throws {
        guard let plane = try TPMNode(), let first = try TPMNode() else { return }
        let owner = try Owner()
        #expect(try owner.client.initialise(plane.endpoint, owner.request(), owner.secret).phase == .run)
        #expect(try owner.client.initialise(plane.endpoint, owner.request(), owner.secret).phase == .run)
        let identity = try owner.identity
        let registers = try #require(try plane.source.evidence(nonce: randomBytes(32)).tpm?.registers)
        for bank in [HashAlgorithm.sha256, .sha384] {
            let zeros = [UInt8](repeating: 0, count: bank.size)
            #expect(registers[bank]?[15] == bank.hash(zeros + bank.hash(Array(identity.event.utf8))))
        }
        // The TPM itself keeps a node from being two clusters'.
        let other = try ClusterIdentity(clusterID: randomBytes(32), owner: identity.owner)
        #expect(throws: EvidenceError.self) { try plane.source.measure(cluster: other) }
        #expect(try plane.source.measure(cluster: identity) == [])
        let stranger = try Owner()
        #expect(
            reason { _ = try stranger.client.initialise(plane.endpoint, stranger.request(), stranger.secret) }
                == "cluster-other")

        _ = try owner.client.initialise(first.endpoint, owner.request("worker-0", .worker), owner.secret)
        guard let worker = try TPMNode(disk: first.disk) else { return }
        let status = try worker.service.rejoin(plane.endpoint)
        #expect(status.phase == .run && status.membership?.node.description == "worker-0")
        #expect(try worker.source.evidence(nonce: randomBytes(32)).cluster == identity)
    }
}
