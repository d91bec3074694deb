import Attestation
import Bytes
import Cluster
import DiskFormat

/// What `nacre up` was asked for; `nil` takes what the directory has, or else the default.
public struct UpRequest: Sendable {
    public var controlPlanes: Int?
    public var workers: Int?
    public var image: String?
    public var manifest: String?
    public var bundle: String?
    public var trustRoot: String?
    public var firmware: String?
    public var memoryMiB: Int?
    public var processors: Int?
    /// Of each machine's state disk.
    public var diskMiB: Int?
    /// Which disk of each machine is its state disk.
    public var disk = DiskRule.only
    /// Takes this instead of what the probe of this host finds.
    public var acceleration: Acceleration?
    public var limits: BootWatch.Limits
    /// The debug profile may run here; noted in the cluster's document.
    public var allowsDebug: Bool
    /// What evidence is judged by, in place of what local machines are judged by otherwise.
    public var attestation: AppraisalPolicy?
    /// The directory was made for this cluster, and goes with it.
    public var madeDirectory: Bool

    public init(
        controlPlanes: Int? = nil, workers: Int? = nil, image: String? = nil, manifest: String? = nil,
        bundle: String? = nil, trustRoot: String? = nil,
        firmware: String? = nil, memoryMiB: Int? = nil, processors: Int? = nil, diskMiB: Int? = nil,
        acceleration: Acceleration? = nil,
        limits: BootWatch.Limits = .init(), allowsDebug: Bool = false, madeDirectory: Bool = false
    ) {
        self.controlPlanes = controlPlanes
        self.workers = workers
        self.image = image
        self.manifest = manifest
        self.bundle = bundle
        self.trustRoot = trustRoot
        self.firmware = firmware
        self.memoryMiB = memoryMiB
        self.processors = processors
        self.diskMiB = diskMiB
        self.acceleration = acceleration
        self.limits = limits
        self.allowsDebug = allowsDebug
        self.madeDirectory = madeDirectory
    }

    var rules: ClusterDocument.Rules { allowsDebug ? .debug : .development }
    /// What the nodes of a cluster made by this request are judged by.
    public var judging: (policy: AppraisalPolicy, name: String) { ClusterDocument.judging(attestation, rules) }

    /// What a configuration asks for.
    public init(_ config: ClusterConfig) {
        self.init(
            controlPlanes: config.controlPlanes, workers: config.workers, image: config.image,
            manifest: config.manifest, bundle: config.bundle, trustRoot: config.trustRoot, firmware: config.firmware,
            memoryMiB: config.memoryMiB, processors: config.processors, diskMiB: config.diskMiB)
        disk = config.stateDisk
    }

    public static let defaultMemoryMiB = 2048
    public static let defaultProcessors = 2
    public static let defaultDiskMiB = 30 << 10
    /// What a state disk needs at least.
    public static let minimumDiskMiB = DiskLayout.minimumSize >> 20
}

/// What happens during a command, for people.
public enum Progress: Sendable {
    /// A fact worth a line.
    case note(String)
    /// A step of one node, done at this time after its start.
    case step(node: String, name: String, time: Duration)
    /// Nothing new from this node; what it is at.
    case waiting(node: String, time: Duration)
}

/// What `nacre up` came to, node by node.
public struct UpResult: Sendable {
    public struct Node: Sendable {
        public let node: ClusterDocument.Node
        public let outcome: BootWatch.Outcome
        public let stages: [BootWatch.Stage]
    }

    public var document: ClusterDocument
    public let nodes: [Node]

    /// Every node was judged and accepted.
    public var isVerified: Bool {
        !nodes.isEmpty
            && nodes.allSatisfy { node in
                if case .judged(let verdict) = node.outcome { verdict.verdict.isAccepted } else { false }
            }
    }

    /// Some node was judged and rejected.
    public var isRejected: Bool {
        nodes.contains { node in
            if case .judged(let verdict) = node.outcome { !verdict.verdict.isAccepted } else { false }
        }
    }

    /// `nacre.up.v1`.
    public var json: JSON {
        [
            "schema": "nacre.up.v1", "clusterID": document.identity.map { .hex($0.clusterID) } ?? .null,
            // For as long as nobody owns it.
            "kubeconfig": .null,
            "nodes": .array(nodes.map(\.json)),
        ]
    }
}

extension UpResult.Node {
    /// Stages as the node itself accounts for them, else as its console showed them, then the verdict's.
    var timings: [(name: String, seconds: Double)] {
        let seen = stages.map { (name: $0.name, seconds: $0.time.seconds) }
        guard case .judged(let verdict) = outcome, !verdict.stages.isEmpty else { return seen }
        return verdict.stages.map { (name: $0.name, seconds: Double($0.milliseconds) / 1000) }
            + seen.filter { $0.name == "verified" }
    }

    var json: JSON {
        var fields: [String: JSON] = [
            "name": .string(node.name), "role": .string(node.role.rawValue), "endpoint": .string(node.endpoint),
            "stages": .array(timings.map { ["name": .string($0.name), "seconds": .double($0.seconds)] }),
        ]
        // A node that was never judged has neither a verdict nor a protection to claim.
        fields["verdict"] = .null
        fields["protection"] = .null
        switch outcome {
        case .judged(let judged):
            fields["verdict"] = judged.verdict.isAccepted ? "accept" : "reject"
            fields["protection"] = judged.protection.map { .string($0.rawValue) } ?? .null
            if !judged.verdict.isAccepted { fields["reason"] = .string(judged.verdict.reason) }
        case .failed(let finding): fields["reason"] = .string(finding.reason)
        }
        return .object(fields)
    }
}

extension Duration {
    /// Seconds with millisecond precision.
    public var seconds: Double {
        Double(components.seconds) + Double(components.attoseconds / 1_000_000_000_000_000) / 1000
    }
}
