import Bytes
import CTSS2SoftwareTPM
import Crypto
import Glibc
import HTTP
import Linux
import MeasuredPhase
import TPM
import TPMDevice
import TestKit
import Testing

@testable import Attestation
@testable import NodeService

/// A node as far as it can be had here: real sockets, real TLS, a real (software) TPM, files in place of the kernel's.
private struct Node {
    let tpm: SoftwareTPM
    let folder: TemporaryFolder
    let source: EvidenceSource
    let server: Server

    init?(_ authority: SoftwareTPM.Authority? = nil) throws {
        guard let tpm = try SoftwareTPM(banks: "sha256,sha384", authority: authority) else { return nil }
        self.tpm = tpm
        folder = try TemporaryFolder()
        var paths = EvidenceSource.Paths()
        paths.firmwareLog = try folder.file("firmware", [1, 2, 3])
        paths.bootID = try folder.file("boot_id", "00112233-4455-6677-8899-aabbccddeeff\n")
        paths.userspaceLog = "\(folder.path)/run/log/systemd/tpm2-measure.log"
        let settings = "host=127.0.0.1,port=\(tpm.port)"
        let device = try unsafe TPMDevice("open swtpm") { unsafe Tss2_Tcti_Swtpm_Init($0, $1, settings) }
        let source = EvidenceSource(
            platform: try .detect(TSMIssuer(ConfigFS(root: "\(folder.path)/no-tsm")), root: folder.path), tpm: device,
            paths: paths)
        self.source = source
        let service = EvidenceService(
            clock: { BootClock.milliseconds }, report: { print($0) }, activate: { try source.activate($0) },
            evidence: { try source.evidence(nonce: $0) })
        server = try Server(port: 0, address: "127.0.0.1") { service.answer($0) }
        try server.start()
    }

    func get(_ target: String) async throws -> HTTPResponse { try await send(HTTPRequest(target: target)) }

    func activate(_ body: [UInt8]) async throws -> HTTPResponse {
        try await send(HTTPRequest(method: "POST", target: "/v1/activate", body: body))
    }

    private func send(_ request: HTTPRequest) async throws -> HTTPResponse {
        let port = server.port
        return try await onThread {
            Result {
                let stream = try TLSClient.connect(
                    "127.0.0.1", port: port, deadline: .seconds(60), authentication: .unauthenticated)
                defer { stream.close() }
                let connection = HTTPConnection(stream)
                try connection.write(request, host: "node")
                return try connection.readResponse(bodyLimit: Evidence.maximumSize)
            }
        }.get()
    }
}

