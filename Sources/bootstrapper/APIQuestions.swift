import Attestation
import Bytes
import Cluster
import DiskFormat
import Kubernetes
import KubernetesAPI
import Linux
import Synchronization

/// Asks the API server on a thread of its own: it may take as long as it likes to answer, and nothing that a node has to do at
/// once, as dropping a revoked one, waits for it.
final class APIQuestions: Sendable {
    /// What is asked about.
    struct Subject {
        var configuration: NodeConfiguration
        /// Whether kubelet runs, so that the node can be Ready.
        var asksNode: Bool
        /// Whether the resolver runs, so that somebody wants names.
        var asksNames: Bool
    }

    /// What was heard since the last time.
    struct News {
        var isReady: Bool?
        /// Records that differ from the last ones.
        var names: Set<ZoneRecord>?
        /// A control plane that answers where the worker's own is silent.
        var otherPlane: NodeIndex?
        var problem: Finding?
    }

    private struct State {
        var subject: Subject?
        var news = News()
        /// Names were heard and not handed on.
        var repeatsNames = false
    }

    private let state = Mutex(State())
    /// What a control plane tells the cluster.
    private let refusals: RefusalLog

    init(refusals: RefusalLog) { self.refusals = refusals }

    /// Milliseconds between two looks at what is to be asked.
    private static let tick: UInt32 = 250
    /// Milliseconds until the next question, of a node that is Ready and of one that is not yet.
    private static let pauses = (ready: 10_000, starting: 2000)
    /// Seconds for an answer. An API server under load has been seen to take longer than five for a handshake alone.
    private static let patience = 10
    /// Milliseconds: as long as Kubernetes itself waits for a node that is silent.
    private static let oldestAnswer = 40_000
    /// Milliseconds of silence after which a worker asks another control plane.
    private static let silence = 15_000
    /// Milliseconds between events of refusals: strangers decide how many there are.
    private static let refusalPause = 30_000

    func tell(_ subject: Subject?) { state.withLock { $0.subject = subject } }

    func news() -> News {
        state.withLock { state in
            defer { state.news = News() }
            return state.news
        }
    }

    /// Says the names once more, whatever was said before.
    func repeatNames() { state.withLock { $0.repeatsNames = true } }

    /// For as long as the process lives.
    func run() {
        var (nextNode, nextNames, nextRefusals) = (0, 0, 0)
        var (answered, turned) = (0, 0)
        var isReady = false
        var names: Set<ZoneRecord> = []
        while true {
            BootClock.sleep(milliseconds: Self.tick)
            guard let subject = state.withLock({ $0.subject }) else { continue }
            if subject.asksNode, BootClock.milliseconds >= nextNode {
                do throws(APIError) {
                    let client = try APIClient(subject.configuration, as: .kubelet)
                    isReady = try client.isReady(subject.configuration.name, deadline: .seconds(Self.patience))
                    answered = BootClock.milliseconds
                } catch {
                    let now = BootClock.milliseconds
                    // What it said last holds for a while: an answer can be late.
                    if now - answered > Self.oldestAnswer { isReady = false }
                    if !isReady { report("kubernetes-api", subject.configuration.apiServer, "an answer", error) }
                    if now - max(answered, turned) > Self.silence, let other = Self.other(subject.configuration) {
                        turned = now
                        state.withLock { $0.news.otherPlane = other }
                    }
                }
                let seen = isReady
                state.withLock { $0.news.isReady = seen }
                nextNode = BootClock.milliseconds + (isReady ? Self.pauses.ready : Self.pauses.starting)
            }
            if isReady, subject.configuration.role == .controlPlane, BootClock.milliseconds >= nextRefusals {
                tellRefusals(subject.configuration)
                nextRefusals = BootClock.milliseconds + Self.refusalPause
            }
            if subject.asksNames, BootClock.milliseconds >= nextNames {
                do throws(APIError) {
                    let found = try Self.names(subject.configuration)
                    let before = names
                    names = found
                    state.withLock { state in
                        if found != before || state.repeatsNames { state.news.names = found }
                        state.repeatsNames = false
                    }
                } catch { report("kubernetes-names", "names of services", "read", error) }
                nextNames = BootClock.milliseconds + 1000 * ZoneRecord.timeToLive
            }
        }
    }

    /// As events of this node, by the kubelet's certificate, which may make such. What cannot be told now waits.
    private func tellRefusals(_ configuration: NodeConfiguration) {
        var waiting = refusals.take()[...]
        while let entry = waiting.popFirst() {
            let event = NodeEvent(
                // The reason alone: what strangers sent and what this end made of it is for its own log.
                node: configuration.name, reason: "NodeRefused", message: "\(entry.purpose): \(entry.reason)",
                count: entry.count, first: entry.first, last: entry.last)
            do throws(APIError) {
                _ = try APIClient(configuration, as: .kubelet).post(
                    NodeEvent.path, event.json, deadline: .seconds(Self.patience))
            } catch {
                report("kubernetes-event", "event of a refusal", "taken by the API server", error)
                for entry in [entry] + waiting { refusals.add(entry) }
                return
            }
        }
    }

    /// By kube-proxy's certificate, which may list Services and Endpoints (ClusterRole system:node-proxier).
    private static func names(_ configuration: NodeConfiguration) throws(APIError) -> Set<ZoneRecord> {
        // From the API server's memory, not from etcd.
        let lists = try APIClient(configuration, as: .kubeProxy).get(
            ["services", "endpoints"].map { "/api/v1/\($0)?resourceVersion=0" }, deadline: .seconds(patience)
        ).map { $0["items"]?.array ?? [] }
        return ServiceRecords.records(services: lists[0], endpoints: lists[1])
    }

    /// Another control plane whose API server answers; only workers look for one.
    private static func other(_ configuration: NodeConfiguration) -> NodeIndex? {
        guard configuration.role == .worker else { return nil }
        return configuration.otherPlanes.first { candidate in
            var other = configuration
            other.preferredPlane = candidate
            let client = try? APIClient(other, as: .kubelet)
            return (try? client?.get("/version", deadline: .seconds(patience))) != nil
        }
    }

    private func report(_ reason: String, _ claim: String, _ expected: String, _ error: APIError) {
        let problem = Finding(
            reason, claim: claim, expected: expected, actual: error.message, next: "the node asks again")
        state.withLock { $0.news.problem = problem }
    }
}
