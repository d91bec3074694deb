import Bytes

/// Where a node's WireGuard can be reached, as its kernel says in /proc and /sys.
public struct NodeNetwork: Sendable, Equatable {
    /// Hints for the other nodes, at most `MeshEndpoint.maximumCount`, the usual first.
    public let endpoints: [MeshEndpoint]
    /// The card through which other nodes' link-local addresses are reached.
    public let linkLocalInterface: String?

    /// Link-local addresses count only for a card that has no other: where there is a network with routes, nodes are in it.
    ///
    /// - Parameters:
    ///   - cards: names of the machine's own network cards, without bridges, tunnels and pods' ends.
    ///   - routes: /proc/net/route.
    ///   - tree: /proc/net/fib_trie, whose local addresses are this machine's.
    ///   - ipv6: /proc/net/if_inet6.
    public init(cards: Set<String>, routes: String, tree: String, ipv6: String) {
        var routed: Set<String> = []
        for line in routes.split(separator: "\n").dropFirst() {
            if let name = line.split(whereSeparator: \.isWhitespace).first.map(String.init), cards.contains(name) {
                routed.insert(name)
            }
        }
        var found: [IPAddress] = routed.isEmpty ? [] : Self.localAddresses(tree)
        var linkLocal: [(address: IPAddress, card: String)] = []
        for line in ipv6.split(separator: "\n") {
            // Address, index, prefix, scope, flags, name.
            let words = line.split(separator: " ").map(String.init)
            guard words.count == 6, cards.contains(words[5]), let bytes = Hex.decode(words[0]),
                let address = IPAddress(bytes: bytes), let flags = UInt32(words[4], radix: 16)
            else { continue }
            // Neither tentative nor found to be somebody else's (IFA_F_TENTATIVE, IFA_F_DADFAILED).
            guard flags & 0x48 == 0 else { continue }
            switch words[3] {
            case "00":
                found.append(address)
                routed.insert(words[5])
            case "20": linkLocal.append((address, words[5]))
            default: break
            }
        }
        linkLocal = linkLocal.filter { !routed.contains($0.card) }.sorted { $0.card < $1.card }
        found += linkLocal.map(\.address)
        var different: [IPAddress] = []
        for address in found where !different.contains(address) { different.append(address) }
        endpoints = different.prefix(MeshEndpoint.maximumCount).map {
            MeshEndpoint(address: $0, port: NetworkPlan.wireGuardPort)
        }
        linkLocalInterface = linkLocal.first?.card
    }

    /// Lines `|-- ADDRESS`, each followed by a line that says what it is. Without loopback and the cluster's own networks.
    private static func localAddresses(_ tree: String) -> [IPAddress] {
        var last: IPAddress?
        var found: [IPAddress] = []
        for line in tree.split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            if words.first == "|--" {
                last = words.count == 2 ? IPAddress(words[1]) : nil
            } else if words == ["/32", "host", "LOCAL"], let address = last, !NetworkPlan.isOwn(address) {
                found.append(address)
            }
        }
        return found
    }
}

extension NetworkPlan {
    /// An IPv4 address of loopback or of a network that exists only inside the cluster.
    static func isOwn(_ address: IPAddress) -> Bool {
        guard address.isIPv4 else { return false }
        let bytes = address.bytes
        switch bytes[0] {
        case 127: return true
        case 10: return bytes[1] == 200 || bytes[1] == 96 || bytes[1] & 0xFC == 244
        default: return false
        }
    }
}
