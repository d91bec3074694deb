import Bytes
import DiskFormat
import Testing

@testable import KubernetesAPI

@Suite struct ServiceRecordsTests {
    private func records(_ services: String, _ endpoints: String = "[]") throws -> Set<String> {
        let services = try JSON(parsing: Array(services.utf8)).array ?? []
        let endpoints = try JSON(parsing: Array(endpoints.utf8)).array ?? []
        return Set(ServiceRecords.records(services: services, endpoints: endpoints).map(\.description))
            .subtracting([#"dns-version.cluster.local. 5 IN TXT "1.1.0""#])
    }

    @Test func `a service with an address: A, PTR, and SRV for ports with a name`() throws {
        let found = try records(
            """
            [{"metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.96.0.20","ports":[
              {"name":"http","port":80,"protocol":"TCP"},{"port":81}]}}]
            """)
        #expect(
            found == [
                "web.shop.svc.cluster.local. 5 IN A 10.96.0.20",
                "20.0.96.10.in-addr.arpa. 5 IN PTR web.shop.svc.cluster.local.",
                "_http._tcp.web.shop.svc.cluster.local. 5 IN SRV 0 100 80 web.shop.svc.cluster.local.",
            ])
    }

    @Test func `a port whose name is too long for a label of its record has none, and the service's others stay`()
        throws
    {
        for (count, hasRecord) in [(62, true), (63, false)] {
            let port = String(repeating: "p", count: count)
            let found = try records(
                #"[{"metadata":{"name":"web","namespace":"a"},"spec":{"clusterIP":"10.96.0.20","ports":[{"name":"\#(port)","port":80}]}}]"#
            )
            #expect(found.contains { $0.hasPrefix("_\(port)._tcp") } == hasRecord)
            #expect(found.contains("web.a.svc.cluster.local. 5 IN A 10.96.0.20"))
        }
    }

    @Test func `a headless service: each ready end under its own name`() throws {
        let service = #"[{"metadata":{"name":"db","namespace":"a"},"spec":{"clusterIP":"None"}}]"#
        let endpoints = """
            [{"metadata":{"name":"db","namespace":"a"},"subsets":[{"addresses":[{"ip":"10.244.1.5","hostname":"db-0"},
             {"ip":"10.244.2.6"}],"notReadyAddresses":[{"ip":"10.244.3.7"}],"ports":[{"name":"sql","port":5432}]}]}]
            """
        #expect(
            try records(service, endpoints) == [
                "db.a.svc.cluster.local. 5 IN A 10.244.1.5", "db.a.svc.cluster.local. 5 IN A 10.244.2.6",
                "db-0.db.a.svc.cluster.local. 5 IN A 10.244.1.5",
                "10-244-2-6.db.a.svc.cluster.local. 5 IN A 10.244.2.6",
                "5.1.244.10.in-addr.arpa. 5 IN PTR db-0.db.a.svc.cluster.local.",
                "6.2.244.10.in-addr.arpa. 5 IN PTR 10-244-2-6.db.a.svc.cluster.local.",
                "_sql._tcp.db.a.svc.cluster.local. 5 IN SRV 0 100 5432 db-0.db.a.svc.cluster.local.",
                "_sql._tcp.db.a.svc.cluster.local. 5 IN SRV 0 100 5432 10-244-2-6.db.a.svc.cluster.local.",
            ])
    }

    @Test func `an external name is an alias`() throws {
        #expect(
            try records(
                #"[{"metadata":{"name":"x","namespace":"a"},"spec":{"type":"ExternalName","externalName":"www.example.org"}}]"#
            )
                == ["x.a.svc.cluster.local. 5 IN CNAME www.example.org."])
    }

    @Test(arguments: [
        #"[{"metadata":{"name":"a\nlocal_data: x","namespace":"a"},"spec":{"clusterIP":"10.96.0.1"}}]"#,
        #"[{"metadata":{"name":"a","namespace":"B"},"spec":{"clusterIP":"10.96.0.1"}}]"#,
        #"[{"metadata":{"name":"a","namespace":"a"},"spec":{"clusterIP":"10.96.0.1 x"}}]"#,
        #"[{"metadata":{"name":"a","namespace":"a"},"spec":{"type":"ExternalName","externalName":"a b"}}]"#,
        #"[{"metadata":{"name":"a","namespace":"a"},"spec":{"clusterIP":"None"}}]"#, "[{}]", "[1]",
    ]) func `what is not of its form makes no record`(services: String) throws {
        #expect(try records(services).isEmpty)
    }
}

@Suite struct NodeEventTests {
    @Test func `an event is of a node, in the namespace of what has none`() throws {
        let event = NodeEvent(
            node: try #require(NodeName("control-plane-0")), reason: "NodeRefused", message: "enroll: no", count: 2,
            first: Instant(seconds: 1_800_000_000), last: Instant(seconds: 1_800_000_060))
        #expect(event.json["metadata"]?["namespace"]?.string == "default")
        #expect(event.json["involvedObject"]?["kind"]?.string == "Node")
        #expect(event.json["involvedObject"]?["name"]?.string == "control-plane-0")
        #expect(event.json["firstTimestamp"]?.string == "2027-01-15T08:00:00Z")
        #expect(event.json["lastTimestamp"]?.string == "2027-01-15T08:01:00Z")
        #expect(event.json["count"]?.integer == 2)
    }
}
