import Attestation
import Bytes
import Cluster
import Glibc
import Kubernetes
import KubernetesAPI
import Linux

/// What a member does for Kubernetes from then on: it enrols, writes what its services read, has process 1 start them in
/// order, follows the mesh, and renews its certificates. One thread, which never ends; another one asks the API server.
struct KubernetesNode: ~Copyable {
    private let node: ClusterNode
    private var status: KubernetesStatus
    private var bus: ServiceBus?
    private var plan: UnitPlan?
    /// Jobs of process 1 that the plan waits for.
    private var jobs: [String: NodeUnit] = [:]
    private var configuration: NodeConfiguration?
    /// Control planes only.
    private var etcd = EtcdMembership()
    private var renewal = Instant(seconds: 0)
    /// When a first enrolment that failed is tried again, by the boot's clock, and how long the pause was.
    private var nextEnrolment = 0
    private var pause = Self.firstPause
    /// What of `configuration` does not hold yet. Nobody tells of a change twice, so each stays until it is done.
    private var pending = Pending()

    private struct Pending {
        /// The files of the configuration are to be written.
        var files = false
        /// The mesh is to read its peers again, and the job that does so.
        var peers = false
        var reload: String?
        /// Whom the API server is to forget.
        var gone: Set<NodeConfiguration.Member> = []
        /// Units of a revoked node that are to stop, and the jobs that stop them.
        var stops: [NodeUnit] = []
        var stopping: [String: NodeUnit] = [:]
    }
    /// When the mesh is asked next, by the boot's clock.
    private var nextMesh = 0
    private var meshRevision = 0
    private var lastProblem = ""
    /// On a thread of its own.
    private let questions: APIQuestions
    /// The control plane that this worker turned to.
    private var plane: NodeIndex?

    /// Milliseconds: how long the thread looks away at most.
    private static let tick = 250
    /// Milliseconds between first enrolments that fail.
    private static let firstPause = 500
    private static let longestPause = 15_000
    private static let versionFile = "/usr/lib/nacre/kubernetes/version"

    init(node: ClusterNode) {
        self.node = node
        questions = APIQuestions(refusals: node.refusals)
        status = KubernetesStatus(version: (try? File.text(Self.versionFile, limit: 256)) ?? "none")
    }

    mutating func run() {
        while node.status.phase != .run { BootClock.sleep(milliseconds: UInt32(Self.tick)) }
        reached("member")
        publish()
        let questions = questions
        if !DetachedThread.start({ questions.run() }) {
            Journal.write(.error, "no thread to ask the API server from", ["NACRE_PHASE": "kubernetes"])
        }
        while true {
            let isDue = configuration == nil ? BootClock.milliseconds >= nextEnrolment : Instant.now >= renewal
            if isDue { enrol() }
            if configuration != nil { follow() }
            apply()
            if configuration != nil {
                joinEtcd()
                if !pending.files { startUnits() }
                hear()
            }
            publish()
            waitForJobs()
        }
    }

    // MARK: Steps

    /// Certificates, files, and from then on the mesh. What fails is tried again.
    private mutating func enrol() {
        let network = Self.network()
        do throws(Finding) {
            let enrolment = try node.enrol(
                endpoints: network.endpoints, linkLocalInterface: network.linkLocalInterface)
            let isRenewal = configuration != nil
            reached("enrolled")
            take(enrolment.configuration)
            renewal = enrolment.renewal
            status.notAfter = enrolment.notAfter
            status.index = enrolment.configuration.index
            status.failure = nil
            if isRenewal {
                plan?.renew()
            } else {
                plan = UnitPlan(role: enrolment.configuration.role)
                status.phase = .start
            }
            nextMesh = 0
            pause = Self.firstPause
        } catch {
            failed(error)
            // With certificates still good there is time; without any, somebody waits.
            if configuration != nil { renewal = Instant(seconds: Instant.now.seconds + 10) }
            nextEnrolment = BootClock.milliseconds + pause
            pause = min(pause + pause / 4, Self.longestPause)
        }
    }

    /// Hears what is new in the mesh, and tells its services.
    private mutating func follow() {
        let revision = node.meshRevision
        let isNews = revision != meshRevision
        guard BootClock.milliseconds >= nextMesh || isNews else { return }
        meshRevision = revision
        do throws(Finding) {
            // Before anybody is asked: other control planes may be slow to answer, and a revoked node is not to gain by it.
            if isNews, let changed = try node.refreshOwn() {
                take(changed)
                apply()
            }
            if BootClock.milliseconds >= nextMesh {
                let network = Self.network()
                if let changed = try node.refreshMesh(
                    endpoints: network.endpoints, linkLocalInterface: network.linkLocalInterface)
                {
                    take(changed)
                }
                nextMesh = BootClock.milliseconds + ClusterNode.meshInterval * 1000
            }
        } catch {
            nextMesh = BootClock.milliseconds + ClusterNode.meshInterval * 1000
            failed(error)
            if error.family == "revoked" { withdraw() }
        }
    }

