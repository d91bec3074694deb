import Bytes
import Kubernetes

/// A line of the cluster's zone, as unbound takes it (`local_data`, unbound-control(8)).
public struct ZoneRecord: Sendable, Hashable, CustomStringConvertible {
    public enum Data: Sendable, Hashable {
        case address(IPAddress)
        /// Priority 0, and the same weight for all.
        case service(port: Int, target: String)
        case pointer(String)
        case alias(String)
        case text(String)
    }

    /// Of names that come and go, seconds.
    public static let timeToLive = 5

    /// Lower case, with its last dot.
    public let name: String
    public let data: Data

    public var description: String {
        let rest: String
        switch data {
        case .address(let address): rest = "\(address.isIPv4 ? "A" : "AAAA") \(address)"
        case .service(let port, let target): rest = "SRV 0 100 \(port) \(target)"
        case .pointer(let target): rest = "PTR \(target)"
        case .alias(let target): rest = "CNAME \(target)"
        case .text(let text): rest = "TXT \"\(text)\""
        }
        return "\(name) \(Self.timeToLive) IN \(rest)"
    }
}

/// The records of Services and Endpoints after "Kubernetes DNS-Based Service Discovery", version 1.1.0.
///
/// Names and addresses come from whoever may write Services: what is no label, no port or no address of its form makes no record.
public enum ServiceRecords {
    public static let version = "1.1.0"
    private static let zone = NetworkPlan.clusterDomain + "."
    /// Read by the cluster's resolver where it is there.
    public static let folder = "/run/nacre/dns"
    public static let file = folder + "/zone.conf"

    /// unbound.conf(5); every record is of letters that mean nothing inside its quotes.
    public static func configuration(_ records: Set<ZoneRecord>) -> String {
        "server:\n" + records.map { "  local-data: '\($0)'\n" }.sorted().joined()
    }

    /// - Parameters:
    ///   - services: `items` of a ServiceList (core/v1).
    ///   - endpoints: `items` of an EndpointsList (core/v1).
    public static func records(services: [JSON], endpoints: [JSON]) -> Set<ZoneRecord> {
        var found: Set<ZoneRecord> = [ZoneRecord(name: "dns-version.\(zone)", data: .text(version))]
        var places: [String: JSON] = [:]
        for entry in endpoints { if let name = name(entry) { places[name] = entry } }
        for service in services {
            guard let name = name(service), let spec = service["spec"] else { continue }
            if spec["type"]?.string == "ExternalName" {
                if let target = spec["externalName"]?.string, let target = hostName(target) {
                    found.insert(ZoneRecord(name: name, data: .alias(target)))
                }
            } else if let address = spec["clusterIP"]?.string.flatMap({ IPAddress($0) }) {
                add(address, to: name, ports: spec["ports"]?.array ?? [], &found)
            } else if spec["clusterIP"]?.string == "None", let place = places[name] {
                addHeadless(place, to: name, publishesUnready: spec["publishNotReadyAddresses"]?.bool ?? false, &found)
            }
        }
        return found
    }

    /// `<service>.<namespace>.svc.cluster.local.`
    private static func name(_ object: JSON) -> String? {
        guard let name = object["metadata"]?["name"]?.string, let space = object["metadata"]?["namespace"]?.string,
            isLabel(name), isLabel(space)
        else { return nil }
        return "\(name).\(space).svc.\(zone)"
    }

    private static func add(_ address: IPAddress, to name: String, ports: [JSON], _ found: inout Set<ZoneRecord>) {
        found.insert(ZoneRecord(name: name, data: .address(address)))
        if let reverse = reverse(address) { found.insert(ZoneRecord(name: reverse, data: .pointer(name))) }
        for port in ports { addPort(port, to: name, target: name, &found) }
    }

    private static func addHeadless(
        _ place: JSON, to name: String, publishesUnready: Bool, _ found: inout Set<ZoneRecord>
    ) {
        for subset in place["subsets"]?.array ?? [] {
            let unready = publishesUnready ? subset["notReadyAddresses"]?.array ?? [] : []
            for entry in (subset["addresses"]?.array ?? []) + unready {
                guard let address = entry["ip"]?.string.flatMap({ IPAddress($0) }) else { continue }
                let label = entry["hostname"]?.string.flatMap { isLabel($0) ? $0 : nil } ?? dashed(address)
                let host = "\(label).\(name)"
                found.insert(ZoneRecord(name: name, data: .address(address)))
                found.insert(ZoneRecord(name: host, data: .address(address)))
                if let reverse = reverse(address) { found.insert(ZoneRecord(name: reverse, data: .pointer(host))) }
                for port in subset["ports"]?.array ?? [] { addPort(port, to: name, target: host, &found) }
            }
        }
    }

    /// `_<port>._<protocol>.<service>`, for ports that have a name.
    private static func addPort(_ port: JSON, to name: String, target: String, _ found: inout Set<ZoneRecord>) {
        guard let label = port["name"]?.string, isServiceName(label), let number = port["port"]?.integer,
            (1...65535).contains(number)
        else { return }
        let word = port["protocol"]?.string ?? "TCP"
        guard ["TCP", "UDP", "SCTP"].contains(word) else { return }
        found.insert(
            ZoneRecord(
                name: "_\(label)._\(word.lowercased()).\(name)", data: .service(port: Int(number), target: target)))
    }

    private static func dashed(_ address: IPAddress) -> String {
        String("\(address)".map { $0 == "." || $0 == ":" ? "-" : $0 })
    }

    /// The name of an address below in-addr.arpa; IPv6 has none in this cluster.
    private static func reverse(_ address: IPAddress) -> String? {
        guard address.isIPv4 else { return nil }
        return address.bytes.reversed().map(String.init).joined(separator: ".") + ".in-addr.arpa."
    }

    /// A label that still is one behind the `_` of RFC 2782: one record that unbound refuses ends all of them.
    private static func isServiceName(_ text: String) -> Bool { isLabel(text) && text.utf8.count <= 62 }

    /// RFC 1123: lower-case letters, digits and inner hyphens, at most 63. Nothing that ends a line or a word.
    static func isLabel(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return (1...63).contains(bytes.count) && bytes.first != 0x2D && bytes.last != 0x2D
            && bytes.allSatisfy { (0x61...0x7A).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2D }
    }

    private static func hostName(_ text: String) -> String? {
        let name = text.hasSuffix(".") ? String(text.dropLast()) : text
        let labels = name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        return name.utf8.count <= 253 && labels.allSatisfy(isLabel) ? name + "." : nil
    }
}
