import Attestation
import Bytes

/// What protects a node's memory and keys from the host that runs it, as its judged evidence shows.
public enum Protection: String, Sendable {
    /// A TPM that the host itself provides: proves nothing against this host.
    case noneLocalTPM = "none-local-tpm"
    case snp = "sev-snp"
    case tdx
    /// A test product's own root, named by the policy.
    case simulated
}

/// A node's evidence, judged.
public struct NodeVerdict: Sendable {
    public let verdict: Verdict
    /// `nil` for rejected evidence, whose claims mean nothing.
    public let protection: Protection?
    public let imageDigest: [UInt8]?
    /// The node's own account of its boot.
    public let stages: [BootStage]

    public init(verdict: Verdict, protection: Protection?, imageDigest: [UInt8]?, stages: [BootStage]) {
        self.verdict = verdict
        self.protection = protection
        self.imageDigest = imageDigest
        self.stages = stages
    }
}

/// What came of asking a node once for evidence.
public enum NodeAnswer: Sendable {
    /// Nobody answers there yet, or not in a way that can be judged; in words.
    case silent(String)
    case judged(NodeVerdict)
}

/// The way of one machine from its start to a verdict: a value that takes events and says when it is over.
public struct BootWatch: Sendable {
    public struct Limits: Sendable {
        /// From start to verdict.
        public var time: Duration
        /// Resets by the guest itself. One is usual (firmware that changes its own settings); a node that fails resets
        /// for ever.
        public var resets: Int

        public init(time: Duration = .seconds(600), resets: Int = 2) {
            self.time = time
            self.resets = resets
        }
    }

    public enum Event: Sendable {
        case console(ConsoleEvent)
        case guestReset
        /// QEMU is gone; in words.
        case ended(String)
        case answer(NodeAnswer)
        case tick
    }

    public enum Outcome: Sendable {
        case judged(NodeVerdict)
        case failed(Finding)
    }

    /// A step that was seen, and when, counted from the machine's start on this host's clock.
    public struct Stage: Equatable, Sendable {
        public let name: String
        public let time: Duration
    }

    private let node: String
    private let limits: Limits
    private let begin: Duration
    public private(set) var stages: [Stage] = []
    public private(set) var resets = 0
    public private(set) var outcome: Outcome?
    private var lastFailure: String?
    private var lastSilence: String?
    private var saysReady: Bool
    private var lastQuestion: Duration?

    /// - Parameter resumedAfter: for a machine that runs already, how long it has: its endpoint is asked at once, and
    ///   the time limit counts from now.
    public init(node: String, limits: Limits = Limits(), resumedAfter: Duration? = nil) {
        self.node = node
        self.limits = limits
        begin = resumedAfter ?? .zero
        saysReady = resumedAfter != nil
    }

    /// Takes one event, `time` after the machine's start. Nothing changes once there is an outcome.
    public mutating func apply(_ event: Event, at time: Duration) {
        guard outcome == nil else { return }
        switch event {
        case .console(let line): apply(line, at: time)
        case .guestReset:
            resets += 1
            saysReady = false
            note("reset-\(resets)", time)
            if resets > limits.resets {
                fail("local-reboots", expected: "to stay up", actual: "\(resets) resets by the guest itself")
            }
        case .ended(let how): fail("local-ended", expected: "a machine that runs", actual: how)
        case .answer(.silent(let why)):
            lastSilence = why
            lastQuestion = time
        case .answer(.judged(let verdict)):
            note("verified", time)
            outcome = .judged(verdict)
        case .tick: break
        }
        if outcome == nil, time - begin >= limits.time {
            fail("local-timeout", expected: "evidence within \(limits.time.components.seconds) s", actual: situation)
        }
    }

    private mutating func apply(_ event: ConsoleEvent, at time: Duration) {
        switch event {
        case .firmware: note("firmware", time)
        case .kernel: note("kernel", time)
        case .stages(let list):
            for stage in list { note(stage.name, time) }
            saysReady = true
        case .nothingToBoot:
            fail("local-boot", expected: "the firmware to boot the image", actual: "it found nothing to boot")
        case .failure(let line): lastFailure = line
        }
    }

    /// Given up because it resets again and again.
    public var isRebooting: Bool {
        if case .failed = outcome { resets > limits.resets } else { false }
    }

    /// Whether the endpoint should be asked now: often once the console says that the node is ready, seldom before,
    /// because the console is only the guest's word and may be silent.
    public func shouldAsk(at time: Duration) -> Bool {
        guard outcome == nil else { return false }
        guard let lastQuestion else { return saysReady || time >= .seconds(30) }
        return time - lastQuestion >= (saysReady ? .milliseconds(500) : .seconds(10))
    }

    /// How long an answer may take. Before the node is ready nothing answers, and nothing else is seen meanwhile.
    public var questionPatience: Duration { saysReady ? .seconds(30) : .seconds(5) }

    private mutating func note(_ name: String, _ time: Duration) {
        if !stages.contains(where: { $0.name == name }), stages.count < 64 {
            stages.append(Stage(name: name, time: time))
        }
    }

    private var situation: String {
        var words = stages.last.map { "it got as far as \($0.name)" } ?? "nothing was seen on its console"
        if let lastSilence { words += "; its endpoint: \(lastSilence)" }
        return words
    }

    private mutating func fail(_ reason: String, expected: String, actual: String) {
        let account = lastFailure.map { "\(actual); it said: \($0)" } ?? actual
        outcome = .failed(
            Finding(reason, claim: node, expected: expected, actual: account, next: "see nacre logs \(node)"))
    }
}
