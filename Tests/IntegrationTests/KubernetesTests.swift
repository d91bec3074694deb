import Bytes
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// A control plane and a worker of the production image until both are Ready, and what runs on them. `make test-cluster`.
    @Suite(.serialized, Built.cluster) struct KubernetesTests {
        /// Never in the clear on the segment, nor on a disk.
        private static let marker = "nacre-plaintext-marker-73af10"

        @Test func `both nodes are Ready, pods reach each other, nothing crosses the segment in the clear`()
            async throws
        {
            let folder = try TemporaryFolder()
            let words = try folder.file("passphrase", "correct horse battery\n")
            let cluster = try LocalNode(
                host: HostInputs(capture: "segment.pcap"), options: ["--workers", "1", "--passphrase-file", words])
            let up = try await cluster.up()
            try #require(up.status == 0, "\(up.errors)\(up.text)")
            let result = try JSON(parsing: up.output)
            #expect(result["kubeconfig"]?.string == cluster.directory + "/kubeconfig")
            let kubernetes = Kubectl(cluster: cluster)

            let nodes = try await kubernetes.json("get", "nodes")
            let ready = (nodes["items"]?.array ?? []).filter(Kubectl.isReady).compactMap {
                $0["metadata"]?["name"]?.string
            }
            #expect(ready.sorted() == ["control-plane-0", "worker-0"])

            try await kubernetes.apply(Self.objects, in: folder)
            try await kubernetes.wait("pod/on-plane", "pod/on-worker")
            let logs = try await kubernetes.text("logs", "on-worker")
            #expect(logs == "serving \(Self.marker)\n")
            // From a pod of one node to a pod of the other, by its address and by its service's.
            for path in ["{.status.podIP}", "{.metadata.name}"] {
                let host =
                    path == "{.status.podIP}"
                    ? try await kubernetes.text("get", "pod", "on-worker", "-o", "jsonpath=\(path)") + ":8080"
                    : try await kubernetes.text("get", "service", "on-worker", "-o", "jsonpath={.spec.clusterIP}")
                let page = try await kubernetes.text(
                    "exec", "on-plane", "--", "wget", "-qO-", "-T", "20", "http://\(host)/")
                #expect(page == Self.marker + "\n")
            }
            try await Self.expectNames(kubernetes)
            try await Self.expectForward(cluster, kubernetes)
            // On the state disk, and told to be on it: the command that starts the pod writes another file.
            _ = try await kubernetes.text(
                "exec", "on-worker", "--", "sh", "-c", "cp /data/index.html /data/kept && sync")

            // Everything off: the owner's recover brings it back, with what the volume held.
            for name in ["worker-0", "control-plane-0"] {
                let stop = try await cluster.nacre("node", "stop", name, "--dir", cluster.directory, "--power-cut")
                #expect(stop.status == 0)
            }
            try Self.expectEncrypted(cluster)
            let again = try await cluster.up()
            try #require(again.status == 0, "\(again.errors)\(again.text)")
            let secret = try await kubernetes.text(
                "get", "secret", "marker", "-o", "jsonpath={.data.word}")
            #expect(Base64.decode(secret).map { String(decoding: $0, as: UTF8.self) } == Self.marker)
            try await kubernetes.wait("pod/on-worker")
            let kept = try await kubernetes.text("exec", "on-worker", "--", "cat", "/data/kept")
            #expect(kept == Self.marker + "\n")
            try await Self.expectRevoked(cluster, words: words, in: folder)
            try await cluster.endsWithoutTrace()
        }

        /// A pod finds a service by its short name, by its whole one, and a name that nobody has is none.
        private static func expectNames(_ kubernetes: Kubectl) async throws {
            let address = try await kubernetes.text("get", "service", "on-worker", "-o", "jsonpath={.spec.clusterIP}")
            let whole = "on-worker.default.svc.\(clusterDomain)"
            let found = try await kubernetes.text("exec", "on-plane", "--", "nslookup", whole)
            #expect(found.contains("Address: \(address)"), "\(found)")
            for host in ["on-worker", "on-worker.default.svc", whole] {
                let page = try await kubernetes.text(
                    "exec", "on-plane", "--", "wget", "-qO-", "-T", "20", "http://\(host)/")
                #expect(page == marker + "\n")
            }
            let absent = try await kubernetes.text(
                "exec", "on-worker", "--", "sh", "-c", "nslookup nobody.default.svc.\(clusterDomain) 2>&1 || true")
            #expect(absent.contains("NXDOMAIN"), "\(absent)")
        }

        /// The owner reaches a pod of the other node through a forwarded port.
        private static func expectForward(_ cluster: LocalNode, _ kubernetes: Kubectl) async throws {
            let script = """
                set -u; log=$(mktemp); trap 'kill $forward; rm -f "$log"' EXIT
                "$@" port-forward pod/on-worker :8080 >"$log" & forward=$!
                for try in $(seq 60); do
                    port=$(sed -n 's/^Forwarding from 127.0.0.1:\\([0-9]*\\) .*/\\1/p' "$log")
                    if [ -n "$port" ] && curl -s --max-time 30 "http://127.0.0.1:$port/"; then exit 0; fi
                    kill -0 $forward || exit 1
                    sleep 1
                done
                exit 1
                """
            let page = try await kubernetes.run(["bash", "-c", script, "forward"] + kubernetes.command)
            #expect(page == marker + "\n")
        }

        private static let clusterDomain = "cluster.local"

        /// Of what crossed the segment, every IP packet is WireGuard's or neighbour discovery's; the word is nowhere.
        private static func expectEncrypted(_ cluster: LocalNode) throws {
            let word = Array(marker.utf8)
            for name in ["control-plane-0", "worker-0"] {
                let capture = try readFile("\(cluster.directory)/vm/\(name)/segment.pcap")
                var kinds: [String: Int] = [:]
                for frame in Frames(capture) { kinds[frame.kind, default: 0] += 1 }
                #expect(kinds["wireguard", default: 0] > 100, "\(kinds)")
                #expect(Set(kinds.keys).isSubset(of: ["wireguard", "neighbour", "dhcp"]), "\(kinds)")
                #expect(!Frames.contains(word, in: capture))
                let disk = try Tool.run(["grep", "-c", "-a", marker, "\(cluster.directory)/vm/\(name)/state.img"])
                #expect(disk.text == "0\n")
            }
        }

        private static let objects = """
            {"apiVersion":"v1","kind":"List","items":[
            {"apiVersion":"v1","kind":"Secret","metadata":{"name":"marker"},"stringData":{"word":"\(marker)"}},
            {"apiVersion":"v1","kind":"Service","metadata":{"name":"on-worker"},
             "spec":{"selector":{"app":"on-worker"},"ports":[{"port":80,"targetPort":8080}]}},
            \(pod("on-plane", node: "control-plane-0")),\(pod("on-worker", node: "worker-0"))]}
            """

        private static func pod(_ name: String, node: String) -> String {
            """
            {"apiVersion":"v1","kind":"Pod","metadata":{"name":"\(name)","labels":{"app":"\(name)"}},"spec":{
             "nodeName":"\(node)","terminationGracePeriodSeconds":1,"restartPolicy":"Always",
             "volumes":[{"name":"data","hostPath":{"path":"/var/lib/kubelet/nacre-test","type":"DirectoryOrCreate"}}],
             "securityContext":{"runAsUser":0},
             "containers":[{"name":"app","image":"node.local/app:1","imagePullPolicy":"IfNotPresent",
              "volumeMounts":[{"name":"data","mountPath":"/data"}],
              "command":["sh","-c","echo \(marker) >/data/index.html; echo serving \(marker); exec httpd -f -p 8080 -h /data"]}]}}
            """
        }
    }

    /// The client that was built with the image, with the owner's access.
    struct Kubectl {
        let cluster: LocalNode

        func text(_ words: String...) async throws -> String { try await text(words) }

        /// Program and options, before what is asked.
        var command: [String] {
            [Built.image + "/kubectl", "--kubeconfig", cluster.directory + "/kubeconfig", "--request-timeout=60s"]
        }

        private func text(_ words: [String]) async throws -> String { try await run(command + words) }

        /// Tried for a while: under emulation an answer may take longer than its time limit.
        func run(_ command: [String]) async throws -> String {
            var last = try await cluster.tool(command)
            for _ in 0..<30 where last.status != 0 {
                try await Task.sleep(for: .seconds(5))
                last = try await cluster.tool(command)
            }
            try #require(last.status == 0, "\(command): \(last.errors)")
            return last.text
        }

        func json(_ words: String...) async throws -> JSON {
            try JSON(parsing: Array(try await text(words + ["-o", "json"]).utf8))
        }

        func apply(_ objects: String, in folder: TemporaryFolder) async throws {
            _ = try await text("apply", "-f", try folder.file("objects.json", objects))
        }

        func wait(_ names: String...) async throws {
            _ = try await text(["wait", "--for=condition=Ready", "--timeout=300s"] + names)
        }

        static func isReady(_ node: JSON) -> Bool {
            (node["status"]?["conditions"]?.array ?? []).contains {
                $0["type"]?.string == "Ready" && $0["status"]?.string == "True"
            }
        }
    }
}

