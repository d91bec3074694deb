import Bytes
import Crypto
import DiskFormat
import TestKit
import Testing

@testable import Kubernetes

/// A configuration of made-up keys.
func configuration(_ role: NodeRole, _ change: (inout NodeConfiguration) -> Void = { _ in }) throws
    -> NodeConfiguration
{
    let index = try #require(NodeIndex(role == .controlPlane ? 1 : 2))
    let name = try #require(NodeName(role == .controlPlane ? "control-plane-0" : "worker-0"))
    let (start, end) = (Instant(seconds: 1_800_000_000), Instant(seconds: 1_800_086_400))
    var authorities: [ClusterAuthorityName: Certificate] = [:]
    var keys: [NodeCertificate: PrivateKey] = [:]
    var certificates: [NodeCertificate: Certificate] = [:]
    for authority in ClusterAuthorityName.known(to: role) {
        let issuer = try CertificateIssuer(
            key: try PrivateKey(generating: .p256), commonName: authority.commonName(epoch: 1))
        authorities[authority] = try issuer.certificate(notBefore: start, notAfter: end)
        for certificate in NodeCertificate.allowed(for: role) where certificate.authority == authority {
            let key = try PrivateKey(generating: .p256)
            keys[certificate] = key
            certificates[certificate] = try issuer.issue(
                certificate.template(node: name, index: index, notBefore: start, notAfter: end), for: key.publicKey)
        }
    }
    var mesh = try MeshConfiguration(linkLocalInterface: "eth1")
    mesh.peers = [
        MeshPeer(
            name: try #require(NodeName("worker-7")), index: try #require(NodeIndex(8)),
            publicKey: [UInt8](repeating: 9, count: 32),
            endpoints: [
                MeshEndpoint(address: try #require(IPAddress("fe80::5054:ff:fe00:8")), port: 51820),
                MeshEndpoint(address: IPAddress(192, 0, 2, 1), port: 51820),
            ])
    ]
    let plane = NodeConfiguration.Plane(
        name: try #require(NodeName("control-plane-0")), index: try #require(NodeIndex(1)))
    var planeKeys: NodeConfiguration.PlaneKeys?
    if role == .controlPlane {
        var bytes = [UInt8](repeating: 5, count: 32)
        planeKeys = NodeConfiguration.PlaneKeys(
            serviceAccount: try PrivateKey(generating: .p256), encryption: SecretContents(Secret(wiping: &bytes)),
            encryptionEpoch: 1)
    }
    var made = NodeConfiguration(
        name: name, role: role, index: index, planes: [plane], podNetwork: .bridge, keys: keys,
        certificates: certificates, authorities: authorities, planeKeys: planeKeys, mesh: mesh)
    change(&made)
    return made
}

extension NodeFile {
    var text: String {
        switch contents {
        case .published(let bytes): String(decoding: bytes, as: UTF8.self)
        case .secret(let contents):
            contents.secret.withBytes { span in
                String(decoding: span.indices.map { span[$0] }, as: UTF8.self)
            }
        }
    }
}

@Suite("The files of a node")
struct FilesTests {
    static func files(_ configuration: NodeConfiguration) throws -> [String: NodeFile] {
        let files = try configuration.files()
        #expect(files.map(\.path) == files.map(\.path).sorted())
        #expect(Set(files.map(\.path)).count == files.count)
        return Dictionary(files.map { ($0.path, $0) }) { first, _ in first }
    }

    @Test("a worker's files are these and no other")
    func worker() throws {
        let files = try Self.files(try configuration(.worker))
        let pki = ["kubelet", "kubelet-server", "kube-proxy", "dns"].flatMap {
            ["/run/nacre/kubernetes/pki/\($0).crt", "/run/nacre/kubernetes/pki/\($0).key"]
        }
        let others = [
            "/run/cni/net.d/10-nacre.conflist", "/run/nacre/kubernetes/dns.kubeconfig",
            "/run/nacre/kubernetes/kube-proxy.kubeconfig", "/run/nacre/kubernetes/kube-proxy.yaml",
            "/run/nacre/kubernetes/kubelet.kubeconfig", "/run/nacre/kubernetes/kubelet.yaml",
            "/run/nacre/kubernetes/node.env", "/run/nacre/kubernetes/pki/ca.crt",
            "/run/nacre/kubernetes/pki/kubelet-client-ca.crt", "/run/nacre/mesh/mesh.env", "/run/nacre/mesh/wg0.conf",
        ]
        #expect(Set(files.keys) == Set(pki + others))
    }

    @Test("a control plane has every certificate, and no authority's key in any file")
    func controlPlane() throws {
        let configuration = try configuration(.controlPlane)
        let files = try Self.files(configuration)
        for name in NodeCertificate.allCases where name.isFile {
            let file = try #require(files["/run/nacre/kubernetes/pki/\(name.rawValue).key"])
            let read = try PrivateKey(pem: Array(file.text.utf8))
            #expect(read.publicKey == configuration.keys[name]?.publicKey)
        }
        for name in [
            "ca.crt", "clients.crt", "etcd-ca.crt", "front-proxy-ca.crt", "kubelet-client-ca.crt",
            "service-account.pub",
            "service-account.key",
        ] { #expect(files["/run/nacre/kubernetes/pki/\(name)"] != nil) }
        #expect(!files.keys.contains { $0.contains("mesh") && $0.contains("pki") })
        // kubectl and components find their own.
        #expect(files["/run/nacre/kubernetes/scheduler.kubeconfig"]?.text.contains("https://10.200.0.1:6443") == true)
        let encryption = try JSON(parsing: try #require(files["/run/nacre/kubernetes/encryption.yaml"]).text)
        let provider = encryption["resources"]?.array?.first?["providers"]?.array
        #expect(provider?.count == 1)
        let key = provider?.first?["secretbox"]?["keys"]?.array?.first
        #expect(key?["secret"]?.string == Base64.encode([UInt8](repeating: 5, count: 32)))
        #expect(key?["name"]?.string == "epoch-1")
    }

    @Test("what holds a key is a secret that only root reads, and nothing else is")
    func modes() throws {
        for role in NodeRole.allCases {
            for file in try configuration(role).files() {
                let holdsKey =
                    file.path.hasSuffix(".key") || file.path.hasSuffix("wg0.conf")
                    || file.path.hasSuffix("encryption.yaml")
                var isSecret = false
                if case .secret = file.contents { isSecret = true }
                #expect(isSecret == holdsKey && file.mode == (holdsKey ? 0o600 : 0o644), "\(file.path)")
                #expect(file.path.hasPrefix("/run/nacre/") || file.path.hasPrefix("/run/cni/"))
            }
        }
    }

    @Test("all documents are JSON, which is YAML; environments are plain words")
    func documents() throws {
        for role in NodeRole.allCases {
            for file in try configuration(role).files() {
                if [".yaml", ".kubeconfig", ".conflist"].contains(where: { file.path.hasSuffix($0) }) {
                    #expect(try JSON(parsing: file.text).object != nil, "\(file.path)")
                }
                guard file.path.hasSuffix(".env") else { continue }
                for line in file.text.split(separator: "\n") {
                    let isPlain = line.utf8.allSatisfy { byte in
                        byte > 0x20 && byte < 0x7F && !Array("\"'\\$`#;".utf8).contains(byte)
                    }
                    #expect(line.contains("=") && isPlain, "\(line)")
                }
            }
        }
    }

    @Test("node.env says where everything is")
    func environment() throws {
        let worker = try #require(try Self.files(try configuration(.worker))["/run/nacre/kubernetes/node.env"]).text
        #expect(
            worker == """
                NODE_NAME=worker-0
                NODE_IP=10.200.0.2
                POD_CIDR=10.244.1.0/24
                CLUSTER_CIDR=10.244.0.0/14
                SERVICE_CIDR=10.96.0.0/16
                CLUSTER_DNS=10.96.0.10
                API_SERVER=https://10.200.0.1:6443

                """)
        let plane = try #require(try Self.files(try configuration(.controlPlane))["/run/nacre/kubernetes/node.env"])
        #expect(plane.text.contains("ETCD_INITIAL_CLUSTER=control-plane-0=https://10.200.0.1:2380\n"))
        #expect(plane.text.contains("ETCD_INITIAL_CLUSTER_STATE=new\n"))
    }

    @Test("a worker asks the control plane that it prefers for as long as there is such a one")
    func preferredPlane() throws {
        let planes = try [1, 3, 4].map { number in
            NodeConfiguration.Plane(
                name: try #require(NodeName("control-plane-\(number)")), index: try #require(NodeIndex(number)))
        }
        var worker = try configuration(.worker) { $0.planes = planes }
        #expect(worker.apiServer == "https://10.200.0.1:6443")
        #expect(worker.otherPlanes.map(\.number) == [3, 4])
        worker.preferredPlane = planes[1].index
        #expect(worker.apiServer == "https://10.200.0.3:6443")
        #expect(worker.otherPlanes.map(\.number) == [4, 1])
        let kubeconfig = try #require(try Self.files(worker)["/run/nacre/kubernetes/kubelet.kubeconfig"])
        #expect(kubeconfig.text.contains("https://10.200.0.3:6443"))
        worker.planes.remove(at: 1)
        #expect(worker.apiServer == "https://10.200.0.1:6443")
        // A control plane asks its own.
        let plane = try configuration(.controlPlane) {
            $0.planes = planes
            $0.preferredPlane = planes[1].index
        }
        #expect(plane.apiServer == "https://10.200.0.1:6443")
    }

    @Test("wg0.conf in the form of wg setconf")
    func mesh() throws {
        let configuration = try configuration(.worker)
        let text = configuration.mesh.file.text
        let lines = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
        #expect(lines.first == "[Interface]")
        let key = try #require(lines.dropFirst().first?.split(separator: " ").last.flatMap { Base64.decode($0) })
        #expect(key.count == 32)
        #expect(
            text.hasSuffix(
                """
                ListenPort = 51820

                [Peer]
                PublicKey = \(Base64.encode([UInt8](repeating: 9, count: 32)))
                AllowedIPs = 10.200.0.8/32, 10.244.7.0/24
                Endpoint = [fe80::5054:ff:fe00:8%eth1]:51820
                PersistentKeepalive = 25

                """))
        var other = configuration.mesh
        other.linkLocalInterface = nil
        #expect(other.file.text.contains("Endpoint = 192.0.2.1:51820\n"))
        // The public half is that of the private half.
        if OpenSSLTool.isAvailable {
            // RFC 8410: PrivateKeyInfo of an X25519 key.
            let der = [0x30, 0x2E, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x6E, 4, 0x22, 4, 0x20] + key
            let folder = try TemporaryFolder()
            let file = try folder.file("key.der", der)
            let published = try OpenSSLTool.run("pkey -inform DER -in \(file) -pubout -outform DER")
            #expect(Array(published.output.suffix(32)) == configuration.mesh.publicKey)
        }
    }

    @Test("Cilium takes over the pods' network, and nothing else changes")
    func cilium() throws {
        let bridge = try Self.files(try configuration(.worker))
        let cilium = try Self.files(try configuration(.worker) { $0.podNetwork = .cilium })
        #expect(Set(bridge.keys).subtracting(cilium.keys) == ["/run/cni/net.d/10-nacre.conflist"])
        let values = NodeConfiguration.ciliumValues(apiServer: try #require(NodeIndex(1)))
        #expect(values["encryption"]?["strictMode"]?["enabled"]?.bool == true)
    }

    @Test("endpoints and keys of peers are read strictly")
    func peers() throws {
        let peer = try configuration(.worker).mesh.peers[0]
        #expect(try MeshPeer(json: peer.json, path: "peer") == peer)
        func refused(_ key: String, _ value: JSON) -> Bool {
            var object = peer.json.object ?? [:]
            object[key] = value
            return (try? MeshPeer(json: .object(object), path: "peer")) == nil
        }
        #expect(refused("key", .base64([UInt8](repeating: 0, count: 32))))
        #expect(refused("key", .base64([1])))
        #expect(refused("index", 0) && refused("index", 1025) && refused("name", "A") && refused("more", 1))
        let endpoint = peer.endpoints[1].json
        #expect(refused("endpoints", .array([endpoint, endpoint])))
        let many = (1...9).map { MeshEndpoint(address: IPAddress(192, 0, 2, 1), port: $0).json }
        #expect(refused("endpoints", .array(many)) && !refused("endpoints", .array(Array(many.prefix(8)))))
        for address in ["example.com", "192.0.2.01", "FE80::1", "fe80:0::1"] {
            #expect(refused("endpoints", [["address": .string(address), "port": 1]]), "\(address)")
        }
        #expect(refused("endpoints", [["address": "192.0.2.1", "port": 0]]))
    }
}
