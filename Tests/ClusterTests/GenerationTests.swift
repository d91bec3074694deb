import Bytes
import Crypto
import DiskFormat
import Glibc
import Synchronization
import TestKit
import Testing

@testable import Cluster

@Suite("Who remembers which opening of a disk, and whom a restarted node asks")
struct GenerationTests {
    /// A control plane and a worker that know of each other.
    private struct Pair {
        let owner: Owner
        let plane: SoftwareNode
        let worker: SoftwareNode

        init() throws {
            owner = try Owner()
            plane = try SoftwareNode()
            _ = try owner.initialise(plane)
            worker = try SoftwareNode()
            let request = try owner.request("worker-0", .worker, peers: [plane.endpoint])
            _ = try owner.client.initialise(worker.endpoint, request, owner.secret)
        }
    }

    private let worker = NodeName("worker-0")

    @Test("each rejoining is one opening more, and the control plane keeps the number on its disk")
    func counted() throws {
        let pair = try Pair()
        let name = try #require(worker)
        var node = pair.worker
        for generation in 2...4 {
            node = try node.restarted()
            #expect(try node.service.rejoin(pair.plane.endpoint).generation == generation)
            #expect(pair.plane.service.held.withLock { $0.generations[name] } == generation)
        }
        let kept = try #require(pair.plane.disk.state.withLock { $0.files[DiskGenerations.file] })
        #expect(try DiskGenerations(parsing: kept)[name] == 4)
        // It is read again after a restart.
        let plane = try pair.plane.restarted()
        let secret = pair.owner.secret.copy()
        _ = try pair.owner.client.recover(plane.endpoint) { secret.diskKey(node: $0.node, epoch: $0.epoch) }
        #expect(plane.service.held.withLock { $0.generations[name] } == 4)
    }

    @Test("an older copy, and the original after a copy was opened elsewhere, are refused and told why")
    func rollback() throws {
        let pair = try Pair()
        let copy = pair.worker.disk.copy()
        var node = try pair.worker.restarted()
        for _ in 0..<2 {
            _ = try node.service.rejoin(pair.plane.endpoint)
            node = try node.restarted()
        }
        let old = try SoftwareNode(disk: copy)
        #expect(reason { _ = try old.service.rejoin(pair.plane.endpoint) } == "disk-rollback")
        #expect(pair.plane.reports.willContain("disk-rollback"))
        #expect(old.machine.clusters == 0 && old.service.status.phase == .wait)
        #expect(old.service.status.failure?.reason == "disk-rollback")
        // The current one still opens.
        #expect(try node.service.rejoin(pair.plane.endpoint).phase == .run)
    }

    @Test("an owner that remembers more than the disk shows gives no key; one that remembers is believed by the node")
    func owner() throws {
        let pair = try Pair()
        let node = try pair.worker.restarted()
        let secret = pair.owner.secret.copy()
        let client = pair.owner.client
        func recover(_ generation: Int) -> String? {
            reason {
                _ = try client.recover(node.endpoint, generation: generation) {
                    secret.diskKey(node: $0.node, epoch: $0.epoch)
                }
            }
        }
        #expect(recover(2) == "disk-rollback")
        #expect(node.machine.clusters == 0)
        #expect(recover(1) == nil)
        #expect(node.service.status.generation == 2)
    }

    @Test("a node that does not hear that its opening is remembered closes its disk again")
    func unconfirmed() throws {
        let pair = try Pair()
        pair.plane.disk.state.withLock { $0.isReadOnly = true }
        let node = try pair.worker.restarted()
        #expect(reason { _ = try node.service.rejoin(pair.plane.endpoint) } == "disk-io")
        #expect(node.machine.clusters == 0 && !node.disk.state.withLock { $0.isOpen })
        pair.plane.disk.state.withLock { $0.isReadOnly = false }
        #expect(try node.service.rejoin(pair.plane.endpoint).phase == .run)
    }

    @Test("a restarted node asks the peers of its disk in turn until one has the key")
    func seeking() throws {
        let pair = try Pair()
        let blank = try SoftwareNode()
        try pair.worker.disk.keepHints([blank.endpoint, pair.plane.endpoint])
        let node = try pair.worker.restarted()
        let pauses = Mutex(0)
        node.service.seekPeers { _ in pauses.withLock { $0 += 1 } }
        #expect(node.service.status.phase == .run && node.service.status.way == .rejoin)
        #expect(node.reports.willContain("policy-role"))
        #expect(pauses.withLock { $0 } == 0)
    }

    @Test("while it asks in vain its owner can recover it, and then it stops asking")
    func seekingInVain() throws {
        let pair = try Pair()
        // Nobody listens there.
        try pair.worker.disk.keepHints([PeerEndpoint(host: "127.0.0.1", port: 1)])
        let node = try pair.worker.restarted()
        let secret = pair.owner.secret.copy()
        let client = pair.owner.client
        let rounds = Mutex(0)
        node.service.seekPeers { _ in
            let round = rounds.withLock { rounds in
                rounds += 1
                return rounds
            }
            guard round == 2 else { return }
            #expect(node.service.status.failure?.family == "connection")
            #expect(
                reason {
                    _ = try client.recover(node.endpoint) { secret.diskKey(node: $0.node, epoch: $0.epoch) }
                } == nil)
        }
        #expect(node.service.status.way == .recover && rounds.withLock { $0 } == 2)
    }

    @Test("init of a member tells it again where the others are, on both places of its disk")
    func peersUpdated() throws {
        let pair = try Pair()
        let peers = [PeerEndpoint(host: "10.0.2.2", port: 1), PeerEndpoint(host: "fd00::1", port: 2)]
        let request = try pair.owner.request("worker-0", .worker, peers: peers)
        #expect(try pair.owner.client.initialise(pair.worker.endpoint, request, pair.owner.secret).phase == .run)
        #expect(pair.worker.disk.hints() == peers)
        let kept = try #require(pair.worker.disk.state.withLock { $0.files[KeptMembership.file] })
        #expect(try KeptMembership(parsing: kept).peers == peers)
        #expect(pair.worker.machine.clusters == 1)
    }
}