/// Frames of a capture file as QEMU's filter-dump writes it (pcap 2.4, Ethernet, the machine's byte order).
struct Frames: Sequence, IteratorProtocol {
    struct Frame {
        let bytes: ArraySlice<UInt8>
        /// When it was seen, seconds since 1970.
        let time: Double

        /// Type of a WireGuard message over IPv6 (1 to 4: initiation, response, cookie, data) and its size; 0 for all else.
        var wireGuardType: Int { kind == "wireguard" ? Int(bytes[bytes.startIndex + 62]) : 0 }
        var wireGuardSize: Int { kind == "wireguard" ? bytes.count - 62 : 0 }

        /// What it carries, by its headers.
        var kind: String {
            func byte(_ offset: Int) -> Int { offset < bytes.count ? Int(bytes[bytes.startIndex + offset]) : -1 }
            func pair(_ offset: Int) -> Int { byte(offset) << 8 | byte(offset + 1) }
            switch pair(12) {
            case 0x0806: return "neighbour"
            case 0x86DD:
                switch byte(20) {
                case 17 where pair(54) == 51820 && pair(56) == 51820 && bytes.count > 62: return "wireguard"
                case 17 where pair(54) == 546: return "dhcp"
                // ICMPv6, also behind the hop-by-hop header of a multicast report.
                case 58, 0: return "neighbour"
                default: return "IPv6 \(byte(20)), ports \(pair(54)) to \(pair(56))"
                }
            case 0x0800 where byte(23) == 17 && pair(34) == 68: return "dhcp"
            case let type: return "type \(type), protocol \(byte(23))"
            }
        }
    }

    private let capture: [UInt8]
    private var offset = 24

    init(_ capture: [UInt8]) { self.capture = capture }

    mutating func next() -> Frame? {
        guard offset + 16 <= capture.count else { return nil }
        func word(_ start: Int) -> Int { (0..<4).reduce(0) { $0 | Int(capture[offset + start + $1]) << (8 * $1) } }
        let size = word(8)
        guard size <= capture.count - offset - 16 else { return nil }
        defer { offset += 16 + size }
        return Frame(
            bytes: capture[(offset + 16)..<(offset + 16 + size)], time: Double(word(0)) + Double(word(4)) / 1_000_000)
    }

    static func contains(_ word: [UInt8], in bytes: [UInt8]) -> Bool {
        guard let first = word.first else { return true }
        return bytes.indices.contains { index in
            bytes[index] == first && bytes.count - index >= word.count
                && bytes[index..<(index + word.count)].elementsEqual(word)
        }
    }
}
