import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// The authorities of a cluster, derived from its secret: every control plane has the same keys, and none is ever stored.
///
/// | what | info of the derivation | bytes |
/// |---|---|---|
/// | an authority's key, P-256 | `nacre/v1/pki/<authority>/<epoch>` | 48 |
/// | the key that signs service accounts' tokens, P-256 | `nacre/v1/pki/service-account/<epoch>` | 48 |
/// | the key of secrets at rest | `nacre/v1/encryption/<epoch>` | 32 |
public struct ClusterAuthority: Sendable {
    /// Seconds before the present from which certificates hold: other nodes' clocks may be behind.
    public static let backdating: Int64 = 300
    /// Seconds for which an authority's own certificate holds. It is made anew at each boot and renewal, with the same name
    /// and key; copies that pods were given stay good for this long.
    public static let authorityLifetime: Int64 = 366 * 86400

    public let epoch: Int
    private let issuers: [ClusterAuthorityName: CertificateIssuer]
    private let serviceAccount: PrivateKey
    private let encryption: SecretContents

    public init(_ secret: borrowing ClusterSecret, epoch: Int = 1) throws(Finding) {
        self.epoch = epoch
        do {
            var issuers: [ClusterAuthorityName: CertificateIssuer] = [:]
            for name in ClusterAuthorityName.allCases {
                issuers[name] = try CertificateIssuer(
                    key: try Self.key(secret, name.rawValue, epoch), commonName: name.commonName(epoch: epoch))
            }
            self.issuers = issuers
            serviceAccount = try Self.key(secret, "service-account", epoch)
        } catch { throw Self.finding(error) }
        encryption = SecretContents(secret.derived("encryption/\(epoch)", count: 32))
    }

    private static func key(
        _ secret: borrowing ClusterSecret, _ name: String, _ epoch: Int
    ) throws(CryptoError) -> PrivateKey {
        try PrivateKey(p256From: secret.derived("pki/\(name)/\(epoch)", count: 48))
    }

    /// An authority's certificate as of `time`.
    public func certificate(_ name: ClusterAuthorityName, at time: Instant) throws(Finding) -> Certificate {
        do {
            return try issuer(name).certificate(
                notBefore: Instant(seconds: time.seconds - 86400),
                notAfter: Instant(seconds: time.seconds + Self.authorityLifetime))
        } catch { throw Self.finding(error) }
    }

    /// A certificate of a node for `lifetime` seconds from `time` on.
    public func issue(
        _ name: NodeCertificate, node: NodeName, index: NodeIndex, apiNames: [CertificateTemplate.Name] = [],
        for key: PublicKey, at time: Instant, lifetime: Int
    ) throws(Finding) -> Certificate {
        let template = name.template(
            node: node, index: index, apiNames: apiNames,
            notBefore: Instant(seconds: time.seconds - Self.backdating),
            notAfter: Instant(seconds: time.seconds + Int64(lifetime)))
        do { return try issuer(name.authority).issue(template, for: key) } catch { throw Self.finding(error) }
    }

    /// kubectl's configuration for the cluster's owner, who has the secret: a new key, and a certificate for it.
    public func ownerKubeconfig(
        server: String, clusterName: String, at time: Instant, lifetime: Int
    ) throws(Finding) -> Secret {
        let template = CertificateTemplate(
            commonName: "nacre:owner", organizations: ["system:masters"], purpose: .client,
            notBefore: Instant(seconds: time.seconds - Self.backdating),
            notAfter: Instant(seconds: time.seconds + Int64(lifetime)))
        do {
            let key = try PrivateKey(generating: .p256)
            return try Kubeconfig.embedded(
                server: server, authority: try certificate(.kubernetes, at: time),
                certificate: try issuer(.kubernetes).issue(template, for: key.publicKey), key: key, userName: "owner",
                clusterName: clusterName)
        } catch let finding as Finding {
            throw finding
        } catch { throw Finding("key-form", claim: "kubeconfig", actual: "\(error)") }
    }

    /// What control planes alone have, in each of them the same.
    var planeKeys: NodeConfiguration.PlaneKeys {
        NodeConfiguration.PlaneKeys(
            serviceAccount: serviceAccount, encryption: encryption, encryptionEpoch: epoch)
    }

    private func issuer(_ name: ClusterAuthorityName) throws(CryptoError) -> CertificateIssuer {
        guard let issuer = issuers[name] else { throw CryptoError(.form, "no authority \(name.rawValue)") }
        return issuer
    }

    private static func finding(_ error: CryptoError) -> Finding {
        Finding("key-form", claim: "cluster authority", actual: error.message)
    }
}
