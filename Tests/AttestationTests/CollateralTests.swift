import Bytes
import Glibc
import SEVSNP
import Synchronization
import TDX
import TestKit
import Testing

@testable import Attestation

/// Getting, keeping and bundling collateral, with a fetcher over recorded answers of Intel's and AMD's services.
@Suite struct CollateralTests {
    static let tests = "/" + #filePath.split(separator: "/").dropLast(2).joined(separator: "/")
    static let time = Instant("2023-07-01T00:00:00Z") ?? Instant(seconds: 0)

    struct NoAnswer: Error {}

    /// Answers by URL; counts what is asked.
    final class Server: Sendable {
        let asked = Mutex<[String]>([])
        let damage: @Sendable (String, [UInt8]) -> [UInt8]

        init(damage: @escaping @Sendable (String, [UInt8]) -> [UInt8] = { $1 }) { self.damage = damage }

        func answer(_ url: String) throws -> CollateralClient.Answer {
            asked.withLock { $0.append(url) }
            func file(_ name: String) throws -> [UInt8] { try readFile("\(tests)/TDXTests/Fixtures/\(name)") }
            func text(_ name: String) throws -> String { String(decoding: try file(name), as: UTF8.self) }
            let api = "https://api.trustedservices.intel.com"
            let (body, headers): ([UInt8], [String: String]) =
                switch url {
                case "\(api)/tdx/certification/v4/tcb?fmspc=50806f000000&update=standard":
                    (try file("tcb-info.json"), ["Tcb-Info-Issuer-Chain": try text("tcb-info-issuer-chain.urlencoded")])
                case "\(api)/tdx/certification/v4/qe/identity?update=standard":
                    (
                        try file("qe-identity.json"),
                        ["sgx-enclave-identity-issuer-chain": try text("qe-identity-issuer-chain.urlencoded")]
                    )
                case "\(api)/sgx/certification/v4/pckcrl?ca=platform&encoding=der":
                    (try file("pck-crl.der"), ["SGX-PCK-CRL-Issuer-Chain": try text("pck-crl-issuer-chain.urlencoded")])
                case "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der":
                    (try file("root-crl.der"), [:])
                case "https://kdsintf.amd.com/vcek/v1/Milan/cert_chain":
                    (Array(AMDAnchors.chainPEM(.milan, .vcek).utf8), [:])
                default: throw NoAnswer()
                }
            return .init(headers: headers, body: damage(url, body))
        }
    }

    static func quote() throws -> Quote {
        try Quote(parsing: Array(readFile("\(tests)/TDXTests/Fixtures/quote-spr-e4.bin").dropLast(39)))
    }

    static func reason(_ body: () throws -> Void) -> String {
        do {
            try body()
            return "ok"
        } catch {
            return (error as? Finding)?.reason ?? "\(error)"
        }
    }

    @Test func fetchesOnceThenServesFromTheCacheUntilItLapses() throws {
        try withTemporaryFolder { directory in
            let server = Server()
            let online = CollateralClient(cache: CollateralCache(directory: directory)) { try server.answer($0) }
            let first = try online.collateral(for: Self.quote(), at: Self.time)
            #expect(server.asked.withLock { $0.count } == 4)
            #expect(try online.collateral(for: Self.quote(), at: Self.time) == first)
            #expect(server.asked.withLock { $0.count } == 4)
            let offline = CollateralClient(cache: CollateralCache(directory: directory))
            #expect(try offline.collateral(for: Self.quote(), at: Self.time) == first)
            let later = try #require(Instant("2024-01-01T00:00:00Z"))
            #expect(Self.reason { _ = try offline.collateral(for: Self.quote(), at: later) } == "collateral-missing")
        }
    }