@Suite("Node with a software TPM")
struct NodeTests {
    @Test("on TDX measures into RTMR 3 too, and goes no further where it cannot")
    func runtimeRegisters() throws {
        let folder = try TemporaryFolder()
        var paths = EvidenceSource.Paths()
        paths.runtimeRegisters = folder.path
        let platform = DetectedPlatform(platform: .tdx, interface: .configFS(provider: "tdx_guest"))
        let source = EvidenceSource(platform: platform, tpm: nil, paths: paths)
        #expect(throws: TSMError.self) { try source.measure(phase: "nacre-attestable") }
        // A register that keeps what is written instead of extending it, as this plain file does.
        let file = try folder.file("rtmr3:sha384", [UInt8](repeating: 0, count: 48))
        #expect(throws: TSMError.self) { try source.measure(phase: "nacre-attestable") }
        #expect(
            try File.contents(file, limit: 64) == HashAlgorithm.sha384.hash(Array("nacre-attestable".utf8)))
    }

    @Test("serves evidence that holds: quote, nonce, registers, log")
    func evidence() async throws {
        guard let node = try Node() else { return }
        defer { node.server.stop() }
        #expect(try node.source.measure(phase: "nacre-attestable") == ["sha256", "sha384"])
        let key = try node.source.createKey()
        node.source.publish([Evidence.Stage(name: "attestable", milliseconds: 7)])

        let nonce = randomBytes(32)
        let response = try await node.get("/v1/evidence?nonce=\(Hex.encode(nonce))")
        #expect(response.status == 200)
        let evidence = try Evidence(parsing: response.body)
        #expect(evidence.platform == .tpm)
        #expect(evidence.tee == nil)
        #expect(evidence.stages == [Evidence.Stage(name: "attestable", milliseconds: 7)])
        let tpm = try #require(evidence.tpm)
        #expect(tpm.eventLog == [1, 2, 3])
        #expect(tpm.attestationKey == key)
        let quote = try Quote(attest: tpm.attest, signature: tpm.signature)
        let shown = try PCRBank(values: tpm.registers)
        let covered = try quote.verify(ak: try AttestationKey(parsing: key), nonce: nonce, pcrs: shown)
        let log = try UserspaceLog(parsing: tpm.userspaceLog)
        #expect(log.records.map(\.text) == ["nacre-attestable"])
        #expect(log.records.allSatisfy { $0.textMatchesDigests })
        for hash in [HashAlgorithm.sha256, .sha384] {
            let digest = try #require(log.records.first?.digests[hash])
            #expect(covered[hash, 11] == hash.hash([UInt8](repeating: 0, count: hash.size) + digest))
            #expect(covered.values[hash]?.count == 16)
        }
    }

    @Test("shows its endorsement key and activates what is made for it, once the vendor is known")
    func activation() async throws {
        guard let authority = try SoftwareTPM.Authority(), let node = try Node(authority),
            let other = try Node(authority)
        else { return }
        defer {
            node.server.stop()
            other.server.stop()
        }
        for node in [node, other] {
            _ = try node.source.createKey()
            #expect(try node.source.findEndorsementKey() != nil)
        }
        let nonce = randomBytes(32)
        func evidence(_ node: Node) async throws -> Evidence {
            try Evidence(parsing: try await node.get("/v1/evidence?nonce=\(Hex.encode(nonce))").body)
        }
        let shown = try await evidence(node)
        let tpm = try #require(shown.tpm)
        let endorsement = try #require(tpm.endorsementKey)
        let (issuer, root) = try authority.certificates()
        let roots = try [issuer, root].map { try Certificate.read($0) }
        // The issuing authority named itself; the root alone leads nowhere, for the TPM does not bring what is between.
        let trust = try EndorsementTrust(endorsement, roots: [roots[0]], at: Instant.now)
        #expect(trust.certificate.model == "swtpm")
        var complete = endorsement
        complete.chain = [roots[0].der]
        _ = try EndorsementTrust(complete, roots: [roots[1]], at: Instant.now)
        let error = #expect(throws: Finding.self) {
            _ = try EndorsementTrust(endorsement, roots: [roots[1]], at: Instant.now)
        }
        #expect(error?.reason == "ek-chain")

        let challenge = try ActivationChallenge(shown, nonce: nonce)
        let body = Array(challenge.request.json.compact.utf8)
        let answer = try await node.activate(body)
        #expect(answer.status == 200)
        let proof = try ActivationRequest.proof(parsing: answer.body)
        #expect(challenge.isAnswered(by: proof, tpm, nonce: nonce))
        // Of another session, and by another TPM.
        #expect(try !ActivationChallenge(shown, nonce: nonce).isAnswered(by: proof, tpm, nonce: nonce))
        #expect(!challenge.isAnswered(by: proof, tpm, nonce: randomBytes(32)))
        #expect(try await other.activate(body).status == 422)
        // The other's attestation key beside this endorsement key.
        var mixed = shown
        mixed.tpm?.attestationKey = try #require(try await evidence(other).tpm).attestationKey
        let wrong = Array(try ActivationChallenge(mixed, nonce: nonce).request.json.compact.utf8)
        #expect(try await node.activate(wrong).status == 422)
        #expect(try await other.activate(wrong).status == 422)
        #expect(try await node.activate(Array(body.dropLast())).status == 400)
        #expect(try await node.activate([]).status == 400)
        #expect(try await node.activate([UInt8](repeating: 0x20, count: 4097)).status == 413)
        #expect(node.server.isHealthy)
    }

    @Test("answers several callers at once, and wrong ones in words")
    func callers() async throws {
        guard let node = try Node() else { return }
        defer { node.server.stop() }
        _ = try node.source.createKey()
        let nonce = Hex.encode(randomBytes(16))
        let statuses = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<6 { group.addTask { try await node.get("/v1/evidence?nonce=\(nonce)").status } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(statuses == [Int](repeating: 200, count: 6))
        #expect(try await node.get("/v1/evidence?nonce=00").status == 400)
        #expect(try await node.get("/elsewhere").status == 404)
        #expect(try await node.get("/v1/healthz").status == 200)
        #expect(node.server.isHealthy)
    }

    @Test("goes on when callers say nothing, nonsense, or vanish")
    func silence() async throws {
        guard let node = try Node() else { return }
        defer { node.server.stop() }
        var idle: [Int32] = []
        for index in 0..<(Server.threads - 1) {
            let socket = try StreamSocket(connectingTo: "127.0.0.1", port: node.server.port, deadline: .seconds(5))
            let descriptor = socket.release()
            if index.isMultiple(of: 2) { _ = unsafe write(descriptor, "GET / HTTP/1.1\r\n\r\n", 18) }
            idle.append(descriptor)
        }
        #expect(try await node.get("/v1/healthz").status == 200)
        for descriptor in idle { close(descriptor) }
        #expect(try await node.get("/v1/healthz").status == 200)
        #expect(node.server.isHealthy)
    }

    @Test("refuses to measure into a log that lacks a measurement")
    func abortedLog() throws {
        guard let node = try Node() else { return }
        defer { node.server.stop() }
        _ = try node.source.measure(phase: "one")
        do { _ = try MeasurementLog("\(node.folder.path)/run/log/systemd/tpm2-measure.log") }
        #expect(throws: SystemError.self) { try node.source.measure(phase: "two") }
    }
}
