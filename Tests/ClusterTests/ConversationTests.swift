import Attestation
import AttestedTLS
import Bytes
import Crypto
import DiskFormat
import Glibc
import SyntheticNode
import TestKit
import Testing

@testable import Cluster

@Suite("Init, status, logs and recovery between two real ends")
struct ConversationTests {
    @Test("init makes a node a member: measured once, disk formatted once, and again changes nothing")
    func initialise() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        let before = try owner.client.status(node.endpoint)
        #expect(before.phase == .wait && before.membership == nil && before.disk == "blank")
        let status = try owner.initialise(node)
        #expect(status.phase == .run && status.way == .initialise)
        #expect(status.membership?.identity == (try owner.identity))
        #expect(status.timings.map(\.phase) == [.attest, .wait, .keys, .disk, .measure, .run])
        #expect(try owner.initialise(node) == status)
        #expect(node.machine.clusters == 1)
        #expect(node.disk.state.withLock { $0.formats } == 1)
        // What it keeps for itself lies on the open disk, and only there.
        #expect(node.disk.state.withLock { $0.files.keys.sorted() } == ["cluster-secret", "membership.json"])
        #expect(node.disk.state.withLock { $0.settled } == 1)
    }

    @Test("evidence of a member convinces who expects this cluster, and nobody who expects another or none")
    func evidence() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        _ = try owner.initialise(node)
        let nonce = randomBytes(32)
        let evidence = try node.machine.evidence(nonce)
        let identity = try owner.identity
        let other = try ClusterIdentity(clusterID: randomBytes(32), owner: identity.owner)
        let stranger = try ClusterIdentity(clusterID: identity.clusterID, owner: randomBytes(32))
        let judge = Owner.judge(owner.manifest)
        func reason(_ evidence: Evidence, _ cluster: ClusterExpectation) -> String {
            judge(evidence, nonce, cluster).verdict.reason
        }
        for accepted in [
            ClusterExpectation.unspecified, .member(identity), .noneOr(identity), .cluster(identity.clusterID),
        ] { #expect(reason(evidence, accepted) == "ok", "\(accepted)") }
        #expect(judge(evidence, nonce, .unspecified).verdict.unchecked.contains { $0.hasPrefix("cluster: ") })
        #expect(!judge(evidence, nonce, .member(identity)).verdict.unchecked.contains { $0.hasPrefix("cluster") })
        #expect(reason(evidence, .none) == "cluster-initialised")
        #expect(reason(evidence, .member(other)) == "cluster-other")
        #expect(reason(evidence, .member(stranger)) == "cluster-other-owner")
        #expect(reason(evidence, .cluster(other.clusterID)) == "cluster-other")
        // Its word alone is worth nothing: the register must agree.
        for lie in [nil, other, stranger] {
            var lying = evidence
            lying.cluster = lie
            #expect(reason(lying, .unspecified) == "register-mismatch")
        }
        let blank = try SoftwareNode().machine.evidence(nonce)
        #expect(reason(blank, .member(identity)) == "cluster-missing")
        #expect(reason(blank, .none) == "ok" && reason(blank, .noneOr(identity)) == "ok")
        // A policy that leaves the register out cannot say who a node belongs to.
        var policy = AppraisalPolicy.development
        policy.registers = [4, 11]
        let blind = Appraisal.judge(
            evidence, nonce: nonce, reference: .pinned(owner.manifest), policy: policy, cluster: .member(identity),
            at: SoftwareNode.now)
        #expect(blind.verdict.reason == "register-missing")
        let read = try Evidence(parsing: Array(evidence.json.compact.utf8))
        #expect(read == evidence)
    }

    @Test("a second owner, another cluster, another name are refused with reasons that both sides know")
    func secondOwner() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        _ = try owner.initialise(node)
        let thief = try Owner(secret: owner.secret.copy())
        // The thief's own judgement refuses first; a thief without judgement is refused by the node.
        #expect(reason { _ = try thief.initialise(node) } == "cluster-other-owner")
        let judge = Owner.judge(thief.manifest)
        let careless = try OwnerClient(owner: thief.key, clusterID: thief.secret.clusterID, now: .now) {
            evidence, nonce, _ in judge(evidence, nonce, .unspecified)
        }
        #expect(reason { _ = try careless.status(node.endpoint) } == "cluster-other-owner")
        #expect(node.reports.willContain("cluster-other-owner"))
        #expect(reason { try careless.logs(node.endpoint) { _ in } } == "cluster-other-owner")
        let stranger = try Owner()
        #expect(reason { _ = try stranger.initialise(node) } == "cluster-other")
        #expect(
            reason { _ = try owner.client.initialise(node.endpoint, try owner.request("other"), owner.secret) }
                == "cluster-other-node")
        #expect(node.machine.clusters == 1)
    }

    @Test("a secret that is not the cluster's is refused before anything is formatted or measured")
    func wrongSecret() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        let other = ClusterSecret()
        #expect(
            reason { _ = try owner.client.initialise(node.endpoint, try owner.request(), other) } == "cluster-secret")
        #expect(node.machine.clusters == 0 && node.disk.state.withLock { $0.formats } == 0)
        #expect(try owner.initialise(node).phase == .run)
    }

    @Test("a node of another image gets no proof, no secret")
    func otherImage() throws {
        let node = try SoftwareNode { node in node.events[8].data += [1] }
        let owner = try Owner()
        #expect(reason { _ = try owner.initialise(node) } == "register-mismatch")
        #expect(node.reports.willContain("register-mismatch"))
        #expect(node.service.status.phase == .wait)
    }

    @Test("an owner that is cut off at any message finds the node ready or done", arguments: 0..<5)
    func killedClient(step: Int) throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        try Self.begin(step, owner, node)
        var status: NodeStatus?
        for _ in 0..<200 where status == nil {
            do { status = try owner.initialise(node) } catch let finding as Finding {
                try #require(finding.family == "busy", "\(finding)")
                usleep(20_000)
            }
        }
        #expect(status?.phase == .run)
        #expect(node.machine.clusters == 1 && node.disk.state.withLock { $0.formats } == 1)
    }

    /// The owner's side of init, ended without a word after `steps` messages.
    static func begin(_ steps: Int, _ owner: Owner, _ node: SoftwareNode) throws {
        let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "owner", now: .now))
        let key = owner.key
        let connection = try client.connect(
            "127.0.0.1", port: node.server.port,
            hello: try Hello(purpose: "init", clusterID: owner.secret.clusterID), deadline: .seconds(30),
            judge: { (_, _) throws(ChannelRefusal) in },
            prove: { (session, _) throws(ChannelRefusal) in
                Array(((try? key.prove(session.ownBinding))?.json.compact ?? "").utf8)
            }
        ).connection
        defer { connection.close() }
        if steps == 0 { return }
        try connection.send(Array(try owner.request().json.compact.utf8), deadline: .seconds(30))
        if steps == 1 { return }
        _ = try connection.receive(deadline: .seconds(30))
        if steps == 2 { return }
        try connection.send(owner.secret.packed, deadline: .seconds(30))
        if steps == 3 { return }
        _ = try connection.receive(deadline: .seconds(30))
    }

    @Test("a node killed in the middle of its first boot starts over and keeps its disk")
    func killedNode() throws {
        let first = try SoftwareNode()
        let owner = try Owner()
        _ = try owner.initialise(first)
        let second = try first.restarted()
        #expect(second.machine.clusters == 0)
        let status = try owner.initialise(second)
        #expect(status.phase == .run && second.machine.clusters == 1)
        #expect(second.disk.state.withLock { $0.formats } == 1)
        // Another owner cannot take the restarted machine's disk.
        let third = try second.restarted()
        let stranger = try Owner()
        #expect(reason { _ = try stranger.initialise(third) } == "disk-other-cluster")
        #expect(third.machine.clusters == 0 && third.service.status.phase == .wait)
    }

    @Test("a disk that fails leaves the node waiting and unmeasured; a register that fails, for good")
    func failures() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        node.disk.state.withLock { $0.fault = Finding("disk-ambiguous", claim: "state disk", actual: "vda, vdb") }
        #expect(reason { _ = try owner.initialise(node) } == "disk-ambiguous")
        #expect(node.machine.clusters == 0)
        #expect(try owner.client.status(node.endpoint).failure?.actual == "vda, vdb")
        node.machine.breakTPM()
        #expect(reason { _ = try owner.initialise(node) } == "register-measure")
        #expect(node.service.status.phase == .failed)
        #expect(reason { _ = try owner.initialise(node) } == "node-failed")
    }

    @Test("of many owners at once exactly one wins, and the others are told why")
    func race() async throws {
        let node = try SoftwareNode()
        let reasons = try await withThrowingTaskGroup(of: String.self) { group in
            for _ in 0..<6 {
                group.addTask {
                    try await onThread {
                        Result {
                            let owner = try Owner()
                            return reason { _ = try owner.initialise(node) } ?? "ok"
                        }
                    }.get()
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(reasons.count { $0 == "ok" } == 1, "\(reasons)")
        // Whoever came before the winner was done is told at the hello, whoever came during it at the proof.
        let told: Set = ["ok", "busy-claimed", "cluster-other", "cluster-other-owner"]
        #expect(reasons.allSatisfy(told.contains), "\(reasons)")
        #expect(node.machine.clusters == 1 && node.disk.state.withLock { $0.formats } == 1)
    }

    @Test("what strangers send cannot fill the log, forge its lines, or keep it from its owner")
    func strangersInTheLog() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        _ = try owner.initialise(node)
        for _ in 0..<40 {
            node.service.failed(
                .refused(reason: "parse-form", explanation: "a\nforged" + String(repeating: "\u{301}", count: 50_000)),
                nil)
        }
        var lines: [String] = []
        try owner.client.logs(node.endpoint) { lines += $0 }
        #expect(lines.count { $0.contains("parse-form") } == 40)
        #expect(
            lines.allSatisfy { line in
                line.utf8.count <= 1100 && !line.unicodeScalars.contains { $0.value < 0x20 }
            })
    }

    @Test("a disk's key is exchanged in use: once, again without harm, and never out of order")
    func rekey() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        let name = try #require(NodeName("control-plane-0"))
        #expect(reason { _ = try owner.client.rekey(node.endpoint, node: name, epoch: 2, owner.secret) } != nil)
        let before = try owner.initialise(node)
        #expect(before.epoch == 1)
        let first = node.disk.state.withLock { $0.key }
        let after = try owner.client.rekey(node.endpoint, node: name, epoch: 2, owner.secret)
        #expect(after.epoch == 2 && after.generation == (before.generation ?? 0) + 1)
        let second = node.disk.state.withLock { $0.key }
        #expect(second == owner.secret.diskKey(node: name, epoch: 2).published && second != first)
        // The answer was lost, or the owner's directory is an old copy.
        #expect(try owner.client.rekey(node.endpoint, node: name, epoch: 2, owner.secret) == after)
        for epoch in [4, 1 << 30] {
            #expect(
                reason { _ = try owner.client.rekey(node.endpoint, node: name, epoch: epoch, owner.secret) }
                    == "disk-epoch")
        }
        #expect(reason { _ = try Owner().client.rekey(node.endpoint, node: name, epoch: 3, owner.secret) } != nil)
        #expect(node.disk.state.withLock { $0.key } == second)
        // After a restart the disk says which key it wants.
        let restarted = try node.restarted()
        let status = try owner.client.recover(restarted.endpoint) {
            owner.secret.diskKey(node: $0.node, epoch: $0.epoch)
        }
        #expect(status.phase == .run && status.epoch == 2)
    }

    @Test("a worker is sent the two keys of its own disk, and nobody else's")
    func rekeyWorker() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        let name = try #require(NodeName("worker-0"))
        _ = try owner.client.initialise(node.endpoint, try owner.request("worker-0", .worker), owner.secret)
        let other = try #require(NodeName("worker-1"))
        #expect(
            reason { _ = try owner.client.rekey(node.endpoint, node: other, epoch: 2, owner.secret) }
                == "disk-other-node")
        let status = try owner.client.rekey(node.endpoint, node: name, epoch: 2, owner.secret)
        #expect(status.epoch == 2)
        #expect(
            node.disk.state.withLock { $0.key } == owner.secret.diskKey(node: name, epoch: 2).published)
    }

    @Test("the log goes to the owner of a member and to nobody before")
    func logs() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        #expect(reason { try owner.client.logs(node.endpoint) { _ in } } == "cluster-missing")
        _ = try owner.initialise(node)
        var lines: [String] = []
        try owner.client.logs(node.endpoint) { lines += $0 }
        #expect(lines.contains { $0.contains("in cluster") })
        let packed = Hex.encode(owner.secret.packed.published.prefix(32))
        #expect(!lines.contains { $0.contains(packed) })
    }

    @Test("recover gives the key of the disk that asks, and the node finds everything else on it")
    func recover() throws {
        let first = try SoftwareNode()
        let owner = try Owner()
        _ = try owner.initialise(first)
        let node = try first.restarted()
        #expect(node.service.status.disk.hasPrefix("closed"))
        let secret = owner.secret.copy()
        var asked: [DiskBinding] = []
        let status = try owner.client.recover(node.endpoint) { claim in
            asked.append(claim)
            return secret.diskKey(node: claim.node, epoch: claim.epoch)
        }
        #expect(asked.map(\.node.description) == ["control-plane-0"])
        #expect(status.phase == .run && status.way == .recover && node.machine.clusters == 1)
        #expect(status.membership?.identity == (try owner.identity))
        #expect(node.service.held.withLock { $0.secret?.clusterID } == owner.secret.clusterID)
        // Again: nothing to do, no key asked for.
        _ = try owner.client.recover(node.endpoint) { _ throws(Finding) in throw Finding("asked", claim: "again") }
    }

    @Test("recovery with a wrong key, by a wrong owner or of a blank node comes to nothing")
    func wrongRecovery() throws {
        let first = try SoftwareNode()
        let owner = try Owner()
        _ = try owner.initialise(first)
        let node = try first.restarted()
        #expect(reason { _ = try owner.client.recover(node.endpoint) { _ in Secret(random: 32) } } == "disk-key")
        let secret = owner.secret.copy()
        let thief = try Owner(secret: owner.secret.copy())
        #expect(
            reason {
                _ = try thief.client.recover(node.endpoint) { secret.diskKey(node: $0.node, epoch: $0.epoch) }
            } == "cluster-other-owner")
        #expect(node.machine.clusters == 0 && !node.disk.state.withLock { $0.isOpen })
        let stranger = try Owner()
        #expect(
            reason { _ = try stranger.client.recover(node.endpoint) { _ in Secret(random: 32) } }
                == "disk-other-cluster")
        let blank = try SoftwareNode()
        #expect(reason { _ = try owner.client.recover(blank.endpoint) { _ in Secret(random: 32) } } == "disk-missing")
        // The owner refuses too, and the node waits again.
        #expect(
            reason {
                _ = try owner.client.recover(node.endpoint) { claim throws(Finding) in
                    throw Finding("policy-node", claim: "\(claim.node)")
                }
            } == "policy-node")
        #expect(node.reports.willContain("waiting again"))
    }

    @Test("a restarted worker gets its key from a control plane without its owner, both ends proved")
    func rejoin() throws {
        let owner = try Owner()
        let plane = try SoftwareNode()
        _ = try owner.initialise(plane)
        let first = try SoftwareNode()
        let made = try owner.client.initialise(first.endpoint, try owner.request("worker-0", .worker), owner.secret)
        #expect(made.membership?.role == .worker)
        // A worker's disk never saw the cluster's secret.
        #expect(first.disk.state.withLock { $0.files.keys.sorted() } == ["membership.json"])
        let worker = try first.restarted()
        let status = try worker.service.rejoin(plane.endpoint)
        #expect(status.phase == .run && status.way == .rejoin && status.membership == made.membership)
        #expect(worker.machine.clusters == 1)
        #expect(plane.reports.willContain("gave worker-0 the key"))
        // Nobody gets keys from a worker, a blank node, or a control plane of another cluster.
        let again = try worker.restarted()
        let other = try SoftwareNode()
        _ = try Owner().initialise(other)
        let blank = try SoftwareNode()
        #expect(reason { _ = try again.service.rejoin(blank.endpoint) } == "policy-role")
        #expect(reason { _ = try again.service.rejoin(other.endpoint) } == "cluster-other")
        #expect(again.machine.clusters == 0)
        _ = try again.service.rejoin(plane.endpoint)
    }

    @Test("a rejoining node of another image gets no key, and a control plane of another image no request")
    func rejoinOtherImage() throws {
        let owner = try Owner()
        let plane = try SoftwareNode()
        _ = try owner.initialise(plane)
        let first = try SoftwareNode()
        _ = try owner.client.initialise(first.endpoint, try owner.request("worker-0", .worker), owner.secret)
        let changed = try SoftwareNode(disk: first.disk) { node in node.events[8].data += [1] }
        #expect(reason { _ = try changed.service.rejoin(plane.endpoint) } == "register-mismatch")
        #expect(plane.reports.willContain("register-mismatch"))
        // The control plane is another image now, which a careless owner has let in.
        plane.server.stop()
        let other = try SoftwareNode(disk: plane.disk) { node in node.events[8].data += [2] }
        let careless = try OwnerClient(owner: owner.key, clusterID: owner.secret.clusterID, now: .now) {
            evidence, nonce, cluster in
            var events = SyntheticNode.events
            events[8].data += [2]
            guard let manifest = try? SyntheticNode.manifest(events: events) else {
                return Owner.judge(owner.manifest)(evidence, nonce, cluster)
            }
            return Owner.judge(manifest)(evidence, nonce, cluster)
        }
        let secret = owner.secret.copy()
        _ = try careless.recover(other.endpoint) { secret.diskKey(node: $0.node, epoch: $0.epoch) }
        let worker = try first.restarted()
        let before = worker.disk.state.withLock { $0.claim?.generation }
        #expect(reason { _ = try worker.service.rejoin(other.endpoint) } == "register-mismatch")
        // It was opened with the right key, and closed again before anything was measured.
        #expect(worker.disk.state.withLock { $0.claim?.generation } == before.map { $0 + 1 })
        #expect(!worker.disk.state.withLock { $0.isOpen } && worker.machine.clusters == 0)
        #expect(worker.service.status.phase == .wait)
    }

    @Test("without a disk a node becomes no member, and says why")
    func withoutDisk() throws {
        let node = try SoftwareNode()
        let owner = try Owner()
        node.disk.state.withLock { $0.hasNone = true }
        #expect(reason { _ = try owner.initialise(node) } == "disk-none")
        #expect(node.machine.clusters == 0 && node.service.status.phase == .wait)
    }
}
