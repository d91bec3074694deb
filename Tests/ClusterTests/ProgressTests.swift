import Attestation
import AttestedTLS
import Bytes
import DiskFormat
import Testing

@testable import Cluster

@Suite("The way of a node into a cluster")
struct ProgressTests {
    static func membership(
        cluster: UInt8 = 1, owner: UInt8 = 2, node: String = "control-plane-0",
        role: Membership.Role = .controlPlane
    ) throws -> Membership {
        Membership(
            identity: try ClusterIdentity(
                clusterID: [UInt8](repeating: cluster, count: 32), owner: [UInt8](repeating: owner, count: 32)),
            node: try #require(NodeName(node)), role: role)
    }

    static let finding = Finding("disk-ambiguous", claim: "state disk")

    /// Every event there is.
    static func events() throws -> [(name: String, event: NodeProgress.Event)] {
        [
            ("attested", .attested), ("claim", .claim(.initialise, try membership())), ("received", .received),
            ("opened", .opened(.controlPlane)), ("measured", .measured), ("dropped", .dropped(finding)),
            ("broken", .broken(finding)),
        ]
    }

    /// A node in `phase`, by the shortest way.
    static func node(in phase: NodePhase) throws -> NodeProgress {
        var progress = NodeProgress(at: 0)
        if phase == .failed {
            try progress.apply(.broken(finding), at: 1)
            return progress
        }
        let way = try events().prefix(5)
        for (index, step) in way.enumerated() {
            if progress.phase == phase { break }
            try progress.apply(step.event, at: index + 1)
        }
        return progress
    }

    /// Phase → event → where it leads; what is not listed is refused and changes nothing.
    static let table: [NodePhase: [String: NodePhase]] = [
        .attest: ["attested": .wait, "broken": .failed],
        .wait: ["claim": .keys, "broken": .failed],
        .keys: ["received": .disk, "dropped": .wait, "broken": .failed],
        .disk: ["opened": .measure, "dropped": .wait, "broken": .failed],
        .measure: ["measured": .run, "broken": .failed],
        .run: ["claim": .run, "broken": .failed],
        .failed: ["broken": .failed],
    ]

    @Test("follows its table, event by event, and nothing else", arguments: NodePhase.allCases)
    func table(phase: NodePhase) throws {
        for (name, event) in try Self.events() {
            var progress = try Self.node(in: phase)
            try #require(progress.phase == phase)
            let before = progress
            if let next = Self.table[phase]?[name] {
                try progress.apply(event, at: 100)
                #expect(progress.phase == next, "\(phase.rawValue) \(name)")
            } else {
                #expect(throws: ChannelRefusal.self, "\(phase.rawValue) \(name)") { try progress.apply(event, at: 100) }
                #expect(progress == before)
            }
        }
    }

    @Test("a claim under way is refused to everybody else as busy", arguments: [NodePhase.keys, .disk, .measure])
    func busy(phase: NodePhase) throws {
        for way in KeyWay.allCases {
            var progress = try Self.node(in: phase)
            let claim = NodeProgress.Event.claim(way, try Self.membership(cluster: 9))
            let refusal = #expect(throws: ChannelRefusal.self) { try progress.apply(claim, at: 9) }
            #expect(refusal?.reason == "busy-claimed")
        }
    }

    @Test("once it runs, the same membership is welcome and any other is told which part differs")
    func second() throws {
        var progress = try Self.node(in: .run)
        #expect(try progress.apply(.claim(.initialise, try Self.membership()), at: 9) == .already)
        for (other, reason) in [
            (try Self.membership(cluster: 9), "cluster-other"), (try Self.membership(owner: 9), "cluster-other-owner"),
            (try Self.membership(node: "x"), "cluster-other-node"),
            (try Self.membership(role: .worker), "cluster-other-role"),
        ] {
            let refusal = #expect(throws: ChannelRefusal.self) {
                try progress.apply(.claim(.initialise, other), at: 9)
            }
            #expect(refusal?.reason == reason)
        }
    }

    @Test("what was dropped is forgotten but for its reason, and another may come")
    func dropped() throws {
        var progress = try Self.node(in: .disk)
        try progress.apply(.dropped(Self.finding), at: 9)
        #expect(progress.membership == nil && progress.way == nil && progress.failure == Self.finding)
        try progress.apply(.claim(.join, try Self.membership(cluster: 7)), at: 10)
        #expect(progress.failure == nil && progress.way == .join)
    }

    @Test("the disk decides on the role")
    func role() throws {
        var progress = try Self.node(in: .disk)
        try progress.apply(.opened(.worker), at: 9)
        #expect(progress.membership?.role == .worker)
    }

    @Test("timings name every phase in order, and their number is bounded")
    func timings() throws {
        var progress = try Self.node(in: .run)
        #expect(progress.timings.map(\.phase) == [.attest, .wait, .keys, .disk, .measure, .run])
        #expect(progress.timings.map(\.milliseconds) == [0, 1, 2, 3, 4, 5])
        progress = try Self.node(in: .wait)
        for round in 0..<1000 {
            try progress.apply(.claim(.initialise, try Self.membership()), at: round)
            try progress.apply(.dropped(Self.finding), at: round)
        }
        #expect(progress.timings.count <= 64 && progress.timings.first?.phase == .attest)
    }
}
