import Bytes
import Crypto
import TestKit
import Testing

@testable import TDX

/// A genuine quote under Intel's own root, without `shared/vectors`.
@Suite struct GenuineSampleTests {
    @Test func rootIsTheCommittedFile() throws {
        let file = try readFile(GenuineSample.directory + "/../../../measurements/roots/intel/sgx-root-ca.pem")
        #expect(PEM.blocks(file).map(\.der) == [IntelRoot.der])
        #expect(
            Hex.encode(HashAlgorithm.sha256.hash(IntelRoot.der))
                == "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")
        #expect(IntelRoot.spki != nil)
    }

    @Test func decodesTheQuote() throws {
        let quote = try Quote(parsing: GenuineSample.quote())
        #expect(quote.header.version == 4)
        #expect(Hex.encode(quote.body.teeTCBSVN) == "03000400000000000000000000000000")
        #expect(quote.body.attributes == [.pks])
        #expect(Hex.encode(quote.body.xfam) == "e71a060000000000")
        #expect(quote.signature.qeReport.isvProdID == 2)
        let source = try quote.collateralSource()
        #expect(Hex.encode(source.fmspc) == "50806f000000")
        #expect(source.authority == .platform)
    }

    @Test func refusesTheTextBehindTheQuote() throws {
        let error = #expect(throws: ParseError.self) {
            try Quote(parsing: GenuineSample.file("quote-spr-e4.bin"))
        }
        #expect(error?.detail == "reserved")
    }

    /// Authentic at a time when the collateral is current, and below every TCB level.
    @Test(arguments: [
        ("2023-07-01T00:00:00Z", "tcb-not-supported"), ("2023-06-18T08:42:57Z", "tcbinfo-not-yet-valid"),
        ("2023-07-18T08:42:59Z", "tcbinfo-expired"), ("2023-07-08T07:25:00Z", "qeid-expired"),
        ("2020-01-01T00:00:00Z", "pck-not-yet-valid"), ("2040-01-01T00:00:00Z", "pck-expired"),
    ])
    func judgesAtATime(_ time: String, _ expected: String) throws {
        let document = Array(try GenuineSample.collateral().json.compact.utf8)
        let quote = try GenuineSample.quote()
        let time = try #require(Instant(time))
        #expect(reason { () throws(Finding) in _ = try verify(quote, document, at: time) } == expected)
    }

    @Test func collateralReadsWhatItWrites() throws {
        let collateral = try GenuineSample.collateral()
        #expect(try Collateral(parsing: Array(collateral.json.pretty.utf8)) == collateral)
    }

    @Test func pckExtensionNamesThePlatform() throws {
        let anchor = try TrustAnchor(IntelRoot.der)
        let text = try Quote(parsing: GenuineSample.quote()).signature.certificateChain
        let chain = try CheckedPCKChain(text, anchor: anchor)
        #expect(chain.platform.componentSVNs.count == 16)
        #expect(Array(chain.platform.cpuSVN) == chain.platform.componentSVNs)
        #expect(chain.platform.sgxType == 1)
        #expect(chain.platform.platformInstanceID?.count == 16)
        #expect(chain.platform.configuration?.dynamicPlatform == true)
        let value = try #require(chain.pck.certificate.extensionValue(PCKExtension.oid))
        for count in 0..<value.count {
            #expect(throws: ParseError.self) { try PCKExtension(parsing: Array(value.prefix(count))) }
        }
    }
}
