import Bytes
import Testing

@testable import Kubernetes

@Suite struct UnitPlanTests {
    @Test(arguments: NodeRole.allCases) func `a unit begins once all that it waits for are active`(role: NodeRole) {
        var plan = UnitPlan(role: role)
        var begun: [NodeUnit] = []
        while !plan.isComplete {
            let steps = plan.begin(at: 0)
            #expect(!steps.isEmpty)
            for step in steps {
                #expect(step.verb == .start)
                for wait in step.unit.waits where plan.units.contains(wait) { #expect(plan.isActive(wait)) }
                begun.append(step.unit)
            }
            for step in steps { plan.ended(step.unit, isDone: true, at: 0) }
        }
        #expect(Set(begun) == Set(NodeUnit.order(for: role)))
        #expect(begun.count == plan.units.count)
        #expect(begun.first == .firewall)
        #expect(plan.begin(at: 1 << 40).isEmpty)
    }

    @Test func `what fails is tried again after a pause, and what waits for it goes on waiting`() {
        var plan = UnitPlan(role: .worker)
        #expect(plan.begin(at: 10).map(\.unit) == [.firewall])
        #expect(plan.changing == [.firewall])
        plan.ended(.firewall, isDone: false, at: 100)
        #expect(plan.begin(at: 100 + UnitPlan.pause - 1).isEmpty)
        #expect(plan.begin(at: 100 + UnitPlan.pause).map(\.unit) == [.firewall])
        // What nobody began does not end.
        plan.ended(.kubelet, isDone: true, at: 0)
        #expect(!plan.isActive(.kubelet))
    }

    @Test func `a renewal restarts in order what reads its certificates once, and nothing else`() {
        var plan = UnitPlan(role: .controlPlane)
        while !plan.isComplete { for step in plan.begin(at: 0) { plan.ended(step.unit, isDone: true, at: 0) } }
        plan.renew()
        var order: [NodeUnit] = []
        while !plan.isComplete {
            for step in plan.begin(at: 0) {
                #expect(step.verb == .restart)
                order.append(step.unit)
                plan.ended(step.unit, isDone: true, at: 0)
            }
        }
        #expect(Set(order) == Set(NodeUnit.allCases.filter { $0.renewal == .restart }))
        let etcd = order.firstIndex(of: .etcd) ?? .max
        let api = order.firstIndex(of: .apiServer) ?? .max
        #expect(etcd < api && api < (order.firstIndex(of: .scheduler) ?? -1))
    }
}

@Suite struct NodeNetworkTests {
    private static let header = "Iface\tDestination\tGateway \tFlags\n"
    private static let tree = """
        Main:
          +-- 0.0.0.0/0 3 0 5
             |-- 0.0.0.0
                /0 universe UNICAST
             |-- 10.0.2.15
                /32 host LOCAL
             |-- 10.96.0.10
                /32 host LOCAL
             |-- 10.200.0.2
                /32 host LOCAL
             |-- 10.245.7.1
                /32 host LOCAL
             |-- 10.0.2.255
                /32 link BROADCAST
             |-- 127.0.0.1
                /32 host LOCAL
        """
    private static let ipv6 = """
        00000000000000000000000000000001 01 80 10 80       lo
        fec0000000000000505400fffe123456 02 40 40 00     eth0
        fe80000000000000505400fffe123456 02 40 20 80     eth0
        fe8000000000000000bb6dfffe8053fd 03 40 20 80     eth1
        fe800000000000001052eafffe238d5a 05 40 20 80     dns0
        """

    @Test func `a routed card has its address, and a card without any its link-local one`() {
        let network = NodeNetwork(
            cards: ["eth0", "eth1"], routes: Self.header + "eth0\t00000000\t0202000A\t0003\n", tree: Self.tree,
            ipv6: Self.ipv6)
        #expect(
            network.endpoints.map(\.description) == ["10.0.2.15:51820", "[fe80::bb:6dff:fe80:53fd]:51820"])
        #expect(network.linkLocalInterface == "eth1")
    }

    @Test func `global IPv6 addresses count, tentative and failed ones do not`() {
        let network = NodeNetwork(
            cards: ["eth0", "eth1"], routes: Self.header, tree: Self.tree,
            ipv6: """
                20010db8000000000000000000000001 02 40 00 80     eth0
                20010db8000000000000000000000002 02 40 00 c0     eth0
                20010db8000000000000000000000003 02 40 00 88     eth0
                fe800000000000000000000000000001 02 40 20 80     eth0
                """)
        #expect(network.endpoints.map(\.description) == ["[2001:db8::1]:51820"])
        #expect(network.linkLocalInterface == nil)
    }

    @Test func `nothing, and nonsense, give nothing`() {
        for text in ["", "\n\n", "zz 1 2\n", String(repeating: "|-- x\n", count: 50), "|-- 1.2.3.4"] {
            let network = NodeNetwork(cards: ["eth0"], routes: text, tree: text, ipv6: text)
            #expect(network.endpoints.isEmpty && network.linkLocalInterface == nil)
        }
    }
}
