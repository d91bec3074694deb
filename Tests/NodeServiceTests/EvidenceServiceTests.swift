import Attestation
import Bytes
import HTTP
import Synchronization
import TestKit
import Testing

@testable import NodeService

private final class Clock: Sendable {
    private let time = Mutex(0)
    var now: Int { time.withLock { $0 } }
    func advance(_ milliseconds: Int) { time.withLock { $0 += milliseconds } }
}

private struct NoTPM: Error {}

@Suite("Evidence service")
struct EvidenceServiceTests {
    private let clock = Clock()

    private func service(_ make: @escaping @Sendable ([UInt8]) throws -> Evidence) -> EvidenceService {
        let clock = clock
        return EvidenceService(clock: { clock.now }, report: { _ in }, activate: { _ in throw NoTPM() }, evidence: make)
    }

    private var working: EvidenceService { service { Evidence(platform: .tpm, nonce: $0) } }

    @Test("answers with evidence for the caller's nonce", arguments: [16, 17, 32])
    func evidence(size: Int) throws {
        let nonce = [UInt8](repeating: 0xA5, count: size)
        let response = working.answer(HTTPRequest(target: "/v1/evidence?nonce=\(Hex.encode(nonce))"))
        #expect(response.status == 200)
        #expect(response.fields["content-type"] == "application/json")
        #expect(response.fields["connection"] == "close")
        #expect(response.fields["cache-control"] == "no-store")
        #expect(try Evidence(parsing: response.body).nonce == nonce)
    }

    @Test(
        "refuses every other query",
        arguments: [
            "", "?", "?nonce", "?nonce=", "?nonce=00", "?nonce=\(String(repeating: "0", count: 30))",
            "?nonce=\(String(repeating: "0", count: 31))", "?nonce=\(String(repeating: "0", count: 33))",
            "?nonce=\(String(repeating: "0", count: 66))", "?nonce=\(String(repeating: "g", count: 32))",
            "?nonce=\(String(repeating: "0", count: 32))&x=1", "?Nonce=\(String(repeating: "0", count: 32))",
            "?nonce=\(String(repeating: "0", count: 32))&nonce=\(String(repeating: "0", count: 32))",
        ])
    func query(_ query: String) throws {
        let response = working.answer(HTTPRequest(target: "/v1/evidence\(query)"))
        #expect(response.status == 400)
        #expect(try JSON(parsing: response.body)["schema"]?.string == "nacre.error.v1")
    }

    @Test("knows three paths, each with one method")
    func routes() {
        #expect(working.answer(HTTPRequest(target: "/v1/healthz")).status == 200)
        #expect(working.answer(HTTPRequest(target: "/v1/healthz?x=1")).status == 400)
        for target in [
            "/", "/v1", "/v1/evidence/", "/v2/evidence", "/V1/healthz", "/v1/activate/", "/v1/healthz/../evidence",
        ] {
            #expect(working.answer(HTTPRequest(target: target)).status == 404)
        }
        for method in ["POST", "HEAD", "PUT", "OPTIONS", "get"] {
            let response = working.answer(HTTPRequest(method: method, target: "/v1/healthz"))
            #expect(response.status == 405)
            #expect(response.fields["allow"] == "GET")
        }
    }

    @Test("hands out no reason when the TPM fails")
    func failure() throws {
        let response = service { _ in throw NoTPM() }.answer(
            HTTPRequest(target: "/v1/evidence?nonce=\(String(repeating: "0", count: 32))"))
        #expect(response.status == 503)
        #expect(!String(decoding: response.body, as: UTF8.self).contains("NoTPM"))
    }

    @Test("asks the TPM only so often, however many ask")
    func rate() {
        let service = working
        let request = HTTPRequest(target: "/v1/evidence?nonce=\(String(repeating: "0", count: 32))")
        func accepted(_ count: Int) -> Int { (0..<count).filter { _ in service.answer(request).status == 200 }.count }
        #expect(accepted(50) == Allowance.burst)
        #expect(service.answer(request).status == 429)
        clock.advance(Allowance.millisecondsPerRequest * 2 + 1)
        #expect(accepted(10) == 2)
        clock.advance(3_600_000)
        #expect(accepted(50) == Allowance.burst)
        // Health is answered all the same.
        #expect(service.answer(HTTPRequest(target: "/v1/healthz")).status == 200)
    }
}

@Suite("Boot stages")
struct BootStagesTests {
    @Test("are told in order, with what is known")
    func line() {
        let loader: [UInt8] = [6, 0, 0, 0] + "2345678".utf8.flatMap { [$0, 0] } + [0, 0]
        let stages = BootStages(
            initrd: "initrd 9440\nswitch-root 10012\n", loaderTime: loader, root: 15003, attestable: 16000)
        #expect(
            stages.line
                == "nacre: stages firmware=2.345s kernel=9.440s initrd=10.012s root=15.003s attestable=16.000s")
        #expect(
            BootStages(initrd: "garbage\ninitrd -1\n", root: 5, attestable: 70).line
                == "nacre: stages root=0.005s attestable=0.070s")
    }

    @Test("read the loader's time strictly")
    func loaderTime() {
        #expect(BootStages.milliseconds(loaderTime: [7, 0, 0, 0, 0x31, 0, 0x30, 0, 0x30, 0, 0x30, 0, 0, 0]) == 1)
        for bytes: [UInt8] in [
            [], [7, 0, 0, 0], [7, 0, 0, 0, 0x31, 0], [7, 0, 0, 0, 0x31, 0, 0], [7, 0, 0, 0, 0x41, 0, 0, 0],
            [7, 0, 0, 0, 0x31, 1, 0, 0], [7, 0, 0, 0, 0, 0],
        ] { #expect(BootStages.milliseconds(loaderTime: bytes) == nil) }
    }
}