    /// Others have come or gone, by the policy or by their own word, with a renewal too.
    private mutating func take(_ changed: NodeConfiguration) {
        var changed = changed
        let before = configuration
        changed.preferredPlane = plane
        configuration = changed
        pending.files = true
        pending.peers = true
        if let before, before.apiServer != changed.apiServer { plan?.restart(NodeUnit.restartedForAPIServer) }
        pending.gone.formUnion(before.map { Array($0.clientAuthorities.keys) } ?? [])
        pending.gone.subtract(changed.clientAuthorities.keys)
    }

    /// Brings what runs to what the configuration says, as far as it does not hold yet.
    private mutating func apply() {
        if pending.files, let configuration {
            do throws(Finding) { try write(configuration) } catch { return failed(error) }
            pending.files = false
            reached("files")
        }
        // A mesh that is just starting may have read its peers before they were written.
        if pending.peers, pending.reload == nil, plan?.isActive(NodeUnit.reloadedForPeers) == true {
            pending.reload = command(.reload, NodeUnit.reloadedForPeers)
            pending.peers = pending.reload == nil
        }
        if !pending.gone.isEmpty, plan?.isActive(.apiServer) == true { cutOff() }
        for unit in pending.stops {
            guard let job = command(.stop, unit) else { return }
            pending.stopping[job] = unit
            pending.stops.removeAll { $0 == unit }
        }
    }

    /// The API server reads whom it lets in again by itself, but takes up to a minute, and asks nobody twice who is
    /// connected: it starts again, at once. It has no state of its own, and asked kindly it would wait for its clients.
    private mutating func cutOff() {
        let names = pending.gone.map { "\($0.name)" }.sorted().joined(separator: ", ")
        do throws(ServiceBus.Failure) {
            if bus == nil { bus = try ServiceBus.connect() }
            try bus?.signal(NodeUnit.apiServer.rawValue, SIGKILL)
            pending.gone = []
            node.report("kubernetes: the API server starts again without \(names)")
        } catch { lostBus(error) }
    }

    /// A control plane's etcd is not started before it is known with whom.
    private mutating func joinEtcd() {
        guard let configuration, configuration.role == .controlPlane, let plan else { return }
        do throws(Finding) {
            let isChanged = try etcd.step(
                node, configuration, isMeshUp: plan.isActive(.mesh), isRunning: plan.isActive(.etcd))
            if isChanged {
                pending.files = true
                apply()
            }
        } catch { failed(error) }
        self.plan?.held = etcd.held
    }

    private mutating func startUnits() {
        guard var plan else { return }
        for step in plan.begin(at: BootClock.milliseconds) {
            if let job = command(step.verb == .start ? .start : .restart, step.unit) {
                jobs[job] = step.unit
            } else {
                plan.ended(step.unit, isDone: false, at: BootClock.milliseconds)
            }
        }
        self.plan = plan
    }

    private mutating func waitForJobs() {
        do throws(ServiceBus.Failure) {
            if bus == nil { bus = try ServiceBus.connect() }
            guard let ended = try bus?.ended(within: Self.tick) else { return }
            for job in ended {
                if job.job == pending.reload {
                    pending.reload = nil
                    if job.result != "done" { pending.peers = true }
                    continue
                }
                if let unit = pending.stopping.removeValue(forKey: job.job) {
                    if job.result != "done" { pending.stops.append(unit) }
                    continue
                }
                guard let unit = jobs.removeValue(forKey: job.job) else { continue }
                let isDone = job.result == "done"
                plan?.ended(unit, isDone: isDone, at: BootClock.milliseconds)
                if isDone {
                    reached(unit.rawValue)
                } else {
                    failed(
                        Finding(
                            "node-unit", claim: unit.rawValue, expected: "started", actual: job.result,
                            source: "systemd", next: "the node tries again; its journal says why"))
                }
            }
            if plan?.isComplete == true, status.phase == .start {
                status.phase = .run
                status.failure = nil
                reached("services")
            }
        } catch { lostBus(error) }
    }

    /// What the API server said.
    private mutating func hear() {
        questions.tell(
            configuration.map {
                APIQuestions.Subject(
                    configuration: $0, asksNode: plan?.isActive(.kubelet) == true,
                    asksNames: plan?.isActive(.dns) == true)
            })
        let news = questions.news()
        // While services start, it is no news that the API server does not answer yet.
        if let problem = news.problem, status.phase == .run { failed(problem) }
        if let isReady = news.isReady {
            status.isReady = isReady
            if isReady {
                reached("ready")
                status.failure = nil
            }
        }
        if let names = news.names { serve(names) }
        if let other = news.otherPlane { turn(to: other) }
    }

