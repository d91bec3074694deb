import Attestation
import Bytes
import Kubernetes

/// How far a member has come as a node of Kubernetes, by its own word.
public struct KubernetesStatus: Sendable, Equatable {
    public enum Phase: String, Sendable, CaseIterable {
        /// For a policy, or for a control plane that enrols it.
        case enrol
        /// Its services start.
        case start
        /// All of them run.
        case run
        /// The owner has revoked the node: everything is stopped.
        case revoked
    }

    public struct Stage: Sendable, Equatable {
        public let name: String
        /// When it was reached, milliseconds since the kernel started.
        public let milliseconds: Int

        public init(name: String, milliseconds: Int) {
            self.name = name
            self.milliseconds = milliseconds
        }
    }

    /// Of Kubernetes, as the image has it.
    public var version: String
    public var phase = Phase.enrol
    /// The API server says that this node is Ready.
    public var isReady = false
    public var index: NodeIndex?
    /// Why it does not go on.
    public var failure: Finding?
    /// The end of this node's certificates.
    public var notAfter: Instant?
    public private(set) var stages: [Stage] = []
    private static let maximumStages = 64

    public init(version: String) { self.version = version }

    /// Each name once: what is reached again later is no stage of the start.
    public mutating func reached(_ name: String, at milliseconds: Int) {
        guard stages.count < Self.maximumStages, !stages.contains(where: { $0.name == name }) else { return }
        stages.append(Stage(name: name, milliseconds: milliseconds))
    }

    public var json: JSON {
        .fields([
            "version": .string(version), "phase": .string(phase.rawValue), "ready": .bool(isReady),
            "index": index.map { .integer(Int128($0.number)) }, "failure": failure?.json,
            "notAfter": notAfter.map { .string("\($0)") },
            "stages": .array(
                stages.map { ["name": .string($0.name), "milliseconds": .integer(Int128($0.milliseconds))] }),
        ])
    }

    public init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        version = try fields.string("version")
        let word = try fields.string("phase")
        guard let phase = Phase(rawValue: word) else {
            throw ParseError("form", field: "\(path).phase", offset: 0, "unknown word")
        }
        self.phase = phase
        isReady = try fields.bool("ready", default: false)
        if fields.optional("index") != nil { index = try fields.nodeIndex("index") }
        if let json = fields.optional("failure") { failure = try Finding(json: json) }
        if let text = try fields.optionalString("notAfter") {
            guard let time = Instant(text) else {
                throw ParseError("form", field: "\(path).notAfter", offset: 0, "must be a time")
            }
            notAfter = time
        }
        for entry in try fields.array("stages").prefix(Self.maximumStages) {
            var part = try JSONFields(entry, path: "\(path).stages[]")
            stages.append(Stage(name: try part.string("name"), milliseconds: try part.integer("milliseconds")))
            try part.end()
        }
        try fields.end()
    }
}
