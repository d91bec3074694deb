import Attestation
import Bytes
import Cluster
import Glibc
import Provisioning

/// The end of init and up: every node's services run, and the API server says that the node is Ready.
enum ReadyStep {
    /// Milliseconds between two questions to one node, each of which costs it a quote: under emulation, work that Kubernetes'
    /// start waits for. When a stage was reached the node says itself.
    private static let pause: UInt32 = 4000

    /// Asks each node that became a member until it is Ready, or until `timeout` seconds are over.
    ///
    /// - Returns: the results with what the nodes said last; a node that did not get so far has its reason.
    static func wait(
        _ session: OwnerSession, _ results: [InitCommand.NodeResult], timeout: Int, _ output: OutputOptions
    ) -> [InitCommand.NodeResult] {
        let deadline = Deadline.seconds(timeout)
        var results = results
        var seen: [String: Int] = [:]
        while true {
            var isWaiting = false
            for index in results.indices {
                guard case .success(let last) = results[index].result, last.kubernetes?.isReady != true else {
                    continue
                }
                let node = results[index].node
                let result: Result<NodeStatus, Finding>
                do throws(Finding) {
                    result = .success(try session.client.status(try OwnerSession.endpoint(node)))
                } catch {
                    // A node that is busy is asked again.
                    guard ["busy", "connection"].contains(error.family) else {
                        results[index] = .init(node: node, result: .failure(error))
                        continue
                    }
                    isWaiting = true
                    continue
                }
                results[index] = .init(node: node, result: result)
                guard case .success(let status) = result else { continue }
                let stages = status.kubernetes?.stages ?? []
                for stage in stages.dropFirst(seen[node.name] ?? 0) {
                    let time = Double(stage.milliseconds / 100) / 10
                    output.note("nacre: \(node.name): \(Report.plain(stage.name)), \(time) s after its kernel started")
                }
                seen[node.name] = stages.count
                if status.kubernetes?.isReady != true { isWaiting = true }
            }
            guard isWaiting else { return results }
            if deadline.hasPassed { return results.map { late($0, timeout) } }
            usleep(pause * 1000)
        }
    }

    private static func late(_ result: InitCommand.NodeResult, _ timeout: Int) -> InitCommand.NodeResult {
        guard case .success(let status) = result.result, status.kubernetes?.isReady != true else { return result }
        let kubernetes = status.kubernetes
        let finding =
            kubernetes?.failure
            ?? Finding(
                "kubernetes-late", claim: result.node.name, expected: "Ready within \(timeout) s",
                actual: kubernetes.map { "\($0.phase.rawValue), last reached: \($0.stages.last?.name ?? "nothing")" }
                    ?? "nothing is known", source: "the node's status",
                next: "nacre logs --node \(result.node.name); run the command again to go on waiting")
        return .init(node: result.node, result: .failure(finding))
    }
}
