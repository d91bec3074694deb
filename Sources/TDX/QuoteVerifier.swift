import Bytes
import Crypto

/// Verifies TDX quotes: everything Intel's quote verification library checks, in its order, at a given time.
///
/// The root comes from the caller, and no clock is read. Verified chains and collateral are kept in `cache`.
public struct QuoteVerifier: Sendable {
    private let root: [UInt8]
    private let cache: VerificationCache

    /// - Parameters:
    ///   - root: the trusted root CA, DER or PEM; `IntelRoot.der` for genuine hardware.
    ///   - cache: shared between verifiers that judge many quotes.
    public init(root: [UInt8] = IntelRoot.der, cache: VerificationCache) {
        self.root = root
        self.cache = cache
    }

    /// Whether the trusted root is Intel's own key; `false` also for a root that cannot be read.
    public var trustsIntel: Bool { (try? anchor(HashAlgorithm.sha256.hash(root)).isIntel) ?? false }

    private func anchor(_ digest: [UInt8]) throws(Finding) -> TrustAnchor {
        try cache.anchors.value(digest) { () throws(Finding) in try TrustAnchor(root) }
    }

    /// - Parameters:
    ///   - bytes: a quote, version 4 or 5.
    ///   - collateral: the JSON document that `Collateral` describes.
    ///   - time: when to judge.
    /// - Throws: a finding whose family says what failed: `parse`, `pck`, `intermediate`, `root`, `tcbinfo`, `qeid`,
    ///   `tcb`, `tdx`, `qe`, `ak`, `quote`.
    public func verify(
        _ bytes: [UInt8], collateral document: [UInt8], at time: Instant
    ) throws(Finding) -> VerifiedQuote {
        let quote: Quote
        do {
            quote = try Quote(parsing: bytes)
        } catch {
            throw error.finding
        }
        return try verify(quote, collateral: document, at: time)
    }

    /// The same for a quote that was read already.
    public func verify(
        _ quote: Quote, collateral document: [UInt8], at time: Instant
    ) throws(Finding) -> VerifiedQuote {
        let rootDigest = HashAlgorithm.sha256.hash(root)
        let anchor = try anchor(rootDigest)

        // 1. PCK chain to the pinned root, valid at the time.
        let text = quote.signature.certificateChain
        let chainKey = HashAlgorithm.sha256.hash(rootDigest + text)
        let chain = try cache.chains.value(chainKey) { () throws(Finding) in
            try CheckedPCKChain(text, anchor: anchor)
        }
        try chain.requireDates(time)

        // 2, 3. CRLs, TCB info, QE identity: signed, current, none of the certificates revoked, of this platform.
        let collateralKey = HashAlgorithm.sha256.hash(rootDigest + document)
        let checked = try cache.collateral.value(collateralKey) { () throws(Finding) in
            let collateral: Collateral
            do throws(ParseError) {
                collateral = try Collateral(parsing: document)
            } catch {
                throw error.finding
            }
            return try CheckedCollateral(collateral, anchor: anchor)
        }
        try checked.requireDates(time)
        try checked.requireUnrevoked(chain)
        try Self.requirePlatform(chain.platform, checked.tcbInfo)

        // 4–7. TDX module, quoting enclave, attestation key, quote, TCB levels.
        try Self.requireModule(quote.body, checked.tcbInfo)
        let enclaveKey = HashAlgorithm.sha256.hash(chainKey + quote.signature.endorsement)
        let attestationKey = try cache.attestationKeys.value(enclaveKey) { () throws(Finding) in
            try Self.attestationKey(quote.signature, pck: chain.pck.key)
        }
        try Self.requireIdentity(quote.signature.qeReport, checked.qeIdentity)
        try Self.requireSignature(quote, by: attestationKey)
        return VerifiedQuote(
            quote: quote, platform: chain.platform, issuer: chain.intermediate.certificate.commonName ?? "",
            tcb: try Self.appraise(quote, chain.platform, checked), tcbInfo: checked.tcbInfo,
            qeIdentity: checked.qeIdentity, validUntil: checked.validUntil)
    }

    /// Verifies collateral by itself, before it is kept: chains, signatures, currency, revocation of its own signers, and
    /// that it is that of `source`. Nothing is cached.
    ///
    /// - Returns: when the first part of it lapses.
    public func verify(
        _ collateral: Collateral, of source: CollateralSource, at time: Instant
    ) throws(Finding) -> Instant {
        let anchor = try anchor(HashAlgorithm.sha256.hash(root))
        let checked = try CheckedCollateral(collateral, anchor: anchor)
        try checked.requireDates(time)
        try checked.requireUnrevokedSigners()
        guard checked.tcbInfo.fmspc == source.fmspc else {
            throw Finding(
                "tcbinfo-mismatch", claim: "fmspc", expected: Hex.encode(source.fmspc),
                actual: Hex.encode(checked.tcbInfo.fmspc), source: "what was asked for")
        }
        let name = checked.pckCA.certificate.commonName
        guard let name, CollateralSource.Authority(issuer: name) == source.authority else {
            throw Finding(
                "pck-crl-issuer", claim: "pck-crl", expected: "the \(source.authority.rawValue) CA",
                actual: name ?? "none", source: "what was asked for")
        }
        return checked.validUntil
    }

