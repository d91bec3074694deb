import ArgumentParser
import Attestation
import AttestedTLS
import Bytes
import Cluster
import Crypto
import DiskFormat
import Glibc
import Host
import SyntheticNode

/// Nodes that ask a control plane for keys, each time over a connection of its own: a process of its own, so that what they
/// take is neither counted nor in the way of what is measured.
struct ChannelClients: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "channel-clients", abstract: "Ask the control plane of `channel` for keys.", shouldDisplay: false)

    @Option var port: UInt16
    @Option var cluster: String
    @Option var count: Int

    func run() throws {
        guard let clusterID = Hex.decode(cluster), let name = NodeName("worker-0") else {
            throw ValidationError("cluster")
        }
        // Of one image, each with an attestation key of its own.
        let nodes = try (0..<64).map { _ in SyntheticMachine(try SyntheticNode()) }
        let request = Array(JoinRequest(node: name, epoch: 1, generation: 0).json.compact.utf8)
        var group = ""
        for number in 0..<count {
            let node = nodes[number % nodes.count]
            let client = try ChannelClient(identity: try TLSIdentity(ephemeral: "node", now: .now))
            let connection = try client.connect(
                "127.0.0.1", port: port, hello: try Hello(purpose: "rejoin", clusterID: clusterID),
                deadline: .seconds(30), judge: { (_, _) throws(ChannelRefusal) in },
                prove: { (session, _) throws(ChannelRefusal) in
                    guard let evidence = try? node.evidence(NodeProof.nonce(session.ownBinding)) else {
                        throw ChannelRefusal("internal")
                    }
                    return evidence.bytes
                }
            ).connection
            defer { connection.close() }
            try connection.send(request, deadline: .seconds(30))
            guard try connection.receive(deadline: .seconds(30)) != nil,
                try connection.receiveSecret(count: 32, deadline: .seconds(30)).count == 32
            else { throw ValidationError("no key") }
            group = connection.session.group
        }
        say("key exchange       \(group)")
    }

    /// Starts the process that runs `count` of them, by what this one was started with: perhaps a loader for other
    /// libraries.
    static func start(
        _ count: Int, port: UInt16, clusterID: [UInt8], isQuiet: Bool
    ) throws -> Spawned {
        let own = try readFile("/proc/self/cmdline").split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
        guard let place = own.firstIndex(of: "channel"), place > 0, let program = own.first,
            let path = unsafe realpath(program, nil)
        else { throw ValidationError("started in an unknown way") }
        defer { unsafe free(path) }
        let arguments =
            own[1..<place] + [
                "channel-clients", "--port", String(port), "--cluster", Hex.encode(clusterID), "--count", String(count),
            ]
        return try Command(
            program: unsafe String(cString: path), arguments: Array(arguments), environment: [:], directory: ".",
            log: isQuiet ? "/dev/null" : "/dev/stderr"
        ).start()
    }
}
