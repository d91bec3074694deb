import Attestation
import Bytes
import Crypto
import Glibc
import HTTP
import Manifest
import Synchronization
import SyntheticNode
import TestKit
import Testing

/// A connection without TLS, as a mirror of collateral inside somebody's network may be.
private final class PlainStream: ByteStream {
    private let socket: StreamSocket

    init(_ socket: consuming StreamSocket) { self.socket = socket }

    private func wait(_ events: Int16) throws(CryptoError) {
        var descriptor = pollfd(fd: socket.descriptor, events: events, revents: 0)
        guard unsafe poll(&descriptor, 1, 60_000) == 1 else { throw CryptoError(.connection, "nobody there") }
    }

    func read(max: Int) throws(CryptoError) -> [UInt8] {
        try wait(Int16(POLLIN))
        var bytes = [UInt8](repeating: 0, count: max)
        let count = unsafe recv(socket.descriptor, &bytes, max, 0)
        guard count >= 0 else { throw CryptoError(.connection, "recv") }
        return Array(bytes.prefix(count))
    }

    func write(_ bytes: [UInt8]) throws(CryptoError) {
        var rest = bytes[...]
        while !rest.isEmpty {
            try wait(Int16(POLLOUT))
            let count = unsafe rest.withUnsafeBytes { unsafe send(socket.descriptor, $0.baseAddress, $0.count, 0) }
            guard count > 0 else { throw CryptoError(.connection, "send") }
            rest = rest.dropFirst(count)
        }
    }
}

/// Intel's recorded answers (`TDXTests/Fixtures`) on loopback.
private final class Mirror: Sendable {
    static let tests = "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
    let url: String
    let asked = Mutex<[String]>([])

    init() throws {
        let listener = try StreamSocket(listeningOn: "127.0.0.1", port: 0)
        url = "http://127.0.0.1:\(listener.localPort)/"
        let descriptor = listener.release()
        _ = started { [self] in
            guard let listener = try? StreamSocket(adopting: descriptor) else { return }
            while let socket = try? listener.accept(deadline: .seconds(120)) {
                let http = HTTPConnection(PlainStream(socket))
                guard let request = try? http.readRequest() else { continue }
                asked.withLock { $0.append(request.target) }
                try? http.write((try? Self.answer(request)) ?? .text("not here", status: 404))
            }
        }
    }

    private static func answer(_ request: HTTPRequest) throws -> HTTPResponse {
        func file(_ name: String) throws -> [UInt8] { try readFile("\(tests)/TDXTests/Fixtures/\(name)") }
        func chain(_ header: String, _ name: String) throws -> [String: String] {
            [header: String(decoding: try file(name), as: UTF8.self)]
        }
        let api = "/api.trustedservices.intel.com"
        switch request.path {
        case "\(api)/tdx/certification/v4/tcb" where request.query?["fmspc"] == "50806f000000":
            return .init(
                status: 200, fields: try chain("tcb-info-issuer-chain", "tcb-info-issuer-chain.urlencoded"),
                body: try file("tcb-info.json"))
        case "\(api)/tdx/certification/v4/qe/identity":
            return .init(
                status: 200,
                fields: try chain("sgx-enclave-identity-issuer-chain", "qe-identity-issuer-chain.urlencoded"),
                body: try file("qe-identity.json"))
        case "\(api)/sgx/certification/v4/pckcrl" where request.query?["ca"] == "platform":
            return .init(
                status: 200, fields: try chain("sgx-pck-crl-issuer-chain", "pck-crl-issuer-chain.urlencoded"),
                body: try file("pck-crl.der"))
        case "/certificates.trustedservices.intel.com/IntelSGXRootCA.der":
            return .init(status: 200, body: try file("root-crl.der"))
        default: return .text("not here", status: 404)
        }
    }
}

/// Collateral on the command line: fetched only when asked, verified before it is kept, bundled for later.
@Suite struct CollateralCommandTests {
    /// When the recorded collateral was current.
    static let time = ["--at", "2023-07-01T00:00:00Z"]

    /// A genuine quote as a node's evidence. It was made for another nonce and by another image, so it is never accepted;
    /// how far the judge gets shows what it had.
    static func release() throws -> Release {
        let release = try Release()
        let quote = Array(try readFile("\(Mirror.tests)/TDXTests/Fixtures/quote-spr-e4.bin").dropLast(39))
        let evidence = Evidence(
            platform: .tdx, nonce: release.node.nonce,
            tee: .init(report: quote, auxiliary: [], eventLog: []))
        _ = try release.folder.file("tdx.json", evidence.json.compact)
        let registers = Dictionary(
            uniqueKeysWithValues: ["mrtd", "rtmr1", "rtmr2"].map { ($0, [UInt8](repeating: 1, count: 48)) })
        let manifest = try SyntheticNode.manifest(tdx: registers)
        _ = try release.folder.file("manifest.json", manifest.bytes)
        let key = try PrivateKey(pem: readFile(release.file("key")))
        let signature = try ManifestVerifier.sign(manifest.bytes, name: "manifest.json", key: key)
        _ = try release.folder.file("manifest.json.sigstore.json", signature.bytes)
        return release
    }

    /// Runs off the pool of tests, which the mirror shares.
    static func run(_ arguments: [String]) async throws -> Tool.Output {
        try await onThread { Result { try Tool.run([Nacre.path] + arguments + time) } }.get()
    }

