import Bytes
import Crypto
import SEVSNP
import TestKit
import Testing

/// Chains and reports of a throw-away hierarchy: one thing wrong at a time, one reason each.
@Suite(.enabled(if: SNPTestPKI.shared != nil)) struct ChainTests {
    typealias Shape = SNPTestPKI.Shape
    let pki: SNPTestPKI
    /// 2026-02-01T00:00:00Z.
    let time = Instant(seconds: 1769904000)

    init() throws { pki = try #require(SNPTestPKI.shared) }

    private func judge(
        _ shape: Shape = Shape(), report: AttestationReport? = nil, crl: RevocationList? = nil,
        roots: [Certificate]? = nil, chain: [Certificate]? = nil, at: Instant? = nil, allowMasked: Bool = false
    ) throws -> String {
        let made = try pki.hierarchy(shape)
        let signed = try report ?? pki.report(shape)
        let parsed = try AttestationReport(signed.serialize())
        return reason {
            let verified = try VerifiedChain(
                endorsement: try EndorsementKey(made.vek.der), chain: chain ?? made.chain,
                roots: roots ?? [made.ark], revocationList: crl)
            try verified.verify(parsed, at: at ?? time, allowMaskedChipID: allowMasked).requireOrderedTCB()
        }
    }

    @Test func shapesThatAMDIssuesAreAccepted() throws {
        #expect(try judge() == "accepted")
        #expect(try judge(.turin) == "accepted")
        #expect(try judge(.vlek) == "accepted")
        for version in UInt32(2)...5 {
            #expect(try judge(report: pki.report(version: version)) == "accepted", "version \(version)")
        }
        var named = Shape()
        named.productName = "Milan-B0"
        #expect(try judge(named) == "accepted")
        var octets = Shape()
        octets.vek = { builder in
            for index in builder.extensions.indices where builder.extensions[index].oid.hasSuffix("3704.1.4") {
                builder.extensions[index].value = DER.element(0x04, builder.extensions[index].value)
            }
        }
        #expect(try judge(octets) == "accepted", "hwID as OCTET STRING")
        var unknown = Shape()
        unknown.vek = { $0.extensions.append(.init("1.2.3.4", [5, 0])) }
        #expect(try judge(unknown) == "accepted", "unknown extensions are nobody's business unless critical")
    }

    @Test func certificatesOutOfShape() throws {
        func judged(_ change: (inout Shape) -> Void) throws -> String {
            var shape = Shape()
            change(&shape)
            return try judge(shape)
        }
        #expect(try judged { $0.ask = { $0.subject = "SEV-Genoa" } } == "chain-name")
        #expect(try judged { $0.ark = { $0.subject = "ARK-Genoa" } } == "chain-name")
        #expect(try judged { $0.vek = { $0.issuer = "SEV-Genoa" } } == "chain-issuer")
        #expect(try judged { $0.ask = { $0.issuer = "ARK" } } == "chain-issuer")
        #expect(try judged { $0.ark = { $0.issuer = "ARK" } } == "chain-issuer", "not self-issued")
        #expect(try judged { $0.ask = { $0.extensions = [] } } == "chain-ca")
        #expect(
            try judged { $0.ask = { $0.extensions[0] = CertificateBuilder.basicConstraints(ca: false) } } == "chain-ca")
        #expect(
            try judged { $0.vek = { $0.extensions.append(CertificateBuilder.basicConstraints(ca: true)) } }
                == "chain-ca")
        let critical = CertificateBuilder.Extension("1.2.3.4", critical: true, [5, 0])
        #expect(try judged { $0.vek = { $0.extensions.append(critical) } } == "chain-extension")
        #expect(try judged { $0.ask = { $0.extensions.append(critical) } } == "chain-extension")
        let pkcs1: @Sendable (inout CertificateBuilder) -> Void = {
            $0.algorithm = CertificateBuilder.pkcs1SHA384
            $0.scheme = .rsaPKCS1(.sha384)
        }
        #expect(try judged { $0.vek = pkcs1 } == "chain-algorithm")
        #expect(try judged { $0.ask = pkcs1 } == "chain-algorithm")
        #expect(try judged { $0.ark = pkcs1 } == "chain-algorithm")
        #expect(try judged { $0.vek = { $0.algorithm = CertificateBuilder.pss(salt: 32) } } == "chain-algorithm")
        #expect(try judged { $0.productName = "Genoa" } == "chain-name", "productName against the chain")
        #expect(try judged { $0.productName = "Naples" } == "product-unknown")
        #expect(try judged { $0.vek = { $0.subject = "SEV-PEK" } } == "key-kind")
        #expect(try judged { $0.vek = { $0.extensions.removeAll { $0.oid.hasSuffix(".3.8") } } } == "parse-extension")
        #expect(try judged { $0.vek = { $0.extensions += $0.extensions } } == "parse-extension", "extensions twice")
        #expect(try judged { $0.hardwareID = [1, 2, 3] } == "parse-extension")
        #expect(try judged { $0.hardwareID = nil } == "parse-extension", "a VCEK names its chip")
        #expect(try judged { $0.cspID = "CN=x" } == "parse-extension", "a VCEK names no provider")
        #expect(try judged { $0.tcb.fmc = 1 } == "parse-extension", "only Turin has FMC")
        let p256 = try PrivateKey(generating: .p256).publicKey.spki
        #expect(try judged { $0.vek = { $0.spki = p256 } } == "key-curve")
        let other = try PrivateKey(generating: .p384).publicKey.spki
        #expect(try judged { $0.vek = { $0.spki = other } } == "signature", "another chip's key")
        let rsa = pki.askKey.publicKey.spki
        #expect(try judged { $0.vek = { $0.spki = rsa } } == "key-curve")
        #expect(try judged { $0.ask = { $0.spki = other } } == "chain-key")
    }

    @Test func chainsThatDoNotLeadToAPinnedRoot() throws {
        let made = try pki.hierarchy()
        let amd = try Product.allCases.map { try AMDAnchors.root($0).certificate() }
        #expect(try judge(roots: amd) == "chain-root")
        #expect(try judge(roots: []) == "chain-root")
        #expect(try judge(chain: [made.ask]) == "chain-length")
        #expect(try judge(chain: [made.ark, made.ask]) == "chain-name")
        #expect(try judge(chain: [made.ask, made.ark, made.ark]) == "chain-length")
        #expect(try judge(roots: amd, chain: [made.ask, AMDAnchors.root(.milan).certificate()]) == "chain-issuer")
        var forged = Shape()
        forged.ark = { $0.serial = [9] }
        // The same key under another certificate: pins are keys.
        #expect(try judge(roots: [try pki.hierarchy(forged).ark]) == "accepted")
        // An ARK that carries the pinned key but was signed by another.
        var builder = CertificateBuilder(subject: "ARK-Milan", issuer: "ARK-Milan", spki: pki.arkKey.publicKey.spki)
        builder.extensions = [CertificateBuilder.basicConstraints(ca: true), CertificateBuilder.authorityUsage]
        let notSelfSigned = try builder.certificate(signedBy: pki.askKey)
        #expect(try judge(chain: [made.ask, notSelfSigned]) == "chain-signature")
        var swapped = CertificateBuilder(subject: "SEV-Milan", issuer: "ARK-Milan", spki: pki.askKey.publicKey.spki)
        swapped.extensions = builder.extensions
        #expect(try judge(chain: [swapped.certificate(signedBy: pki.askKey), made.ark]) == "chain-signature")
    }

    /// Every certificate is valid at the judged time, both ends included.
    @Test func validityOfEveryCertificate() throws {
        for part in ["ark", "ask", "vek"] {
            var shape = Shape()
            let set: @Sendable (inout CertificateBuilder) -> Void = {
                $0.notBefore = "20260101000000Z"
                $0.notAfter = "20260301000000Z"
            }
            switch part {
            case "ark": shape.ark = set
            case "ask": shape.ask = set
            default: shape.vek = set
            }
            #expect(try judge(shape) == "accepted")
            #expect(try judge(shape, at: Instant("2026-01-01T00:00:00Z")) == "accepted")
            #expect(try judge(shape, at: Instant("2026-03-01T00:00:00Z")) == "accepted")
            #expect(try judge(shape, at: Instant("2025-12-31T23:59:59Z")) == "cert-not-yet-valid")
            #expect(try judge(shape, at: Instant("2026-03-01T00:00:01Z")) == "cert-expired")
        }
    }

    @Test func revocation() throws {
        #expect(try judge(crl: pki.revocationList(revoked: [[4, 0xD2]])) == "accepted")
        #expect(try judge(crl: pki.revocationList()) == "accepted")
        #expect(try judge(crl: pki.revocationList(revoked: [[1, 1]])) == "crl-revoked", "the ASK")
        #expect(try judge(crl: pki.revocationList(revoked: [[9], [1]])) == "crl-revoked", "the ARK itself")
        #expect(try judge(crl: pki.revocationList(signedBy: pki.askKey)) == "crl-signature")
        #expect(try judge(crl: pki.revocationList { $0.issuer = "SEV-Milan" }) == "crl-issuer")
        #expect(try judge(crl: pki.revocationList { $0.notAfter = "20260131000000Z" }) == "crl-expired")
        #expect(try judge(crl: pki.revocationList { $0.notBefore = "20260202000000Z" }) == "crl-not-yet-valid")
        var noLists = Shape()
        noLists.ark = { $0.extensions[1].value = [3, 2, 2, 4] }
        #expect(try judge(noLists) == "accepted")
        #expect(try judge(noLists, crl: pki.revocationList()) == "crl-signer", "keyCertSign only")
        let delta = CertificateBuilder.Extension("2.5.29.27", critical: true, [2, 1, 1])
        #expect(try judge(crl: pki.revocationList { $0.extensions = [delta] }) == "crl-extension")
        let pkcs1 = try pki.revocationList {
            $0.algorithm = CertificateBuilder.pkcs1SHA384
            $0.scheme = .rsaPKCS1(.sha384)
        }
        #expect(try judge(crl: pkcs1) == "crl-algorithm")
        #expect(try judge(.turin, crl: pki.revocationList()) == "crl-issuer", "Milan's list under Turin")
        #expect(try judge(.vlek, crl: pki.revocationList(revoked: [[1, 1]])) == "crl-revoked", "the ASVK")
    }

    @Test func reportsThatDisagreeWithTheirCertificate() throws {
        func judged(_ shape: Shape = Shape(), _ change: (inout AttestationReport) -> Void) throws -> String {
            try judge(shape, report: pki.report(shape, change))
        }
        #expect(try judged { $0.signingKey = .vlek } == "key-kind")
        #expect(try judged(.vlek) { $0.signingKey = .vcek } == "key-kind")
        #expect(try judged { $0.signingKey = .none } == "key-kind", "unsigned")
        #expect(try judged { $0.processor?.model = 0x11 } == "product-mismatch")
        #expect(try judged { $0.processor?.family = 0x17 } == "product-unknown")
        #expect(try judged { $0.reportedTCB = RawTCBVersion(0xDD1B_0000_0000_0004) } == "tcb-mismatch")
        #expect(try judged(.turin) { $0.reportedTCB = RawTCBVersion(0x5A00_0000_0501_0102) } == "tcb-mismatch")
        #expect(try judged { $0.currentTCB = RawTCBVersion(0xDE1A_0000_0000_0004) } == "tcb-order")
        #expect(try judged { $0.committedTCB = RawTCBVersion(0xDF1B_0000_0000_0004) } == "tcb-order")
        #expect(try judged { $0.launchTCB = RawTCBVersion(0xDE1B_0000_0100_0004) } == "tcb-reserved")
        #expect(try judged { $0.committedFirmware.build = 41 } == "tcb-order")
        #expect(try judged { $0.chipID[63] ^= 1 } == "hwid-mismatch")
        #expect(try judged(.turin) { $0.chipID[7] ^= 1 } == "hwid-mismatch")
        #expect(try judged(.turin) { $0.chipID[8] = 1 } == "hwid-mismatch", "bytes behind Turin's eight")
        #expect(try judged { $0.chipID = [UInt8](repeating: 0, count: 64) } == "hwid-masked")
        let masked = try pki.report { $0.chipID = [UInt8](repeating: 0, count: 64) }
        #expect(try judge(report: masked, allowMasked: true) == "accepted")
        #expect(try judged { $0.masksChipKey = true } == "accepted", "the flag alone says nothing")
        var unsigned = try pki.report()
        unsigned.signature = .zero
        #expect(try judge(report: unsigned) == "signature-range")
    }

    /// One chain, many threads: nothing is shared that changes.
    @Test func verifiesOnManyThreadsAtOnce() async throws {
        let made = try pki.hierarchy()
        let chain = try VerifiedChain(
            endorsement: try EndorsementKey(made.vek.der), chain: made.chain, roots: [made.ark], revocationList: nil)
        let report = try pki.report()
        var bad = report
        bad.hostData[0] ^= 1
        let (time, refused) = (time, bad)
        let results = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<200 {
                group.addTask {
                    let isGood = index % 2 == 0
                    return isGood == ((try? chain.verify(isGood ? report : refused, at: time)) != nil)
                }
            }
            return await group.reduce(true) { $0 && $1 }
        }
        #expect(results)
    }

    @Test func damagedCertificatesAreRefusedWithAReason() throws {
        let made = try pki.hierarchy()
        let report = try pki.report()
        var generator = SeededGenerator(seed: 6)
        for _ in 0..<400 {
            let vek = mutate(made.vek.der, with: &generator)
            if vek == made.vek.der { continue }
            let reason = reason {
                let chain = try VerifiedChain(
                    endorsement: try EndorsementKey(vek), chain: made.chain, roots: [made.ark], revocationList: nil)
                _ = try chain.verify(report, at: time)
            }
            #expect(
                reason.hasPrefix("parse-") || reason.hasPrefix("chain-") || reason.hasPrefix("key-")
                    || reason.hasPrefix("product-"), "\(reason)")
        }
        for count in 0..<made.vek.der.count {
            #expect(reason { _ = try EndorsementKey(Array(made.vek.der.prefix(count))) } == "parse-certificate")
        }
    }
}