    @Test func damagedCacheCountsAsAbsent() throws {
        try withTemporaryFolder { directory in
            let server = Server()
            let client = CollateralClient(cache: CollateralCache(directory: directory)) { try server.answer($0) }
            let item = try client.collateral(for: Self.quote(), at: Self.time)
            let path = "\(directory)/\(try item.key()).json"
            let text = String(decoding: try readFile(path), as: UTF8.self)
            try writeFile(path, Array(text.replacing("OutOfDate", with: "UpToDate!").utf8))
            let offline = CollateralClient(cache: CollateralCache(directory: directory))
            #expect(
                Self.reason { _ = try offline.collateral(for: Self.quote(), at: Self.time) } == "collateral-missing")
            #expect(try client.collateral(for: Self.quote(), at: Self.time) == item)
            #expect(server.asked.withLock { $0.count } == 8)
        }
    }

    /// A part of an address, and the reason when its answer is damaged.
    @Test(arguments: [
        ("/tcb?", "tcbinfo"), ("/qe/identity", "qeid"), ("/pckcrl", "pck"), ("IntelSGXRootCA", "root"),
    ])
    func nothingUnverifiedIsKept(_ part: String, _ family: String) throws {
        try withTemporaryFolder { directory in
            let server = Server { url, body in
                guard url.contains(part) else { return body }
                var damaged = body
                damaged[body.count / 2] ^= 1
                return damaged
            }
            let cache = CollateralCache(directory: directory)
            let client = CollateralClient(cache: cache) { try server.answer($0) }
            let reason = Self.reason { _ = try client.collateral(for: Self.quote(), at: Self.time) }
            #expect(reason.hasPrefix(family) || reason.hasPrefix("parse"), "\(reason)")
            #expect(cache.load("intel-50806f000000-platform") == nil)
        }
    }

    @Test func unreachableServiceIsSaid() throws {
        let client = CollateralClient { url in throw NoAnswer() }
        #expect(Self.reason { _ = try client.collateral(for: Self.quote(), at: Self.time) } == "collateral-unreachable")
        #expect(
            Self.reason { _ = try CollateralClient().collateral(for: Self.quote(), at: Self.time) }
                == "collateral-missing")
    }

    @Test func bundleReadsWhatItWritesAndServesOffline() throws {
        let server = Server()
        let client = CollateralClient { try server.answer($0) }
        var bundle = CollateralBundle()
        try bundle.add(client.collateral(for: Self.quote(), at: Self.time))
        try bundle.add(client.chain(.milan, .vcek, at: Self.time))
        let bytes = Array(bundle.json.pretty.utf8)
        let read = try CollateralBundle(parsing: bytes)
        #expect(read == bundle)
        #expect(Array(read.json.pretty.utf8) == bytes)
        let offline = CollateralClient(bundle: read)
        _ = try offline.collateral(for: Self.quote(), at: Self.time)
        let document = try #require(read.intel(Self.quote().collateralSource()))
        let verdict = Judge.tdx(
            quote: try Self.quote().serialize(), collateral: document, root: nil, policy: TDXPolicy(), time: Self.time)
        #expect(verdict.reason == "tcb-not-supported")
        let later = try #require(Instant("2024-01-01T00:00:00Z"))
        #expect(Self.reason { _ = try offline.collateral(for: Self.quote(), at: later) } == "tcbinfo-expired")
    }

    /// File, product, time, reason.
    @Test(arguments: [
        ("genoa-2024-10", Product.genoa, "2025-06-01T00:00:00Z", "ok"),
        ("genoa-2024-10", Product.genoa, "2026-06-01T00:00:00Z", "crl-expired"),
        ("genoa-2024-10", Product.milan, "2025-06-01T00:00:00Z", "chain-signature"),
        ("milan-2025-05", Product.milan, "2026-02-01T00:00:00Z", "ok"),
    ])
    func genuineRevocationLists(_ file: String, _ product: Product, _ time: String, _ expected: String) throws {
        guard Vectors.root != nil else { return }
        let item = CollateralItem.revocationList(product, .vcek, try Vectors.read("snp/crl/\(file).der"))
        let time = try #require(Instant(time))
        let verifier = QuoteVerifier(cache: VerificationCache())
        #expect(Self.reason { _ = try item.verify(intel: verifier, at: time) } == expected)
    }

    @Test func genuineEndorsement() throws {
        let vcek = CollateralItem.endorsement(try readFile("\(Self.tests)/SEVSNPTests/Fixtures/milan-debug-vcek.der"))
        let verifier = QuoteVerifier(cache: VerificationCache())
        #expect(try vcek.key().hasPrefix("amd-vcek-milan-"))
        #expect(try vcek.verify(intel: verifier, at: Self.time) > Self.time)
        let past = try #require(Instant("2000-01-01T00:00:00Z"))
        #expect(Self.reason { _ = try vcek.verify(intel: verifier, at: past) }.hasPrefix("cert"))
        var bundle = CollateralBundle()
        try bundle.add(vcek)
        #expect(try CollateralBundle(parsing: Array(bundle.json.compact.utf8)) == bundle)
        guard case .endorsement(let der) = vcek else { return }
        let key = try EndorsementKey(der)
        #expect(bundle.vcek(.milan, chipID: try #require(key.hardwareID), tcb: key.tcb) == der)
    }

    @Test(arguments: [
        "{}", #"{"schema":"nacre.collateral.v2","items":[]}"#, #"{"schema":"nacre.collateral.v1","items":[],"more":1}"#,
        #"{"schema":"nacre.collateral.v1","items":[{"kind":"other"}]}"#,
        #"{"schema":"nacre.collateral.v1","items":[{"kind":"amd-endorsement","certificate":"AAAA"}]}"#,
        #"{"schema":"nacre.collateral.v1","items":[{"kind":"amd-crl","product":"Rome","key":"vcek","crl":""}]}"#,
    ])
    func malformedBundlesAreRefused(_ text: String) {
        #expect(throws: Finding.self) { try CollateralBundle(parsing: Array(text.utf8)) }
    }
}