    private static func requirePlatform(_ platform: PCKExtension, _ tcbInfo: TCBInfo) throws(Finding) {
        guard platform.fmspc == tcbInfo.fmspc else {
            throw Finding(
                "tcbinfo-mismatch", claim: "fmspc", expected: Hex.encode(platform.fmspc),
                actual: Hex.encode(tcbInfo.fmspc), source: "the PCK certificate",
                next: "fetch the TCB info of FMSPC \(Hex.encode(platform.fmspc))")
        }
        guard platform.pceID == tcbInfo.pceID else {
            throw Finding(
                "tcbinfo-mismatch", claim: "pceId", expected: Hex.encode(platform.pceID),
                actual: Hex.encode(tcbInfo.pceID), source: "the PCK certificate")
        }
    }

    private static func requireModule(_ body: TDBody, _ tcbInfo: TCBInfo) throws(Finding) {
        guard let module = tcbInfo.module(for: body.teeTCBSVN) else {
            throw Finding(
                "tdx-module-mismatch", claim: "tee_tcb_svn",
                expected: tcbInfo.modules.keys.sorted().joined(separator: ", "),
                actual: "a module of major version \(body.teeTCBSVN[1])", source: "TCB info")
        }
        guard body.mrSignerSEAM == module.mrSigner else {
            throw Finding(
                "tdx-module-mismatch", claim: "mr_signer_seam", expected: Hex.encode(module.mrSigner),
                actual: Hex.encode(body.mrSignerSEAM), source: "TCB info")
        }
        let masked = zip(body.seamAttributes, module.attributesMask).map { $0 & $1 }
        guard masked == module.attributes, body.seamAttributes.allSatisfy({ $0 == 0 }) else {
            throw Finding(
                "tdx-module-mismatch", claim: "seam_attributes", expected: Hex.encode(module.attributes),
                actual: Hex.encode(body.seamAttributes), source: "TCB info")
        }
    }

    /// The attestation key, once the PCK signed the QE report and the report names the key.
    private static func attestationKey(_ signature: QuoteSignature, pck: PublicKey) throws(Finding) -> PublicKey {
        do {
            try pck.verifyECDSA(raw: signature.qeReportSignature, of: signature.qeReport.bytes, hash: .sha256)
        } catch {
            throw Finding(
                "qe-report-signature", claim: "qe_report", expected: "a signature by the PCK", actual: error.message)
        }
        let binding = QEReport.binding(
            attestationKey: signature.attestationKey, authenticationData: signature.qeAuthenticationData)
        guard constantTimeEqual(binding, signature.qeReport.reportData) else {
            throw Finding(
                "qe-binding", claim: "qe_report.report_data", expected: Hex.encode(binding),
                actual: Hex.encode(signature.qeReport.reportData),
                source: "hash of attestation key and authentication data")
        }
        do {
            return try PublicKey(point: signature.attestationKey, on: .p256)
        } catch {
            throw Finding(
                "ak-form", claim: "attestation_key", expected: "a point on P-256", actual: error.message)
        }
    }

    private static func requireIdentity(_ report: QEReport, _ identity: QEIdentity) throws(Finding) {
        if let wrong = identity.mismatch(report) {
            throw Finding(
                "qe-identity-mismatch", claim: "qe_report.\(wrong.field)", expected: wrong.expected,
                actual: wrong.actual, source: "QE identity")
        }
    }

    private static func requireSignature(_ quote: Quote, by key: PublicKey) throws(Finding) {
        do {
            try key.verifyECDSA(raw: quote.signature.signature, of: quote.signedBytes, hash: .sha256)
        } catch {
            throw Finding(
                "quote-signature", claim: "quote", expected: "a signature by the attestation key",
                actual: error.message)
        }
    }

    private static func appraise(
        _ quote: Quote, _ platform: PCKExtension, _ collateral: CheckedCollateral
    ) throws(Finding) -> TCBAppraisal {
        do throws(TCBAppraisal.Failure) {
            return try TCBAppraisal(
                body: quote.body, qeSVN: quote.signature.qeReport.isvSVN, pck: platform, tcbInfo: collateral.tcbInfo,
                qe: collateral.qeIdentity)
        } catch {
            switch error {
            case .notSupported(let what):
                throw Finding(
                    "tcb-not-supported", claim: "tcb", expected: "a TCB level that this platform reaches",
                    actual: what, source: "TCB info \(collateral.tcbInfo.evaluationDataNumber)",
                    next: "update the platform's firmware")
            case .unknownModule(let what):
                throw Finding("tdx-module-mismatch", claim: "tee_tcb_svn", actual: what, source: "TCB info")
            }
        }
    }
}

/// A quote that verified; only `QuoteVerifier` makes one. Whether its claims are wanted is for a policy to say.
public struct VerifiedQuote: Sendable {
    public let quote: Quote
    /// The platform, from the PCK certificate.
    public let platform: PCKExtension
    /// Name of the PCK's issuer: Platform or Processor CA.
    public let issuer: String
    public let tcb: TCBAppraisal
    public let tcbInfo: TCBInfo
    public let qeIdentity: QEIdentity
    /// When the first part of the collateral lapses.
    public let validUntil: Instant

    public var body: TDBody { quote.body }
    /// The lower of the two evaluation data numbers in use.
    public var evaluationDataNumber: Int { min(tcbInfo.evaluationDataNumber, qeIdentity.evaluationDataNumber) }

    init(
        quote: Quote, platform: PCKExtension, issuer: String, tcb: TCBAppraisal, tcbInfo: TCBInfo,
        qeIdentity: QEIdentity, validUntil: Instant
    ) {
        self.quote = quote
        self.platform = platform
        self.issuer = issuer
        self.tcb = tcb
        self.tcbInfo = tcbInfo
        self.qeIdentity = qeIdentity
        self.validUntil = validUntil
    }
}
