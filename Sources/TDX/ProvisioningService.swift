import Bytes
import Crypto

/// Intel's Provisioning Certification Service, API version 4, and the answers of which collateral is made.
///
/// Addresses and forms only: nothing here fetches, and what was fetched is verified like any other input.
public enum ProvisioningService {
    public static let host = "https://api.trustedservices.intel.com"
    /// The root's CRL, DER; it has no issuer chain.
    public static let rootCRLURL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"

    /// Which evaluation of a TCB recovery event Intel's answer should follow.
    public enum Update: String, Sendable, CaseIterable {
        /// As soon as an event is published.
        case early
        /// Once platforms had time to update; what the service answers by default.
        case standard
    }

    /// TCB info of one FMSPC (6 bytes): `{"tcbInfo":…,"signature":"…"}`, chain in `TCB-Info-Issuer-Chain`.
    public static func tcbInfoURL(fmspc: [UInt8], update: Update = .standard) -> String {
        "\(host)/tdx/certification/v4/tcb?fmspc=\(Hex.encode(fmspc))&update=\(update.rawValue)"
    }

    /// Identity of the TD quoting enclave: `{"enclaveIdentity":…,"signature":"…"}`, chain in
    /// `SGX-Enclave-Identity-Issuer-Chain`.
    public static func qeIdentityURL(update: Update = .standard) -> String {
        "\(host)/tdx/certification/v4/qe/identity?update=\(update.rawValue)"
    }

    /// CRL of one PCK authority, DER, chain in `SGX-PCK-CRL-Issuer-Chain`.
    public static func pckCRLURL(_ authority: CollateralSource.Authority) -> String {
        "\(host)/sgx/certification/v4/pckcrl?ca=\(authority.rawValue)&encoding=der"
    }

    public static let tcbInfoChainHeader = "TCB-Info-Issuer-Chain"
    public static let qeIdentityChainHeader = "SGX-Enclave-Identity-Issuer-Chain"
    public static let pckCRLChainHeader = "SGX-PCK-CRL-Issuer-Chain"

    /// The PEM text of an issuer-chain header, which is percent-encoded.
    public static func issuerChain(header value: String) throws(ParseError) -> [UInt8] {
        let text = Array(value.utf8)
        guard text.count <= IssuerChain.maximumSize else {
            throw ParseError("length", field: "issuer chain", offset: 0, "\(text.count) bytes")
        }
        var decoded: [UInt8] = []
        var index = 0
        while index < text.count {
            if text[index] == UInt8(ascii: "%") {
                guard text.count - index > 2,
                    let byte = Hex.decode(String(decoding: text[index + 1...index + 2], as: UTF8.self))
                else { throw ParseError("form", field: "issuer chain", offset: index, "half a percent escape") }
                decoded += byte
                index += 3
            } else {
                decoded.append(text[index])
                index += 1
            }
        }
        return decoded
    }

    /// The exact bytes that Intel signed and the signature (r ‖ s), from `{"<key>":{…},"signature":"<hex>"}`.
    ///
    /// The object is cut out of the answer, never encoded again: the signature is over the bytes as served.
    public static func signedObject(_ body: [UInt8], key: String) throws(ParseError) -> (
        object: [UInt8], signature: [UInt8]
    ) {
        var fields = try JSONFields(JSON(parsing: body, limit: Collateral.maximumSize), path: "answer")
        guard try fields.required(key).object != nil else {
            throw ParseError("form", field: "answer.\(key)", offset: 0, "must be an object")
        }
        let signature = try fields.hex("signature", count: 64)
        try fields.end()
        let end = body.lastIndex { ![0x20, 0x0A, 0x0D, 0x09].contains($0) } ?? body.startIndex
        let body = body[...end]
        let head = Array("{\"\(key)\":".utf8)
        let tailMark = Array(",\"signature\":\"".utf8)
        let tailCount = tailMark.count + 128 + 2
        guard body.starts(with: head), body.count > head.count + tailCount,
            body.suffix(tailCount).starts(with: tailMark), body.suffix(2).elementsEqual("\"}".utf8)
        else {
            throw ParseError("form", field: "answer", offset: 0, "is not {\"\(key)\":…,\"signature\":\"…\"} as served")
        }
        return (Array(body[head.count..<body.count - tailCount]), signature)
    }
}

/// Which platform collateral is for.
public struct CollateralSource: Sendable, Equatable, Hashable {
    /// 6 bytes.
    public let fmspc: [UInt8]
    public let authority: Authority

    /// Authority that issued a PCK certificate.
    public enum Authority: String, Sendable, CaseIterable {
        case platform, processor

        /// From the issuer's common name; `nil` for any other name.
        public init?(issuer commonName: String) {
            switch commonName {
            case "Intel SGX PCK Platform CA": self = .platform
            case "Intel SGX PCK Processor CA": self = .processor
            default: return nil
            }
        }
    }

    public init(fmspc: [UInt8], authority: Authority) {
        self.fmspc = fmspc
        self.authority = authority
    }
}

extension Quote {
    /// Where the collateral of this quote comes from, by its PCK certificate. Not verified.
    public func collateralSource() throws(Finding) -> CollateralSource {
        let text = signature.certificateChain
        let chain = try IssuerChain.certificates(text.last == 0 ? Array(text.dropLast()) : text, count: 3, "pck")
        guard let value = chain[0].extensionValue(PCKExtension.oid),
            let authority = chain[1].commonName.flatMap(CollateralSource.Authority.init(issuer:))
        else {
            throw Finding("pck-chain", claim: "pck", expected: "a PCK certificate of Intel's form", actual: "another")
        }
        do {
            return CollateralSource(fmspc: try PCKExtension(parsing: value).fmspc, authority: authority)
        } catch {
            throw error.finding
        }
    }
}
