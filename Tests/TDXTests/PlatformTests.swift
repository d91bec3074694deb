import Bytes
import Crypto
import SimulatedTEE
import TestKit
import Testing

@testable import TDX

/// Verification under an own root: the states that genuine samples do not show.
@Suite struct PlatformTests {
    @Test(arguments: PlatformCase.all)
    func comesToTheStatedResult(_ test: PlatformCase) throws {
        var platform = try TDXPlatform()
        try test.change(&platform)
        let (quote, collateral, root) = (
            try platform.quote(), try platform.collateral(), try platform.rootCertificate()
        )
        var verified: VerifiedQuote?
        let actual = reason { () throws(Finding) in
            verified = try verify(quote, collateral, root: root, at: PlatformCase.time)
        }
        #expect(actual == test.reason)
        #expect(verified?.tcb.status.rawValue == test.status)
        if let verified { #expect(verified.tcb.advisories == test.advisories) }
    }

    @Test func anotherRootOfTheSameNameIsRefused() throws {
        let (platform, other) = (try TDXPlatform(), try TDXPlatform())
        let (quote, collateral) = (try platform.quote(), try platform.collateral())
        for root in [try other.rootCertificate(), IntelRoot.der] {
            let actual = reason { () throws(Finding) in
                _ = try verify(quote, collateral, root: root, at: PlatformCase.time)
            }
            #expect(actual == "pck-chain")
        }
        // The same key under a reissued certificate is the same root.
        let reissued = try platform.root.root(serial: [0x77], notAfter: "2049-12-31T23:59:59Z")
        _ = try verify(quote, collateral, root: reissued, at: PlatformCase.time)
    }

    @Test func collateralOfAnotherRootIsRefused() throws {
        let (platform, other) = (try TDXPlatform(), try TDXPlatform())
        let (quote, collateral) = (try platform.quote(), try other.collateral())
        let root = try platform.rootCertificate()
        let actual = reason { () throws(Finding) in
            _ = try verify(quote, collateral, root: root, at: PlatformCase.time)
        }
        #expect(actual == "root-crl-signature")
    }

    /// One cache, one document: what was verified once is still dated, revoked and matched at each use.
    @Test func cachedCollateralIsJudgedAnewAtEachTime() throws {
        let platform = try TDXPlatform()
        let (quote, collateral, root) = (
            try platform.quote(), try platform.collateral(), try platform.rootCertificate()
        )
        let cache = VerificationCache(capacity: 2)
        for (time, expected) in [
            ("2026-02-20T00:00:00Z", "ok"), ("2044-01-02T00:00:00Z", "tcbinfo-expired"),
            ("2026-01-31T00:00:00Z", "tcbinfo-not-yet-valid"), ("2045-01-02T00:00:00Z", "pck-expired"),
            ("2026-02-20T00:00:00Z", "ok"),
        ] {
            let time = try #require(Instant(time))
            let actual = reason { () throws(Finding) in
                _ = try verify(quote, collateral, root: root, at: time, cache: cache)
            }
            #expect(actual == expected)
        }
        var moved = platform
        moved.body.reportData[0] = 1
        let second = try moved.quote()
        _ = try verify(second, collateral, root: root, at: PlatformCase.time, cache: cache)
        for _ in 0..<5 {
            let other = try TDXPlatform()
            let (quote, collateral) = (try other.quote(), try other.collateral())
            let root = try other.rootCertificate()
            _ = try verify(quote, collateral, root: root, at: PlatformCase.time, cache: cache)
        }
        #expect(cache.collateral.count == 2)
    }

    @Test func outerCertificationDataOfTypeFiveIsRefused() throws {
        var bytes = try TDXPlatform().quote()
        bytes[632 + 4 + 128] = 5
        let error = #expect(throws: ParseError.self) { try Quote(parsing: bytes) }
        #expect(error?.detail == "certification-type")
    }

    @Test func attestationKeyMustBeAPoint() throws {
        #expect(throws: CryptoError.self) { try PublicKey(point: [UInt8](repeating: 1, count: 64), on: .p256) }
        #expect(throws: CryptoError.self) { try PublicKey(point: [UInt8](repeating: 0, count: 64), on: .p256) }
        #expect(throws: CryptoError.self) { try PublicKey(point: [], on: .p256) }
        let key = try PrivateKey(generating: .p256).publicKey
        #expect(try PublicKey(point: #require(key.point), on: .p256) == key)
    }
}
