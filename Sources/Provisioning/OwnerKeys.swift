import Attestation
import Bytes
import Cluster
import Crypto
import Host

/// The owner's sealed files of a cluster's directory: `owner.key` and `cluster.secret`, 0600, `nacre.sealed.v1`.
extension LocalCluster {
    private var ownerKeyPath: String { "\(directory)/owner.key" }
    private var clusterSecretPath: String { "\(directory)/cluster.secret" }

    /// Whether the cluster has an owner, whose passphrase is needed from then on.
    public var hasOwner: Bool { HostFiles.exists(ownerKeyPath) || HostFiles.exists(clusterSecretPath) }

    /// The owner key, to ask nodes.
    public func ownerKey(passphrase: borrowing Secret) throws(Finding) -> OwnerKey {
        try OwnerKey(opening: try sealed(ownerKeyPath), passphrase: passphrase)
    }

    /// The cluster secret, to make or recover nodes.
    public func clusterSecret(passphrase: borrowing Secret) throws(Finding) -> ClusterSecret {
        let document = try sealed(clusterSecretPath)
        guard document.content == .clusterSecret else {
            throw Finding(
                "parse-form", claim: clusterSecretPath, expected: SealedDocument.Content.clusterSecret.rawValue,
                actual: document.content.rawValue)
        }
        let packed = try document.open(passphrase: passphrase)
        let secret: ClusterSecret
        do { secret = try ClusterSecret(packed: packed) } catch { throw error.finding }
        guard secret.clusterID == document.identifier else {
            throw Finding("key-kind", claim: clusterSecretPath, expected: "the cluster that the file names")
        }
        return secret
    }

    /// Makes what is missing of both, sealed, and writes the cluster's identity down; whole again after any interruption.
    ///
    /// - Parameter logN: what each guess of the passphrase costs (`SealedDocument`).
    /// - Returns: the directory's cluster with its identity.
    public func makeOwner(
        passphrase: borrowing Secret, logN: Int = SealedDocument.standardLogN, report: (Progress) -> Void
    ) throws(Finding) -> ClusterDocument {
        let lock = try lock("nacre init") { report(.note("waiting for another command here: \($0)")) }
        defer { lock.keep() }
        guard var document = try document() else {
            throw Finding("local-absent", claim: directory, expected: "a cluster", actual: "none", next: "nacre create")
        }
        let id: [UInt8]
        if HostFiles.exists(clusterSecretPath) {
            id = try clusterSecret(passphrase: passphrase).clusterID
        } else {
            try refuseLoss(of: clusterSecretPath, in: document)
            let secret = ClusterSecret()
            id = secret.clusterID
            let sealed = try SealedDocument(
                sealing: secret.packed, .clusterSecret, identifier: id, passphrase: passphrase, logN: logN)
            try HostFiles.write(clusterSecretPath, Array(sealed.json.pretty.utf8), mode: 0o600)
            report(.note("made the cluster secret, sealed in \(clusterSecretPath)"))
        }
        let owner: OwnerKey
        if HostFiles.exists(ownerKeyPath) {
            owner = try ownerKey(passphrase: passphrase)
        } else {
            try refuseLoss(of: ownerKeyPath, in: document)
            owner = try OwnerKey()
            let sealed = try owner.sealed(passphrase: passphrase, logN: logN)
            try HostFiles.write(ownerKeyPath, Array(sealed.json.pretty.utf8), mode: 0o600)
            report(.note("made the owner key, sealed in \(ownerKeyPath)"))
        }
        let identity: ClusterIdentity
        do { identity = try ClusterIdentity(clusterID: id, owner: owner.digest) } catch { throw error.finding }
        if let present = document.identity, present != identity {
            throw Finding(
                "cluster-other", claim: documentPath, expected: Hex.encode(present.clusterID), actual: Hex.encode(id),
                source: "the sealed files", next: "these keys are not the ones this cluster was made with")
        }
        document.identity = identity
        try save(document)
        return document
    }

    /// With its identity written down, a cluster that lost a key must not silently get another.
    private func refuseLoss(of path: String, in document: ClusterDocument) throws(Finding) {
        guard document.identity == nil else {
            throw Finding(
                "sealed-missing", claim: path, expected: "the sealed file", actual: "not there", source: documentPath,
                next: "restore it from your backup; without it the cluster's disks cannot be opened again")
        }
    }

    private func sealed(_ path: String) throws(Finding) -> SealedDocument {
        guard HostFiles.exists(path) else {
            throw Finding(
                "sealed-missing", claim: path, expected: "the sealed file", actual: "not there",
                next: "run nacre init first")
        }
        let bytes = try HostFiles.read(path, limit: SealedDocument.maximumSize)
        do { return try SealedDocument(parsing: bytes) } catch { throw error.finding }
    }

    func removeKeys() throws(Finding) {
        try HostFiles.remove(ownerKeyPath)
        try HostFiles.remove(clusterSecretPath)
        try HostFiles.remove(kubeconfigPath)
        try removePolicy()
    }
}

extension LocalCluster {
    /// kubectl's configuration for the cluster's owner, 0600: its key is not sealed, as kubectl has to read it.
    public var kubeconfigPath: String { "\(directory)/kubeconfig" }
    /// Seconds for which the owner's certificate holds; each init and up makes a new one.
    static let kubeconfigLifetime = 30 * 86400

    /// Writes the owner's kubeconfig with a new key.
    ///
    /// - Returns: its path.
    @discardableResult
    public func writeKubeconfig(_ secret: borrowing ClusterSecret) throws(Finding) -> String {
        let lock = try lock("nacre init") { _ in }
        defer { lock.keep() }
        guard let document = try document(), let identity = document.identity,
            let port = document.nodes.lazy.compactMap(\.apiPort).first
        else {
            throw Finding("cluster-missing", claim: directory, expected: "a control plane of a cluster", actual: "none")
        }
        let config = try ClusterAuthority(secret).ownerKubeconfig(
            server: "https://127.0.0.1:\(port)", clusterName: "nacre-\(Hex.encode(identity.clusterID.prefix(4)))",
            at: .now, lifetime: Self.kubeconfigLifetime)
        try HostFiles.write(kubeconfigPath, secret: config)
        return kubeconfigPath
    }
}

extension LocalCluster {
    /// `logs/<node>.log`, what the node's own log held when it was last read.
    public func saveLog(_ text: String, of node: String) throws(Finding) {
        try HostFiles.makeDirectory("\(directory)/logs")
        try HostFiles.write("\(directory)/logs/\(node).log", Array(text.utf8), mode: 0o600)
    }
}
