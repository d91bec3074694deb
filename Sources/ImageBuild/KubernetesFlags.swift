/// Command line options that not every version takes: all that differs between the oldest version that is built and the
/// newest. The units are the same for every version and add these variables to their command lines.
enum KubernetesFlags {
    private struct Flag {
        let variable: String
        let text: String
        /// The first minor version that refuses it.
        let removedIn: Int
    }

    private static let all = [
        // There is one runtime since dockershim went; where it listens is read from the configuration file from 1.27 on.
        Flag(variable: "KUBELET_FLAGS", text: "--container-runtime=remote", removedIn: 27),
        Flag(
            variable: "KUBELET_FLAGS", text: "--container-runtime-endpoint=unix:///run/containerd/containerd.sock",
            removedIn: 27),
        // Keeps the pause image from being collected; later the runtime itself pins it.
        Flag(variable: "KUBELET_FLAGS", text: "--pod-infra-container-image=node.local/pause:1", removedIn: 35),
        // The priorities of requests are beta in 1.20, and so is the API that they are configured by.
        Flag(variable: "API_SERVER_FLAGS", text: "--enable-priority-and-fairness=false", removedIn: 21),
        // As later versions have it by themselves: of what is not stable only what their own components ask for, and what
        // was the only form of it then. Each version of an API costs memory and time at every start.
        Flag(
            variable: "API_SERVER_FLAGS",
            text: "--runtime-config=api/beta=false,api/alpha=false,batch/v1beta1=true,discovery.k8s.io/v1beta1=true,"
                + "policy/v1beta1=true", removedIn: 21),
        // Else they serve plain HTTP too.
        Flag(variable: "CONTROLLER_MANAGER_FLAGS", text: "--port=0", removedIn: 24),
        Flag(variable: "SCHEDULER_FLAGS", text: "--port=0", removedIn: 24),
    ]

    /// `EnvironmentFile=` of the units: every variable, also those that are empty.
    static func environment(_ version: KubernetesVersion) -> String {
        var values: [String: [String]] = [:]
        for flag in all {
            values[flag.variable, default: []] += version.minor < flag.removedIn ? [flag.text] : []
        }
        return values.sorted { $0.key < $1.key }
            .map { "\($0.key)=\($0.value.joined(separator: " "))\n" }.joined()
    }
}
