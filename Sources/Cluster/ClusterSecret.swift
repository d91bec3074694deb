import Bytes
import Crypto
import DiskFormat

/// The owner's 32 secret bytes from which everything of a cluster follows, with their salt. One KDF, HKDF-SHA256, info
/// `nacre/v1/<purpose>/…`.
public struct ClusterSecret: ~Copyable, Sendable {
    public static let secretSize = 32
    public static let saltSize = 32
    /// Secret and salt, as they are sealed and handed over.
    public static let packedSize = secretSize + saltSize

    private let secret: Secret
    public let salt: [UInt8]
    /// 32 bytes, public: the cluster's name.
    public let clusterID: [UInt8]

    /// A new cluster's.
    public init() { self.init(secret: Secret(random: Self.secretSize), salt: randomBytes(Self.saltSize)) }

    init(secret: consuming Secret, salt: [UInt8]) {
        clusterID = hkdfSHA256(key: secret, salt: salt, info: "nacre/v1/cluster-id", count: 32).published
        self.secret = secret
        self.salt = salt
    }

    /// - Throws: `parse-length` for anything but `packedSize` bytes.
    public init(packed: borrowing Secret) throws(ParseError) {
        guard packed.count == Self.packedSize else {
            throw ParseError("length", field: "cluster secret", offset: 0, "\(packed.count) bytes")
        }
        self.init(
            secret: Secret(packed, from: 0, count: Self.secretSize),
            salt: Secret(packed, from: Self.secretSize, count: Self.saltSize).published)
    }

    public var packed: Secret {
        Secret(count: Self.packedSize) { span in
            secret.withBytes { bytes in for index in 0..<Self.secretSize { span[index] = bytes[index] } }
            for index in 0..<Self.saltSize { span[Self.secretSize + index] = salt[index] }
        }
    }

    /// The key of a node's state disk in one epoch of it: 32 bytes.
    public func diskKey(node: NodeName, epoch: Int) -> Secret {
        hkdfSHA256(key: secret, salt: salt, info: "nacre/v1/disk/\(node)/\(epoch)", count: 32)
    }

    /// `count` bytes for `nacre/v1/<purpose>`.
    func derived(_ purpose: String, count: Int) -> Secret {
        hkdfSHA256(key: secret, salt: salt, info: "nacre/v1/\(purpose)", count: count)
    }

    /// The keys of several epochs, one after the other.
    func diskKeys(node: NodeName, epochs: [Int]) -> Secret {
        Secret(count: 32 * epochs.count) { span in
            for (index, epoch) in epochs.enumerated() {
                diskKey(node: node, epoch: epoch).withBytes { key in
                    for offset in key.indices { span[32 * index + offset] = key[offset] }
                }
            }
        }
    }

    /// A copy of its own.
    public func copy() -> ClusterSecret {
        ClusterSecret(secret: Secret(secret, from: 0, count: secret.count), salt: salt)
    }
}

extension Secret {
    /// The bytes where they are public by design: identifiers and salts.
    var published: [UInt8] { withBytes { bytes in (0..<bytes.count).map { bytes[$0] } } }
}

extension JSONFields {
    mutating func schema(_ expected: String) throws(ParseError) {
        let found = try string("schema")
        guard found == expected else {
            throw ParseError("version", field: "schema", offset: 0, "must be \(expected), is \(found)")
        }
    }
}