    /// Tells the cluster's resolver of this node. While the API server is away, the names that were there stay.
    private mutating func serve(_ names: Set<ZoneRecord>) {
        do {
            try NodeFile(ServiceRecords.file, ServiceRecords.configuration(names)).write()
            if bus == nil { bus = try ServiceBus.connect() }
            // It reads its configuration again and goes on serving.
            try bus?.signal(NodeUnit.dns.rawValue, SIGHUP)
        } catch {
            questions.repeatNames()
            failed(
                Finding(
                    "kubernetes-names", claim: "names of services", expected: "handed to the resolver",
                    actual: "\(error)"))
        }
    }

    /// A worker whose API server is silent goes to another that answers: kubelet and kube-proxy read where it is once, at
    /// their start.
    private mutating func turn(to other: NodeIndex) {
        guard var next = configuration, let before = configuration?.apiServer else { return }
        next.preferredPlane = other
        do throws(Finding) {
            try write(next)
            (plane, configuration) = (other, next)
            plan?.restart(NodeUnit.restartedForAPIServer)
            node.report("kubernetes: \(before) is silent; \(next.apiServer) answers")
        } catch { failed(error) }
    }

    /// The owner has revoked this node: nothing of the cluster goes on here.
    private mutating func withdraw() {
        guard let units = plan?.units else { return }
        status.phase = .revoked
        pending = Pending()
        pending.stops = units.reversed().filter { $0 != .firewall }
        jobs = [:]
        plan = nil
        configuration = nil
        questions.tell(nil)
        renewal = Instant(seconds: 0)
        // The owner may take it back; nobody else will.
        pause = Self.longestPause
        nextEnrolment = BootClock.milliseconds + pause
        publish()
    }

    // MARK: Words to process 1, files and reports

    @discardableResult
    private mutating func command(_ verb: ServiceBus.Verb, _ unit: NodeUnit) -> String? {
        do throws(ServiceBus.Failure) {
            if bus == nil { bus = try ServiceBus.connect() }
            return try bus?.begin(verb, unit.rawValue)
        } catch {
            lostBus(error)
            return nil
        }
    }

    /// Whatever was under way is begun again: starting what runs does nothing.
    private mutating func lostBus(_ error: ServiceBus.Failure) {
        bus = nil
        for unit in jobs.values { plan?.ended(unit, isDone: false, at: BootClock.milliseconds) }
        jobs = [:]
        if pending.reload != nil { (pending.reload, pending.peers) = (nil, true) }
        pending.stops += pending.stopping.values
        pending.stopping = [:]
        failed(Finding("node-unit", claim: "process 1", expected: "an answer", actual: error.description))
    }

    private func write(_ configuration: NodeConfiguration) throws(Finding) {
        do {
            // unbound does not start where the folder that its pattern names is missing (glob(3) with GLOB_ERR).
            let folders = ["/run/nacre/kubernetes/pki", "/run/nacre/mesh", "/run/cni/net.d", ServiceRecords.folder]
            for folder in folders {
                try File.makeFolders(folder, mode: 0o755)
            }
            var configuration = configuration
            if configuration.role == .controlPlane { etcd.apply(to: &configuration) }
            for file in try configuration.files() { try file.write() }
        } catch { throw Finding("node-files", claim: "/run/nacre", expected: "written", actual: "\(error)") }
    }

    private mutating func reached(_ name: String) {
        status.reached(name, at: BootClock.milliseconds)
        Journal.write(.info, "kubernetes: \(name)", ["NACRE_PHASE": "kubernetes", "NACRE_STAGE": name])
    }

    /// Said once for as long as it stays the same.
    private mutating func failed(_ finding: Finding) {
        status.failure = finding
        guard lastProblem != finding.description else { return }
        lastProblem = finding.description
        node.report("kubernetes: \(finding)")
    }

    private func publish() { node.tell(status) }

    /// What can change at any time: addresses come and go.
    private static func network() -> NodeNetwork {
        func text(_ path: String) -> String { (try? File.text(path, limit: 1 << 20)) ?? "" }
        let interfaces = (try? File.names(in: "/sys/class/net")) ?? []
        return NodeNetwork(
            cards: Set(interfaces.filter { File.exists("/sys/class/net/\($0)/device") }),
            routes: text("/proc/net/route"), tree: text("/proc/net/fib_trie"), ipv6: text("/proc/net/if_inet6"))
    }
}

extension NodeFile {
    /// Whole or not at all; on a file system in memory, so nothing is flushed.
    fileprivate func write() throws(SystemError) {
        switch contents {
        case .published(let bytes):
            let result = unsafe bytes.withUnsafeBytes { unsafe Self.replace($0, path, mode) }
            try result.get()
        case .secret(let held):
            try held.secret.withBytes { (span) throws(SystemError) in
                try unsafe span.withUnsafeBytes { unsafe Self.replace($0, path, mode) }.get()
            }
        }
    }

    private static func replace(
        _ bytes: UnsafeRawBufferPointer, _ path: String, _ mode: UInt32
    ) -> Result<Void, SystemError> {
        do throws(SystemError) {
            return .success(unsafe try File.replace(path, with: bytes, mode: mode, isFlushed: false))
        } catch { return .failure(error) }
    }
}