    static func bundle(_ release: Release, _ out: String, _ more: String...) async throws -> Tool.Output {
        try await run(
            [
                "evidence", "bundle", "--evidence", release.file("tdx.json"), "--manifest",
                release.file("manifest.json"), "--out", release.file(out),
            ] + more)
    }

    /// The reason with which a file is judged, with no network.
    static func reason(_ release: Release, _ name: String, _ more: String...) async throws -> String {
        let output = try await run(
            [
                "evidence", "verify", "--evidence", release.file(name), "--trust-root", release.file("key.pub"), "-o",
                "json",
            ] + more)
        #expect(output.status == 3, "\(output.errors)")
        return try Nacre.json(output)["reason"]?.string ?? ""
    }

    @Test func `a bundle with fetched collateral is judged with no network, and nothing is asked unless told`()
        async throws
    {
        guard Tool.find("curl") != nil else {
            print("skipped: curl is not here")
            return
        }
        let release = try Self.release()
        let mirror = try Mirror()
        let cache = release.file("cache")
        let plain = try await Self.bundle(release, "plain.json")
        #expect(plain.status == 0, "\(plain.errors)")
        #expect(try await Self.reason(release, "plain.json") == "parse-missing")

        let fetched = try await Self.bundle(
            release, "whole.json", "--fetch", "--collateral-mirror", mirror.url, "--collateral-cache", cache)
        #expect(fetched.status == 0, "\(fetched.errors)")
        #expect(fetched.errors.contains("intel-50806f000000-platform"))
        #expect(mirror.asked.withLock { $0.count } == 4)
        // The quote was made on a platform that Intel's levels of that day do not cover: collateral was used.
        let withCollateral = try await Self.reason(release, "whole.json")
        #expect(withCollateral == "tcb-not-supported", "\(withCollateral)")

        // From the cache alone, both when bundling and when judging.
        let cached = try await Self.bundle(release, "cached.json", "--collateral-cache", cache)
        #expect(cached.status == 0, "\(cached.errors)")
        #expect(try readFile(release.file("cached.json")) == readFile(release.file("whole.json")))
        #expect(try await Self.reason(release, "plain.json", "--collateral-cache", cache) == "tcb-not-supported")
        #expect(mirror.asked.withLock { $0.count } == 4)
    }

    @Test func `what does not verify is neither bundled nor kept`() async throws {
        guard Tool.find("curl") != nil else {
            print("skipped: curl is not here")
            return
        }
        let release = try Self.release()
        let mirror = try Mirror()
        let cache = release.file("cache")
        let options = ["--fetch", "--collateral-mirror", mirror.url, "--collateral-cache", cache]
        let late = try await onThread {
            Result {
                try Tool.run(
                    [
                        Nacre.path, "evidence", "bundle", "--evidence", release.file("tdx.json"), "--manifest",
                        release.file("manifest.json"), "--out", release.file("late.json"), "--at",
                        "2024-01-01T00:00:00Z",
                    ] + options)
            }
        }.get()
        #expect(late.status == 1)
        #expect(late.errors.contains("tcbinfo-expired"), "\(late.errors)")
        #expect(!exists(release.file("late.json")))
        #expect(!exists("\(cache)/intel-50806f000000-platform.json"))
        let silent = try await Self.bundle(
            release, "silent.json", "--fetch", "--collateral-mirror", "http://127.0.0.1:1/")
        #expect(silent.status == 1)
        #expect(silent.errors.contains("collateral-unreachable"), "\(silent.errors)")
        #expect(try await Self.bundle(release, "x.json", "--collateral-mirror", mirror.url).status == 2)
        #expect(
            try await Self.bundle(release, "x.json", "--fetch", "--collateral-mirror", "ftp://127.0.0.1").status == 2)
    }

    @Test func `files are taken into the same document, whatever their form`() async throws {
        let release = try Self.release()
        let vek = "\(Mirror.tests)/SEVSNPTests/Fixtures/milan-debug-vcek.der"
        let report = try readFile("\(Mirror.tests)/SEVSNPTests/Fixtures/milan-debug-report.bin")
        let evidence = Evidence(
            platform: .snp, nonce: release.node.nonce, tee: .init(report: report, auxiliary: [], eventLog: []))
        _ = try release.folder.file("tdx.json", evidence.json.compact)
        let made = try await Self.bundle(release, "snp.json", "--vek", vek)
        #expect(made.status == 0, "\(made.errors)")
        let document = try EvidenceBundle.Document(parsing: readFile(release.file("snp.json")))
        let items = try CollateralBundle(json: #require(document.evidence.collateral)).items
        #expect(items.count == 1)
        #expect(items.keys.first?.hasPrefix("amd-vcek-milan-") == true)
        // Its own document again, as a file.
        let saved = try release.folder.file("collateral.json", #require(document.evidence.collateral).compact)
        let again = try await Self.bundle(release, "again.json", "--collateral", saved)
        #expect(again.status == 0, "\(again.errors)")
        #expect(try readFile(release.file("again.json")) == readFile(release.file("snp.json")))
        // A chain or list belongs to a product, which only the certificate tells.
        #expect(try await Self.bundle(release, "x.json", "--crl", vek).status == 2)
        #expect(try await Self.bundle(release, "x.json", "--vek", release.file("key")).status == 2)
        // The evidence of a machine without a report has nothing that collateral could be for.
        _ = try release.folder.file("tdx.json", try release.node.evidence().json.compact)
        #expect(try await Self.bundle(release, "x.json", "--vek", vek).status == 2)
    }
}

private func exists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }
