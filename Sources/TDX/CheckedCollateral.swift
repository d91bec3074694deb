import Bytes
import Crypto

/// A CRL whose signature was checked.
struct CheckedCRL: Sendable {
    let issuerDER: [UInt8]
    let issuerSPKI: [UInt8]
    let validity: Validity
    let revoked: Set<[UInt8]>

    init(_ bytes: [UInt8], by issuer: CheckedCertificate, _ what: String) throws(Finding) {
        let list: RevocationList
        do {
            _ = try DER.single(bytes, what)
            list = try RevocationList(der: bytes)
        } catch {
            throw Finding("\(what)-form", claim: what, expected: "a CRL in DER", actual: "\(error)")
        }
        guard list.issuerDER == issuer.subjectDER else {
            throw Finding(
                "\(what)-issuer", claim: what, expected: issuer.certificate.subject, actual: list.issuer,
                source: "its issuer chain", next: "fetch the CRL of that authority")
        }
        do {
            try list.verify(issuedBy: issuer.certificate)
        } catch {
            throw Finding(
                "\(what)-signature", claim: what, expected: "a signature by \(issuer.certificate.subject)",
                actual: error.message, next: "fetch the collateral again")
        }
        if let unknown = list.unknownCriticalExtensions.first {
            throw Finding("\(what)-form", claim: what, expected: "known critical extensions", actual: unknown)
        }
        guard let start = list.thisUpdate, let end = list.nextUpdate else {
            throw Finding("\(what)-form", claim: what, expected: "thisUpdate and nextUpdate", actual: "one is missing")
        }
        issuerDER = issuer.subjectDER
        issuerSPKI = issuer.spki
        validity = Validity(start, end)
        revoked = list.revokedSerials
    }
}

/// Collateral with everything checked that does not depend on the quote or on the time: chains to the root, signatures,
/// forms. Made once per document and kept in the cache; dates and revocation are checked at each use.
struct CheckedCollateral: Sendable {
    let rootCRL: CheckedCRL
    let pckCRL: CheckedCRL
    let pckCA: CheckedCertificate
    let tcbSigner: CheckedCertificate
    let qeSigner: CheckedCertificate
    let tcbInfo: TCBInfo
    let qeIdentity: QEIdentity
    /// The roots as they stand in the chains; their dates count too.
    let roots: [CheckedCertificate]

    init(_ collateral: Collateral, anchor: TrustAnchor) throws(Finding) {
        rootCRL = try CheckedCRL(collateral.rootCRL, by: anchor.root, "root-crl")
        let chain = try IssuerChain.certificates(collateral.pckCRLIssuerChain, count: 2, "pck-crl")
        let pckRoot = try IssuerChain.require(root: chain[1], is: anchor, "pck-crl")
        pckCA = try CheckedCertificate(chain[0], "pck-crl")
        try IssuerChain.require(name: IssuerChain.pckIssuerNames, chain[0].commonName, "pck-crl")
        try IssuerChain.require(pckCA, by: pckRoot, "pck-crl")
        pckCRL = try CheckedCRL(collateral.pckCRL, by: pckCA, "pck-crl")

        let (tcbSigner, tcbRoot) = try Self.signer(collateral.tcbInfoIssuerChain, anchor, "tcbinfo")
        let (qeSigner, qeRoot) = try Self.signer(collateral.qeIdentityIssuerChain, anchor, "qeid")
        try Self.require(collateral.tcbInfoSignature, over: collateral.tcbInfo, by: tcbSigner, "tcbinfo")
        try Self.require(collateral.qeIdentitySignature, over: collateral.qeIdentity, by: qeSigner, "qeid")
        self.tcbSigner = tcbSigner
        self.qeSigner = qeSigner
        roots = [pckRoot, tcbRoot, qeRoot]
        do {
            tcbInfo = try TCBInfo(parsing: collateral.tcbInfo)
        } catch {
            throw Finding("tcbinfo-\(error.detail)", claim: error.field, actual: error.message)
        }
        do {
            qeIdentity = try QEIdentity(parsing: collateral.qeIdentity)
        } catch {
            throw Finding("qeid-\(error.detail)", claim: error.field, actual: error.message)
        }
    }

    /// The TCB signing certificate of a chain of two, and the root beside it.
    private static func signer(
        _ text: [UInt8], _ anchor: TrustAnchor, _ what: String
    ) throws(Finding) -> (CheckedCertificate, CheckedCertificate) {
        let chain = try IssuerChain.certificates(text, count: 2, what)
        let root = try IssuerChain.require(root: chain[1], is: anchor, what)
        let signer = try CheckedCertificate(chain[0], what)
        try IssuerChain.require(name: [IssuerChain.tcbSigningName], chain[0].commonName, what)
        try IssuerChain.require(signer, by: root, what)
        return (signer, root)
    }

    /// ECDSA P-256 over exactly the bytes served.
    private static func require(
        _ signature: [UInt8], over bytes: [UInt8], by signer: CheckedCertificate, _ what: String
    ) throws(Finding) {
        do {
            try signer.key.verifyECDSA(raw: signature, of: bytes, hash: .sha256)
        } catch {
            throw Finding(
                "\(what)-signature", claim: what, expected: "a signature by \(signer.certificate.subject)",
                actual: error.message, next: "fetch the collateral again and keep its bytes as served")
        }
    }

    /// Everything is current at `time`.
    func requireDates(_ time: Instant) throws(Finding) {
        try Validity(tcbInfo.issueDate, tcbInfo.nextUpdate).require(time, "tcbinfo")
        try Validity(qeIdentity.issueDate, qeIdentity.nextUpdate).require(time, "qeid")
        try pckCRL.validity.require(time, "pck-crl")
        try rootCRL.validity.require(time, "root-crl")
        try tcbSigner.validity.require(time, "tcb-signing")
        try qeSigner.validity.require(time, "tcb-signing")
        try pckCA.validity.require(time, "intermediate")
        for root in roots { try root.validity.require(time, "root") }
    }

    /// None of the certificates in use is listed, and the PCK CRL is that of this PCK's issuer.
    func requireUnrevoked(_ chain: CheckedPCKChain) throws(Finding) {
        guard chain.intermediate.subjectDER == pckCRL.issuerDER, chain.intermediate.spki == pckCRL.issuerSPKI else {
            throw Finding(
                "pck-crl-issuer", claim: "pck-crl", expected: chain.intermediate.certificate.subject,
                actual: pckCA.certificate.subject, source: "the issuer of the PCK",
                next: "fetch the CRL of that authority")
        }
        for (what, certificate) in [("intermediate", chain.intermediate), ("root", chain.root)]
        where rootCRL.revoked.contains(certificate.serial) {
            throw Self.revoked(certificate, what, "the root's CRL")
        }
        try requireUnrevokedSigners()
        if pckCRL.revoked.contains(chain.pck.serial) { throw Self.revoked(chain.pck, "pck", "the PCK CRL") }
    }

    /// None of the certificates that sign collateral is listed by the root.
    func requireUnrevokedSigners() throws(Finding) {
        let signers = [("intermediate", pckCA), ("tcb-signing", tcbSigner), ("tcb-signing", qeSigner)]
        for (what, certificate) in signers where rootCRL.revoked.contains(certificate.serial) {
            throw Self.revoked(certificate, what, "the root's CRL")
        }
    }

    private static func revoked(_ certificate: CheckedCertificate, _ what: String, _ list: String) -> Finding {
        Finding(
            "\(what)-revoked", claim: what, expected: "not listed", actual: "serial \(Hex.encode(certificate.serial))",
            source: list, next: "do not trust this platform")
    }

    /// The earliest moment at which some part of the collateral lapses.
    var validUntil: Instant {
        [tcbInfo.nextUpdate, qeIdentity.nextUpdate, pckCRL.validity.end, rootCRL.validity.end].min()
            ?? tcbInfo.nextUpdate
    }
}
