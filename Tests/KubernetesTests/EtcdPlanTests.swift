import Bytes
import Testing

@testable import Kubernetes

@Suite struct EtcdPlanTests {
    private static func index(_ number: Int) throws -> NodeIndex { try #require(NodeIndex(number)) }

    private static func member(_ id: UInt64, _ number: Int, isLearner: Bool = false) throws -> EtcdMember {
        EtcdMember(id: id, peers: ["https://10.200.0.\(number):2380"], isLearner: isLearner)
    }

    @Test func `only the lowest index begins, and only where nobody answers`() throws {
        let planes = try [1, 2, 3].map { try Self.index($0) }
        #expect(EtcdPlan.step(of: planes[0], planes: planes, answers: [:]) == .begin)
        #expect(EtcdPlan.step(of: planes[1], planes: planes, answers: [:]) == .wait)
        #expect(EtcdPlan.step(of: planes[2], planes: planes, answers: [:]) == .wait)
        // The first one's data are gone, the cluster's are not: it comes back as one more.
        let answers = [planes[1]: [try Self.member(7, 2)]]
        #expect(
            EtcdPlan.step(of: planes[0], planes: planes, answers: answers) == .join(through: planes[1], removing: []))
        #expect(EtcdPlan.step(of: planes[0], planes: [planes[0]], answers: [:]) == .begin)
    }

    @Test func `all ask the same one, and a former member of this address goes first`() throws {
        let planes = try [1, 2, 3].map { try Self.index($0) }
        let present = [try Self.member(11, 1), try Self.member(22, 2), try Self.member(33, 3, isLearner: true)]
        let step = EtcdPlan.step(of: planes[2], planes: planes, answers: [planes[1]: present, planes[0]: present])
        #expect(step == .join(through: planes[0], removing: [33]))
    }

    @Test func `who is revoked leaves; who is unknown stays`() throws {
        let present = [try Self.member(11, 1), try Self.member(22, 2), try Self.member(99, 9)]
        #expect(EtcdPlan.leavers(present, revoked: [try Self.index(2)]) == [22])
        #expect(EtcdPlan.leavers(present, revoked: []).isEmpty)
    }

    @Test(arguments: [EtcdRecord.none, .begun, .learner(1), .learner(.max), .member])
    func `a record is read as it was written`(record: EtcdRecord) throws {
        #expect(try EtcdRecord(json: try JSON(parsing: record.json.compact)) == record)
    }

    @Test(arguments: [
        "{}", #"{"schema":"nacre.etcd.v1","state":"learner"}"#,
        #"{"schema":"nacre.etcd.v1","state":"learner","id":"x"}"#,
        #"{"schema":"nacre.etcd.v1","state":"learner","id":"-1"}"#, #"{"schema":"nacre.etcd.v1","state":"leader"}"#,
        #"{"schema":"nacre.etcd.v1","state":"learner","id":"007"}"#,
        #"{"schema":"nacre.etcd.v1","state":"member","id":"1"}"#,
        #"{"schema":"nacre.etcd.v2","state":"member"}"#, #"{"schema":"nacre.etcd.v1","state":"member","more":1}"#,
        #"{"schema":"nacre.etcd.v1","state":"begun","id":"x"}"#,
    ])
    func `another record is refused`(text: String) throws {
        let json = try JSON(parsing: text)
        #expect(throws: ParseError.self) { try EtcdRecord(json: json) }
    }

    @Test func `what is held is not begun, nor what waits for it`() {
        var plan = UnitPlan(role: .controlPlane)
        plan.held = [.etcd]
        for _ in 0..<20 { for step in plan.begin(at: 0) { plan.ended(step.unit, isDone: true, at: 0) } }
        #expect(plan.isActive(.mesh) && plan.isActive(.kubelet))
        #expect(!plan.isActive(.etcd) && !plan.isActive(.apiServer) && !plan.isActive(.scheduler))
        plan.held = [.apiServer]
        for _ in 0..<20 { for step in plan.begin(at: 0) { plan.ended(step.unit, isDone: true, at: 0) } }
        #expect(plan.isActive(.etcd) && !plan.isActive(.apiServer))
        plan.held = []
        for _ in 0..<20 { for step in plan.begin(at: 0) { plan.ended(step.unit, isDone: true, at: 0) } }
        #expect(plan.isComplete)
    }
}
