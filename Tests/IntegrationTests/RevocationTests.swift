import Bytes
import Cluster
import Crypto
import DiskFormat
import Kubernetes
import Provisioning
import TestKit
import Testing

/// What a worker's kubelet could do from outside of the mesh: a certificate such as it has, made from the cluster's secret as a
/// control plane makes it.
struct StolenClient: Sendable {
    /// Seconds after `nacre node revoke` has returned.
    static let limit = 5

    private let cluster: LocalNode
    private let curl: [String]

    init(of name: String, index: Int, _ cluster: LocalNode, words: String, in folder: TemporaryFolder) throws {
        self.cluster = cluster
        var line = try readFile(words)
        while line.last == 0x0A { line.removeLast() }
        let secret = try LocalCluster(directory: cluster.directory, host: Host(environment: [:]))
            .clusterSecret(passphrase: Secret(wiping: &line))
        let key = try PrivateKey(generating: .p256)
        let certificate = try ClusterAuthority(secret).issue(
            .kubelet, node: try #require(NodeName(name)), index: try #require(NodeIndex(index)), for: key.publicKey,
            at: .now, lifetime: 3600)
        let pem = try key.secret().withBytes { bytes in bytes.indices.map { bytes[$0] } }
        let config = try JSON(parsing: readFile(cluster.directory + "/kubeconfig"))
        let target = try #require(config["clusters"]?.array?.first?["cluster"])
        let authority = try #require(target["certificate-authority-data"]?.string.flatMap { Base64.decode($0) })
        curl = [
            "curl", "--silent", "--show-error", "--cacert", try folder.file("authority.pem", authority), "--cert",
            try folder.file("\(name).pem", certificate.pem), "--key", try folder.file("\(name).key", pem),
            try #require(target["server"]?.string),
        ]
    }

    private func command(_ path: String, _ options: [String]) -> [String] {
        curl.dropLast() + options + [(curl.last ?? "") + path]
    }

    /// HTTP's status, 0 for no connection.
    func status(_ path: String) async throws -> Int {
        let answer = try await cluster.tool(
            command(path, ["--max-time", "20", "--output", "/dev/null", "--write-out", "%{http_code}"]))
        return Int(answer.text) ?? 0
    }

    /// Watches until the API server ends it.
    ///
    /// - Returns: seconds since 1970 at its end.
    func watch(_ path: String) async throws -> Double {
        _ = try await cluster.tool(command(path, ["--no-buffer", "--max-time", "900", "--output", "/dev/null"]))
        return try await Self.now(cluster)
    }

    static func now(_ cluster: LocalNode) async throws -> Double {
        try #require(Double(try await cluster.tool(["date", "+%s.%N"]).text.dropLast()))
    }
}

extension IntegrationTests.KubernetesTests {
    /// Revokes the worker: its traffic, its connections and its certificates end, also for who holds them elsewhere, and the
    /// owner goes on.
    static func expectRevoked(_ cluster: LocalNode, words: String, in folder: TemporaryFolder) async throws {
        let kubernetes = IntegrationTests.Kubectl(cluster: cluster)
        let client = try StolenClient(of: "worker-0", index: 2, cluster, words: words, in: folder)
        let own = "/api/v1/nodes/worker-0"
        // Good until then, to show that it is what it is taken for.
        var status = 0
        for _ in 0..<30 where status != 200 { status = try await client.status(own) }
        try #require(status == 200)
        async let watched = client.watch("/api/v1/nodes?fieldSelector=metadata.name%3Dworker-0&watch=1")
        try await Task.sleep(for: .seconds(10))

        let revoke = try await cluster.nacre(
            "node", "revoke", "worker-0", "--dir", cluster.directory, "--passphrase-file", words)
        try #require(revoke.status == 0, "\(revoke.errors)")
        let revoked = try await StolenClient.now(cluster)
        let end = try await watched
        #expect(end < revoked + Double(StolenClient.limit), "a watch lived on for \(end - revoked) s")
        try await Task.sleep(
            for: .seconds(max(0, revoked + Double(StolenClient.limit) - (try await StolenClient.now(cluster)))))
        // Nothing while the API server starts again, and "who are you" once it is there.
        var seen: [Int] = []
        for _ in 0..<120 where seen.last != 401 {
            seen.append(try await client.status(own))
            try await Task.sleep(for: .seconds(2))
        }
        #expect(seen.last == 401 && Set(seen).isSubset(of: [0, 401]), "\(seen)")
        let nodes = try await kubernetes.json("get", "nodes")
        #expect(nodes["items"]?.array?.count == 2)
        #expect(try await client.status(own) == 401)
        // What the control plane's card saw after the limit: whoever knocks is not answered, and nothing is carried.
        let capture = try readFile("\(cluster.directory)/vm/control-plane-0/segment.pcap")
        let late = Frames(capture).filter { $0.time > revoked + Double(StolenClient.limit) }
        #expect(!late.contains { $0.wireGuardType == 4 && $0.wireGuardSize > 32 })
        #expect(!late.contains { $0.wireGuardType == 2 })
    }
}
