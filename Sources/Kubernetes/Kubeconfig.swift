import Bytes
import Crypto

extension NodeConfiguration {
    /// The components that talk to the API server with a certificate of their own.
    static func kubeconfigs(_ role: NodeRole) -> [NodeCertificate] {
        [.kubelet, .kubeProxy, .dns] + (role == .controlPlane ? [.controllerManager, .scheduler] : [])
    }

    /// Names the files, so that who reloads them finds renewed ones.
    func kubeconfig(_ name: NodeCertificate) -> JSON {
        Kubeconfig.document(
            server: apiServer, cluster: ["certificate-authority": .string("\(Self.pki)/ca.crt")],
            user: [
                "client-certificate": .string("\(Self.pki)/\(name.rawValue).crt"),
                "client-key": .string("\(Self.pki)/\(name.rawValue).key"),
            ], userName: name.rawValue)
    }
}

/// kubectl's and every client's configuration (`v1`, kind `Config`), written as JSON.
public enum Kubeconfig {
    static func document(
        server: String, cluster: [String: JSON], user: [String: JSON], userName: String, clusterName: String = "nacre"
    ) -> JSON {
        let context = "\(userName)@\(clusterName)"
        return [
            "apiVersion": "v1", "kind": "Config", "current-context": .string(context), "preferences": .object([:]),
            "clusters": [
                [
                    "name": .string(clusterName),
                    "cluster": .object(cluster.merging(["server": .string(server)]) { _, own in own }),
                ]
            ],
            "contexts": [
                [
                    "name": .string(context),
                    "context": ["cluster": .string(clusterName), "user": .string(userName)],
                ]
            ],
            "users": [["name": .string(userName), "user": .object(user)]],
        ]
    }

    /// With everything inside, for the owner's machine.
    public static func embedded(
        server: String, authority: Certificate, certificate: Certificate, key: PrivateKey, userName: String,
        clusterName: String
    ) throws(CryptoError) -> Secret {
        // No base64 has this in it; the key goes in where it stands, from one secret to the other.
        let mark = "<key>"
        let text = document(
            server: server, cluster: ["certificate-authority-data": .base64(Array(authority.pem.utf8))],
            user: [
                "client-certificate-data": .base64(Array(certificate.pem.utf8)), "client-key-data": .string(mark),
            ], userName: userName, clusterName: clusterName
        ).pretty
        let parts = text.split(separator: mark, maxSplits: 1)
        guard parts.count == 2 else { throw CryptoError(.form, "a name that cannot stand in a kubeconfig") }
        return try key.secret().base64.framed(String(parts[0]), String(parts[1]))
    }
}
