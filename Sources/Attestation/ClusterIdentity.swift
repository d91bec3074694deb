import Bytes
import Crypto
import Manifest

/// Which cluster a node belongs to and whose that is: what a node extends into register 15 (on TDX also RTMR 3), once per
/// boot, before it starts anything of the cluster.
public struct ClusterIdentity: Sendable, Equatable, Hashable {
    /// The register that takes it, beside systemd's own machine identity events (UAPI.7, "PCR 15").
    public static let register = 15
    private static let label = "nacre-cluster"

    /// 32 bytes, public, derived from the cluster secret.
    public let clusterID: [UInt8]
    /// SHA-256 over the owner key's SubjectPublicKeyInfo.
    public let owner: [UInt8]

    /// - Throws: `parse-length` for anything but twice 32 bytes.
    public init(clusterID: [UInt8], owner: [UInt8]) throws(ParseError) {
        for (name, bytes) in [("id", clusterID), ("owner", owner)] where bytes.count != 32 {
            throw ParseError("length", field: "cluster.\(name)", offset: 0, "\(bytes.count) bytes, must be 32")
        }
        self.clusterID = clusterID
        self.owner = owner
    }

    /// The event's text, whose bytes are hashed: `nacre-cluster:<id>:<owner>`, lower-case hexadecimal.
    public var event: String { "\(Self.label):\(Hex.encode(clusterID)):\(Hex.encode(owner))" }

    /// `value` of a register of `bank` after this was measured into it.
    public func extending(_ value: [UInt8], _ bank: HashAlgorithm) -> [UInt8] {
        bank.hash(value + bank.hash(Array(event.utf8)))
    }

    /// The event as an explanation of the register lists it.
    var part: Measurements.EventPart {
        let digests = HashAlgorithm.allCases.map { ($0, $0.hash(Array(event.utf8))) }
        return Measurements.EventPart(
            register: "tpm/\(Self.register)", type: Self.label, what: "cluster \(Hex.encode(clusterID))",
            digests: Dictionary(uniqueKeysWithValues: digests))
    }

    public var json: JSON { ["id": .hex(clusterID), "owner": .hex(owner)] }

    public init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        try self.init(
            clusterID: try fields.hex("id", count: 32), owner: try fields.hex("owner", count: 32))
        try fields.end()
    }
}

/// What a relying party knows of the cluster that a node should be in.
public enum ClusterExpectation: Sendable, Equatable {
    /// Nothing: the node's own word must agree with its registers, and the verdict lists it as unchecked.
    case unspecified
    /// In none: its registers are as they started.
    case none
    case member(ClusterIdentity)
    /// In none yet, or in this one already.
    case noneOr(ClusterIdentity)
    /// In this cluster, whoever its owner is.
    case cluster([UInt8])

    var isSpecified: Bool { self != .unspecified }
}

extension Appraisal {
    /// The node's word on its cluster against what is expected; the registers are compared with that word later.
    mutating func checkCluster() throws(Finding) {
        let claimed = evidence.cluster
        let source = "the relying party's cluster"
        switch cluster {
        case .unspecified: break
        case .none: if claimed != nil { throw otherCluster("in no cluster yet", "cluster-initialised", source) }
        case .member(let identity): try require(identity, source)
        case .noneOr(let identity): if claimed != nil { try require(identity, source) }
        case .cluster(let id):
            guard let claimed else { throw otherCluster(Hex.encode(id), "cluster-missing", source) }
            guard constantTimeEqual(claimed.clusterID, id) else {
                throw otherCluster(Hex.encode(id), "cluster-other", source)
            }
        }
        if let claimed, account == .full { claims["cluster"] = claimed.json }
    }

    private func require(_ identity: ClusterIdentity, _ source: String) throws(Finding) {
        guard let claimed = evidence.cluster else {
            throw otherCluster(Hex.encode(identity.clusterID), "cluster-missing", source)
        }
        guard constantTimeEqual(claimed.clusterID, identity.clusterID) else {
            throw otherCluster(Hex.encode(identity.clusterID), "cluster-other", source)
        }
        guard constantTimeEqual(claimed.owner, identity.owner) else {
            throw Finding(
                "cluster-other-owner", claim: "evidence.cluster.owner", expected: Hex.encode(identity.owner),
                actual: Hex.encode(claimed.owner), source: source,
                next: "another owner key was proved to this node first: restart it, and initialise it anew")
        }
    }

    private func otherCluster(_ expected: String, _ reason: String, _ source: String) -> Finding {
        let next =
            switch reason {
            case "cluster-missing": "initialise the node first: nacre init"
            case "cluster-initialised": "it takes part in a cluster since it started: restart it to change that"
            default: "the node belongs to another cluster"
            }
        return Finding(
            reason, claim: "evidence.cluster", expected: expected,
            actual: evidence.cluster.map { "in cluster \(Hex.encode($0.clusterID))" } ?? "in no cluster",
            source: source, next: next)
    }

    /// After all registers: whether one of them showed what the node says of its cluster.
    mutating func concludeCluster() throws(Finding) {
        guard isClusterProved else {
            guard !cluster.isSpecified else {
                throw Finding(
                    "register-missing", claim: "cluster", expected: "register 15 of a TPM, or RTMR 3, judged",
                    actual: "neither", source: "the relying party's cluster",
                    next: "without a register that shows the cluster, nothing can be said about it")
            }
            if evidence.cluster != nil { unchecked.append("cluster: no judged register shows it") }
            return
        }
        guard let claimed = evidence.cluster else {
            if cluster.isSpecified { held("cluster", "in none yet") }
            return
        }
        guard account == .full else { return }
        let name = "\(Hex.encode(claimed.clusterID).prefix(16))…, owner \(Hex.encode(claimed.owner).prefix(16))…"
        if cluster.isSpecified {
            held("cluster", name)
        } else {
            unchecked.append("cluster: the node is in \(name); nobody said which to expect")
        }
    }
}
