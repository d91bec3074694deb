import Bytes
import TestKit

@testable import TDX

/// The quote and collateral in `Fixtures`; `SOURCE.md` there says where they come from.
enum GenuineSample {
    static let directory = "/" + #filePath.split(separator: "/").dropLast().joined(separator: "/") + "/Fixtures"
    /// A moment at which all of the collateral is current.
    static let time = Instant("2023-07-01T00:00:00Z") ?? Instant(seconds: 0)

    static func file(_ name: String) throws -> [UInt8] { try readFile("\(directory)/\(name)") }

    /// Without the text that the package's authors appended.
    static func quote() throws -> [UInt8] { Array(try file("quote-spr-e4.bin").dropLast(39)) }

    static func chain(_ name: String) throws -> [UInt8] {
        let header = String(decoding: try file("\(name)-issuer-chain.urlencoded"), as: UTF8.self)
        return try ProvisioningService.issuerChain(header: header)
    }

    static func collateral() throws -> Collateral {
        let tcbInfo = try ProvisioningService.signedObject(file("tcb-info.json"), key: "tcbInfo")
        let identity = try ProvisioningService.signedObject(file("qe-identity.json"), key: "enclaveIdentity")
        return Collateral(
            pckCRLIssuerChain: try chain("pck-crl"), rootCRL: try file("root-crl.der"),
            pckCRL: try file("pck-crl.der"), tcbInfoIssuerChain: try chain("tcb-info"), tcbInfo: tcbInfo.object,
            tcbInfoSignature: tcbInfo.signature, qeIdentityIssuerChain: try chain("qe-identity"),
            qeIdentity: identity.object, qeIdentitySignature: identity.signature)
    }
}

/// The reason of what `body` throws, `ok` when it returns.
func reason(_ body: () throws(Finding) -> Void) -> String {
    do {
        try body()
        return "ok"
    } catch {
        return error.reason
    }
}

func verify(
    _ quote: [UInt8], _ collateral: [UInt8], root: [UInt8] = IntelRoot.der, at time: Instant,
    cache: VerificationCache = VerificationCache()
) throws(Finding) -> VerifiedQuote {
    try QuoteVerifier(root: root, cache: cache).verify(quote, collateral: collateral, at: time)
}
