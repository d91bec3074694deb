import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// The authorities of a cluster, derived from its secret: every control plane has the same keys, and none is ever stored.
///
/// | what | info of the derivation | bytes |
/// |---|---|---|
/// | an authority's key, P-256 | `nacre/v1/pki/<authority>/<epoch>` | 48 |
/// | the key of a node's own authority `client`, P-256 | `nacre/v1/pki/client/<node>/<epoch>` | 48 |
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
    /// Of which the nodes' own authorities are derived when they are asked for.
    private let derive: @Sendable (_ name: String) throws(CryptoError) -> PrivateKey

    public init(_ secret: borrowing ClusterSecret, epoch: Int = 1) throws(Finding) {
        self.epoch = epoch
        do {
            var issuers: [ClusterAuthorityName: CertificateIssuer] = [:]
            for name in ClusterAuthorityName.allCases where name != .client {
                issuers[name] = try CertificateIssuer(
                    key: try Self.key(secret, name.rawValue, epoch), commonName: name.commonName(epoch: epoch))
            }
            self.issuers = issuers
            serviceAccount = try Self.key(secret, "service-account", epoch)
        } catch { throw Self.finding(error) }
        encryption = SecretContents(secret.derived("encryption/\(epoch)", count: 32))
        let held = HeldSecret(secret.copy())
        derive = { (name) throws(CryptoError) in try Self.key(held.secret, name, epoch) }
    }

    /// Shared by copies of the authority, wiped with the last of them.
    private final class HeldSecret: Sendable {
        let secret: ClusterSecret
        init(_ secret: consuming ClusterSecret) { self.secret = secret }
    }

    private static func key(
        _ secret: borrowing ClusterSecret, _ name: String, _ epoch: Int
    ) throws(CryptoError) -> PrivateKey {
        try PrivateKey(p256From: secret.derived("pki/\(name)/\(epoch)", count: 48))
    }

    /// An authority's certificate as of `time`; `client` has one for each node instead.
    public func certificate(_ name: ClusterAuthorityName, at time: Instant) throws(Finding) -> Certificate {
        do { return try Self.dated(try issuer(name), time) } catch { throw Self.finding(error) }
    }

    /// The certificate of a node's own authority `client` as of `time`.
    public func clientCertificate(
        of node: NodeName, _ index: NodeIndex, at time: Instant
    ) throws(Finding) -> Certificate {
        do { return try Self.dated(try clientIssuer(node, index), time) } catch { throw Self.finding(error) }
    }

    private static func dated(_ issuer: CertificateIssuer, _ time: Instant) throws(CryptoError) -> Certificate {
        try issuer.certificate(
            notBefore: Instant(seconds: time.seconds - 86400),
            notAfter: Instant(seconds: time.seconds + authorityLifetime))
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
        do {
            let issuer = name.authority == .client ? try clientIssuer(node, index) : try issuer(name.authority)
            return try issuer.issue(template, for: key)
        } catch { throw Self.finding(error) }
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
            let issuer = try issuer(.kubernetes)
            return try Kubeconfig.embedded(
                server: server, authority: try Self.dated(issuer, time),
                certificate: try issuer.issue(template, for: key.publicKey),
                key: key, userName: "owner", clusterName: clusterName)
        } catch { throw Finding("key-form", claim: "kubeconfig", actual: error.message) }
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

    private func clientIssuer(_ node: NodeName, _ index: NodeIndex) throws(CryptoError) -> CertificateIssuer {
        try CertificateIssuer(
            key: try derive("\(ClusterAuthorityName.client.rawValue)/\(node)"),
            commonName: ClusterAuthorityName.clientName(of: index, epoch: epoch))
    }

    private static func finding(_ error: CryptoError) -> Finding {
        Finding("key-form", claim: "cluster authority", actual: error.message)
    }
}
