import Bytes
import Crypto

/// The layer-2 network between the machines of one cluster: Ethernet frames in datagrams to a multicast group, on this host's
/// loopback alone. It needs no root, and anybody on this host can read and write it, as the host of a cloud can.
struct Segment: Equatable, Sendable {
    /// Administratively scoped (RFC 2365), 239.192.0.0/14.
    let group: IPAddress
    let port: UInt16
    private let instance: [UInt8]

    /// - Parameter instance: what tells this directory's cluster from the others of this host.
    init(instance: [UInt8]) {
        let digest = HashAlgorithm.sha256.hash(Array("nacre segment ".utf8) + instance)
        group = IPAddress(239, 192 | digest[0] & 3, digest[1], digest[2])
        port = 20_000 + (UInt16(digest[3]) << 8 | UInt16(digest[4])) % 10_000
        self.instance = instance
    }

    /// Locally administered, the same for a node at each of its starts: its link-local address follows from it.
    func hardwareAddress(of node: String) -> String {
        let digest = HashAlgorithm.sha256.hash(Array("nacre card \(node) ".utf8) + instance)
        return ([0x02] + digest.prefix(5)).map { Hex.encode([$0]) }.joined(separator: ":")
    }
}
