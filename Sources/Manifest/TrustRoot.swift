import Bytes
import Crypto

/// The keys that may sign manifests, `nacre.trustroot.v1`; pinned by whoever verifies, never taken from a bundle.
public struct TrustRoot: Sendable, Equatable {
    public static let schema = "nacre.trustroot.v1"

    public enum Role: String, Sendable, CaseIterable {
        case owner
        /// A key that lies on a developer's disk: what it signs is marked, and production policies refuse it.
        case development
    }

    public struct Key: Sendable, Equatable {
        public let key: PublicKey
        public let role: Role

        public init(key: PublicKey, role: Role) {
            self.key = key
            self.role = role
        }
    }

    /// One to 16 keys, no key twice.
    public let keys: [Key]

    public init(keys: [Key]) throws(ParseError) {
        guard (1...16).contains(keys.count) else {
            throw ParseError("form", field: "trustroot.keys", offset: 0, "1 to 16 keys, found \(keys.count)")
        }
        guard Set(keys.map { $0.key.spki }).count == keys.count else {
            throw ParseError("form", field: "trustroot.keys", offset: 0, "a key stands twice")
        }
        guard keys.allSatisfy({ $0.key.manifestScheme != nil }) else {
            throw ParseError("form", field: "trustroot.keys", offset: 0, "only P-256, P-384 and Ed25519 keys")
        }
        self.keys = keys
    }

    /// The strict JSON document, or one PEM public key, which then counts as the owner's: naming it was the choice.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        if bytes.starts(with: "-----BEGIN".utf8) {
            try self.init(keys: [Key(key: try Self.key(bytes, "trustroot"), role: .owner)])
            return
        }
        var fields = try JSONFields(JSON(parsing: bytes, limit: 1 << 20), path: "trustroot")
        let schema = try fields.string("schema")
        guard schema == Self.schema else {
            throw ParseError("version", field: "trustroot.schema", offset: 0, "must be \(Self.schema), is \(schema)")
        }
        var keys: [Key] = []
        for entry in try fields.array("keys").prefix(17) {
            let path = "trustroot.keys[\(keys.count)]"
            var part = try JSONFields(entry, path: path)
            let name = try part.string("role")
            guard let role = Role(rawValue: name) else {
                throw ParseError("form", field: "\(path).role", offset: 0, "unknown role \(name)")
            }
            keys.append(Key(key: try Self.key(Array(part.string("publicKey").utf8), "\(path).publicKey"), role: role))
            try part.end()
        }
        try fields.end()
        try self.init(keys: keys)
    }

    public var json: JSON {
        [
            "schema": .string(Self.schema),
            "keys": .array(keys.map { ["role": .string($0.role.rawValue), "publicKey": .string($0.key.pem)] }),
        ]
    }

    private static func key(_ pem: [UInt8], _ path: String) throws(ParseError) -> PublicKey {
        do {
            return try PublicKey(pem: pem)
        } catch {
            throw ParseError("form", field: path, offset: 0, "not a PEM public key: \(error.message)")
        }
    }
}
