import Bytes

/// What Kubernetes' own components are configured with; one form for all supported versions.
extension NodeConfiguration {
    /// KubeletConfiguration (kubelet.config.k8s.io/v1beta1). `containerRuntimeEndpoint` is read from 1.27 on and only
    /// warned about before.
    var kubelet: JSON {
        [
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "address": .string("\(index.address)"), "cgroupDriver": "systemd",
            "authentication": [
                "anonymous": ["enabled": false],
                // How long a revoked caller is still known.
                "webhook": ["enabled": true, "cacheTTL": "5s"],
                // API servers, and no other node.
                "x509": ["clientCAFile": .string("\(Self.pki)/kubelet-client-ca.crt")],
            ],
            "authorization": [
                "mode": "Webhook",
                "webhook": ["cacheAuthorizedTTL": "5s", "cacheUnauthorizedTTL": "5s"],
            ],
            "clusterDNS": [.string("\(NetworkPlan.clusterDNS)")],
            "clusterDomain": .string(NetworkPlan.clusterDomain),
            "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
            "failSwapOn": false, "healthzBindAddress": "127.0.0.1", "makeIPTablesUtilChains": true,
            "podPidsLimit": 4096, "protectKernelDefaults": true, "readOnlyPort": 0,
            "resolvConf": "/run/systemd/resolve/resolv.conf", "rotateCertificates": false,
            "serverTLSBootstrap": false, "streamingConnectionIdleTimeout": "4h0m0s",
            "systemReserved": ["cpu": "100m", "memory": "256Mi"],
            "tlsCertFile": .string("\(Self.pki)/kubelet-server.crt"), "tlsMinVersion": "VersionTLS13",
            "tlsPrivateKeyFile": .string("\(Self.pki)/kubelet-server.key"),
            "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        ]
    }

    /// KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
    var kubeProxy: JSON {
        [
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
            "clientConnection": ["kubeconfig": .string("\(Self.directory)/kube-proxy.kubeconfig")],
            "clusterCIDR": .string(NetworkPlan.clusterRange), "conntrack": ["maxPerCore": 0],
            "healthzBindAddress": "127.0.0.1:10256", "metricsBindAddress": "127.0.0.1:10249", "mode": "iptables",
        ]
    }

    /// CNI network configuration list 0.4.0: pods of this node on a bridge, those of others through the mesh.
    var network: JSON {
        [
            "cniVersion": "0.4.0", "name": "nacre",
            "plugins": [
                [
                    "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
                    "mtu": .integer(Int128(NetworkPlan.maximumTransmissionUnit)),
                    "ipam": [
                        "type": "host-local", "dataDir": "/run/cni/ipam",
                        "ranges": [[["subnet": .string(index.podRange)]]], "routes": [["dst": "0.0.0.0/0"]],
                    ],
                ],
                ["type": "portmap", "capabilities": ["portMappings": true]],
            ],
        ]
    }

    /// Values of Cilium's chart for `cni: cilium`: it encrypts what pods send, over the mesh that encrypts all of it.
    public static func ciliumValues(apiServer: NodeIndex) -> JSON {
        [
            "MTU": .integer(Int128(NetworkPlan.maximumTransmissionUnit - 80)),
            "encryption": [
                "enabled": true, "type": "wireguard", "nodeEncryption": true,
                "strictMode": [
                    "enabled": true, "cidr": .string(NetworkPlan.clusterRange), "allowRemoteNodeIdentities": false,
                ],
            ],
            "ipam": [
                "mode": "cluster-pool",
                "operator": [
                    "clusterPoolIPv4PodCIDRList": [.string(NetworkPlan.clusterRange)], "clusterPoolIPv4MaskSize": 24,
                ],
            ],
            "devices": "wg0", "k8sServiceHost": .string("\(apiServer.address)"),
            "k8sServicePort": .integer(Int128(NetworkPlan.apiPort)), "kubeProxyReplacement": false,
        ]
    }
}
