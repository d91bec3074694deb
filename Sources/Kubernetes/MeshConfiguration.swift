import Bytes
import Crypto
import DiskFormat

/// Where a node's WireGuard can be reached: an address and a port, never a name that somebody else resolves.
public struct MeshEndpoint: Sendable, Hashable, CustomStringConvertible {
    /// As many as a node may say it has.
    public static let maximumCount = 8

    public let address: IPAddress
    public let port: UInt16

    public init(address: IPAddress, port: UInt16) {
        self.address = address
        self.port = port
    }

    public var description: String { address.isIPv4 ? "\(address):\(port)" : "[\(address)]:\(port)" }

    public var json: JSON { ["address": .string("\(address)"), "port": .integer(Int128(port))] }

    public init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        let text = try fields.string("address")
        let number = try fields.integer("port")
        try fields.end()
        // In the one form that it is written in: what is signed or compared is the same everywhere.
        guard let address = IPAddress(text), address.description == text, let port = UInt16(exactly: number), port > 0
        else { throw ParseError("form", field: path, offset: 0, "must be an IP address and a port") }
        (self.address, self.port) = (address, port)
    }

    /// At most `maximumCount`, none of them twice.
    public static func list(_ values: [JSON], path: String) throws(ParseError) -> [MeshEndpoint] {
        guard values.count <= maximumCount else {
            throw ParseError("range", field: path, offset: 0, "\(values.count) endpoints, at most \(maximumCount)")
        }
        var list: [MeshEndpoint] = []
        for value in values {
            let endpoint = try MeshEndpoint(json: value, path: "\(path)[]")
            guard !list.contains(endpoint) else {
                throw ParseError("form", field: path, offset: 0, "\(endpoint) stands twice")
            }
            list.append(endpoint)
        }
        return list
    }
}

/// Another node as WireGuard sees it.
public struct MeshPeer: Sendable, Equatable {
    public let name: NodeName
    public let index: NodeIndex
    /// X25519, 32 bytes.
    public let publicKey: [UInt8]
    public let endpoints: [MeshEndpoint]

    public init(name: NodeName, index: NodeIndex, publicKey: [UInt8], endpoints: [MeshEndpoint]) {
        self.name = name
        self.index = index
        self.publicKey = publicKey
        self.endpoints = endpoints
    }

    public var json: JSON {
        [
            "name": .string("\(name)"), "index": .integer(Int128(index.number)), "key": .base64(publicKey),
            "endpoints": .array(endpoints.map(\.json)),
        ]
    }

    public init(json: JSON, path: String) throws(ParseError) {
        var fields = try JSONFields(json, path: path)
        name = try fields.nodeName("name")
        index = try fields.nodeIndex("index")
        publicKey = try fields.wireGuardKey("key")
        endpoints = try MeshEndpoint.list(try fields.array("endpoints"), path: "\(path).endpoints")
        try fields.end()
    }
}

extension JSONFields {
    package mutating func nodeIndex(_ key: String) throws(ParseError) -> NodeIndex {
        let number = try integer(key)
        guard let index = NodeIndex(number) else {
            throw ParseError("range", field: key, offset: 0, "\(number) is no node's index")
        }
        return index
    }

    /// 32 bytes that are not all zeros.
    package mutating func wireGuardKey(_ key: String) throws(ParseError) -> [UInt8] {
        let bytes = try base64(key)
        guard bytes.count == X25519Pair.size, bytes.contains(where: { $0 != 0 }) else {
            throw ParseError("form", field: key, offset: 0, "not a WireGuard key")
        }
        return bytes
    }
}

/// What `wg setconf` and `wg syncconf` (wg(8)) make of a node.
public struct MeshConfiguration: Sendable {
    /// This node's own key, born here.
    public let key: SecretContents
    public let publicKey: [UInt8]
    public var peers: [MeshPeer]
    /// The interface through which link-local addresses are reached; without one they are left out.
    public var linkLocalInterface: String?

    /// A node without peers and with a new key.
    public init(linkLocalInterface: String? = nil) throws(CryptoError) {
        let pair = try X25519Pair()
        publicKey = pair.published
        key = SecretContents(Secret(pair.secret, from: 0, count: pair.secret.count))
        peers = []
        self.linkLocalInterface = linkLocalInterface
    }

    /// `/run/nacre/mesh/wg0.conf`.
    public var file: NodeFile {
        var rest = "\nListenPort = \(NetworkPlan.wireGuardPort)\n"
        for peer in peers.sorted(by: { $0.index < $1.index }) {
            rest += "\n[Peer]\nPublicKey = \(Base64.encode(peer.publicKey))\n"
            rest += "AllowedIPs = \(peer.index.address)/32, \(peer.index.podRange)\n"
            if let endpoint = peer.endpoints.lazy.compactMap({ reachable($0) }).first {
                rest += "Endpoint = \(endpoint)\n"
            }
            rest += "PersistentKeepalive = 25\n"
        }
        return NodeFile("/run/nacre/mesh/wg0.conf", key.secret.base64.framed("[Interface]\nPrivateKey = ", rest))
    }

    /// WireGuard takes one endpoint and follows the peer from there.
    private func reachable(_ endpoint: MeshEndpoint) -> String? {
        guard endpoint.address.isLinkLocal else { return "\(endpoint)" }
        guard let linkLocalInterface else { return nil }
        return "[\(endpoint.address)%\(linkLocalInterface)]:\(endpoint.port)"
    }
}
