import Bytes
import Glibc
import Linux
import Synchronization
import TestKit
import Testing

@testable import Attestation

/// configfs-tsm in memory: attributes, generations, and the failures that the kernel's documentation names.
private final class SimulatedTSM: ReportDirectory {
    struct State {
        var requests: [String: (generation: UInt64, attributes: [String: [UInt8]])] = [:]
        /// errno values for the next accesses of an attribute.
        var failures: [String: [Int32]] = [:]
        /// How often somebody else still writes between a request and its answer.
        var interferences = 0
        var created = 0
    }

    let state = Mutex(State())
    let provider: String?

    init(provider: String?, failures: [String: [Int32]] = [:], interferences: Int = 0) {
        self.provider = provider
        state.withLock {
            $0.failures = failures
            $0.interferences = interferences
        }
    }

    func create(_ name: String) throws(SystemError) {
        try state.withLock { state throws(SystemError) in
            guard provider != nil else { throw SystemError("create", code: ENOENT) }
            state.created += 1
            state.requests[name] = (0, [:])
        }
    }

    func remove(_ name: String) { state.withLock { _ = $0.requests.removeValue(forKey: name) } }

    func write(_ name: String, _ attribute: String, _ value: [UInt8]) throws(SystemError) {
        try state.withLock { state throws(SystemError) in
            try Self.fail(&state, attribute)
            state.requests[name]?.attributes[attribute] = value
            state.requests[name]?.generation += 1
        }
    }

    func read(_ name: String, _ attribute: String) throws(SystemError) -> [UInt8] {
        try state.withLock { state throws(SystemError) in
            try Self.fail(&state, attribute)
            guard let request = state.requests[name] else { throw SystemError("read", code: ENOENT) }
            switch attribute {
            case "generation": return Array("\(request.generation)\n".utf8)
            case "provider": return Array("\(provider ?? "")\n".utf8)
            case "outblob":
                if state.interferences > 0 {
                    state.interferences -= 1
                    state.requests[name]?.generation += 1
                }
                return Array("report:".utf8) + (request.attributes["inblob"] ?? [])
            case "auxblob":
                guard provider == "sev_guest" else { throw SystemError("read", code: ENOENT) }
                return Array("table".utf8)
            case "manifestblob": return Array("manifest".utf8)
            default: throw SystemError("read", code: ENOENT)
            }
        }
    }

    private static func fail(_ state: inout State, _ attribute: String) throws(SystemError) {
        if let code = state.failures[attribute]?.first {
            state.failures[attribute]?.removeFirst()
            throw SystemError(attribute, code: code)
        }
    }
}

@Suite("Reports through configfs-tsm")
struct IssuingTests {
    static let data = [UInt8](repeating: 7, count: 64)

    private func issuer(_ tsm: SimulatedTSM) -> TSMIssuer { TSMIssuer(tsm, pause: { _ in }) }

    @Test("carry the data asked for, name their provider and leave nothing behind")
    func report() throws {
        let tsm = SimulatedTSM(provider: "sev_guest")
        let report = try issuer(tsm).report(data: Self.data, privilegeLevel: 1, provider: "sev_guest")
        #expect(report.provider == "sev_guest")
        #expect(report.report == Array("report:".utf8) + Self.data)
        #expect(report.auxiliary == Array("table".utf8))
        #expect(report.manifest.isEmpty)
        #expect(tsm.state.withLock { $0.requests.isEmpty })
    }

    @Test("have no auxiliary blob where the provider has none, and a manifest where services are asked for")
    func blobs() throws {
        #expect(try issuer(SimulatedTSM(provider: "tdx_guest")).report(data: Self.data).auxiliary.isEmpty)
        let service = TSMIssuer.Service(guid: "c476f1eb-0123-45a5-9641-b4e7dde5bfe3")
        let report = try issuer(SimulatedTSM(provider: "sev_guest")).report(data: Self.data, service: service)
        #expect(report.manifest == Array("manifest".utf8))
    }

    @Test("are asked for again when something is busy or somebody else wrote", arguments: [1, 2, 4])
    func retry(times: Int) throws {
        let failures = [[Int32]](repeating: [EBUSY], count: times).flatMap { $0 }
        let busy = SimulatedTSM(provider: "sev_guest", failures: ["inblob": failures])
        #expect(try issuer(busy).report(data: Self.data).provider == "sev_guest")
        let disturbed = SimulatedTSM(provider: "sev_guest", interferences: times)
        #expect(try issuer(disturbed).report(data: Self.data).provider == "sev_guest")
        #expect(disturbed.state.withLock { $0.created } == times + 1)
    }

    @Test("are given up after bounded attempts, or at once where trying again is no use")
    func giveUp() {
        let disturbed = SimulatedTSM(provider: "sev_guest", interferences: 1000)
        #expect(throws: TSMError.self) { try issuer(disturbed).report(data: Self.data) }
        #expect(disturbed.state.withLock { $0.created } == TSMIssuer.attempts)
        for code in [EINVAL, ENXIO, EFBIG] {
            let tsm = SimulatedTSM(provider: "sev_guest", failures: ["outblob": [code]])
            #expect(throws: TSMError.self) { try issuer(tsm).report(data: Self.data) }
            #expect(tsm.state.withLock { $0.created } == 1)
            #expect(tsm.state.withLock { $0.requests.isEmpty })
        }
    }

    @Test("are never taken from another provider, nor asked for with wrong data")
    func refusals() {
        let tsm = SimulatedTSM(provider: "tdx_guest")
        #expect(throws: TSMError.self) { try issuer(tsm).report(data: Self.data, provider: "sev_guest") }
        #expect(throws: TSMError.self) { try issuer(tsm).report(data: [1]) }
        #expect(throws: TSMError.self) { try issuer(tsm).report(data: Self.data, privilegeLevel: 4) }
    }

    @Test("tell the platform, which is never quietly a lesser one")
    func platform() throws {
        let folder = try TemporaryFolder()
        let none = issuer(SimulatedTSM(provider: nil))
        let root = folder.path
        #expect(try DetectedPlatform.detect(issuer(SimulatedTSM(provider: "sev_guest")), root: root).platform == .snp)
        #expect(try DetectedPlatform.detect(issuer(SimulatedTSM(provider: "tdx_guest")), root: root).platform == .tdx)
        #expect(try DetectedPlatform.detect(none, root: root) == DetectedPlatform(platform: .tpm, interface: nil))
        #expect(throws: TSMError.self) {
            try DetectedPlatform.detect(issuer(SimulatedTSM(provider: "acme_guest")), root: root)
        }
        try #require(unsafe mkdir("\(root)/proc", 0o755) == 0 && mkdir("\(root)/dev", 0o755) == 0)
        _ = try folder.file("proc/cpuinfo", "flags\t\t: fpu vme tdx_guest sse\n")
        #expect(throws: TSMError.self) { try DetectedPlatform.detect(none, root: root) }
        _ = try folder.file("proc/cpuinfo", "flags\t\t: fpu vme sse\n")
        _ = try folder.file("dev/sev-guest", "")
        #expect(throws: TSMError.self) { try DetectedPlatform.detect(none, root: root) }
    }
}
