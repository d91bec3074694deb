import Bytes
import Crypto
import DiskFormat
import Testing

@testable import Kubernetes

@Suite("The addresses of a cluster")
struct PlanTests {
    @Test("an index is an address in the mesh and a network for pods, all of them different")
    func indexes() throws {
        let first = try #require(NodeIndex(1))
        #expect("\(first.address)" == "10.200.0.1" && first.podRange == "10.244.0.0/24")
        let last = try #require(NodeIndex(1024))
        #expect("\(last.address)" == "10.200.4.0" && last.podRange == "10.247.255.0/24")
        let many = try #require(NodeIndex(257))
        #expect("\(many.address)" == "10.200.1.1" && many.podRange == "10.245.0.0/24")
        let all = (1...1024).compactMap { NodeIndex($0) }
        #expect(all.count == 1024)
        #expect(Set(all.map(\.address)).count == 1024 && Set(all.map(\.podRange)).count == 1024)
        for number in [0, -1, 1025, Int.max] { #expect(NodeIndex(number) == nil) }
    }

    @Test("units wait only for units that are started before them, on every role")
    func order() {
        for role in NodeRole.allCases {
            var started: Set<NodeUnit> = []
            for unit in NodeUnit.order(for: role) {
                #expect(started.isSuperset(of: unit.waits), "\(unit) on \(role)")
                started.insert(unit)
            }
            #expect(started.contains(.etcd) == (role == .controlPlane))
            #expect(started.contains(.kubelet) && started.contains(.firewall))
        }
    }
}

@Suite("The certificates of a node")
struct NodeCertificateTests {
    @Test("a worker may have its own four and the mesh's; a control plane all")
    func roles() throws {
        let worker = NodeCertificate.allowed(for: .worker)
        #expect(worker.map(\.rawValue) == ["mesh", "kubelet", "kubelet-server", "kube-proxy", "dns"])
        #expect(Set(NodeCertificate.allowed(for: .controlPlane)) == Set(NodeCertificate.allCases))
        // Nothing that a worker has speaks for etcd, for aggregated servers, or for an administrator.
        for name in worker {
            let template = try Self.template(name)
            #expect([.kubernetes, .client, .mesh].contains(name.authority))
            #expect(!template.organizations.contains("system:masters"))
        }
        #expect(ClusterAuthorityName.known(to: .worker) == [.kubernetes, .client, .kubeletClient, .mesh])
    }

    static func template(_ name: NodeCertificate) throws -> CertificateTemplate {
        name.template(
            node: try #require(NodeName("worker-0")), index: try #require(NodeIndex(3)), notBefore: Instant(seconds: 1),
            notAfter: Instant(seconds: 2))
    }

    @Test("subjects are those that Kubernetes knows, with the node's group in every client's")
    func subjects() throws {
        let kubelet = try Self.template(.kubelet)
        #expect(kubelet.commonName == "system:node:worker-0")
        #expect(kubelet.organizations == ["system:nodes", "nacre:node:worker-0"] && kubelet.purpose == .client)
        #expect(try Self.template(.kubeProxy).commonName == "system:kube-proxy")
        #expect(try Self.template(.controllerManager).commonName == "system:kube-controller-manager")
        #expect(try Self.template(.scheduler).commonName == "system:kube-scheduler")
        #expect(try Self.template(.apiServerKubeletClient).organizations.contains("system:masters"))
        for name in NodeCertificate.allCases {
            let template = try Self.template(name)
            // By its authority a client can be refused; nothing that the API server's own authority signs is one.
            if name.authority == .client {
                #expect(template.purpose == .client && template.organizations.contains("nacre:node:worker-0"))
            } else if name.authority == .kubernetes {
                #expect(template.purpose == .server)
            }
        }
        // It may do anything to kubelets, which ask the API server about that group; the API server knows no such client.
        #expect(NodeCertificate.apiServerKubeletClient.authority == .kubeletClient)
        let api = try Self.template(.apiServer)
        for expected: CertificateTemplate.Name in [
            .dns("kubernetes.default.svc.cluster.local"), .ip(IPAddress(10, 96, 0, 1)), .ip(IPAddress(10, 200, 0, 3)),
            .ip(IPAddress(127, 0, 0, 1)), .dns("worker-0"),
        ] { #expect(api.names.contains(expected)) }
        // The longest name fits everywhere.
        let longest = try #require(NodeName(String(repeating: "a", count: NodeCertificate.maximumNodeName)))
        let first = try #require(NodeIndex(1))
        for name in NodeCertificate.allCases {
            let template = name.template(
                node: longest, index: first, notBefore: Instant(seconds: 1), notAfter: Instant(seconds: 2))
            for text in [template.commonName] + template.organizations { #expect(text.utf8.count <= 64) }
        }
    }
}
