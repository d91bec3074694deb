import Bytes
import Crypto

/// From when to when something may be relied on, both ends included.
struct ValidityWindow: Sendable, Equatable {
    let claim: String
    let from: Instant
    let until: Instant

    init(claim: String, from: Instant, until: Instant) {
        self.claim = claim
        self.from = from
        self.until = until
    }

    init(_ certificate: Certificate, _ claim: String) throws(Finding) {
        guard let from = certificate.notBefore, let until = certificate.notAfter else {
            throw Finding("parse-certificate", claim: "\(claim).validity", actual: "no readable dates")
        }
        self.init(claim: claim, from: from, until: until)
    }

    /// `<family>-not-yet-valid` or `<family>-expired` outside of the window.
    func require(_ time: Instant, family: String) throws(Finding) {
        guard time >= from else { throw outside("\(family)-not-yet-valid", time) }
        guard time <= until else { throw outside("\(family)-expired", time) }
    }

    private func outside(_ reason: String, _ time: Instant) -> Finding {
        Finding(
            reason, claim: "\(claim).validity", expected: "valid from \(from) to \(until)", actual: "judged at \(time)",
            source: claim, next: "get a current one from AMD's KDS or the cloud provider, or judge at another time")
    }
}

/// What a revocation list says about a chain; everything but its currency, which depends on the time.
enum RevocationState: Sendable {
    case notGiven
    case bad(Finding)
    case good(ValidityWindow)

    /// RFC 5280 §5 as far as AMD uses it: signed by the ARK under its own name, no unknown critical extension, not
    /// listing the ASK or ASVK (nor the ARK itself). VEKs all have serial 0 and another issuer: no list can name them.
    init(_ list: RevocationList, signer: Certificate, root: Certificate) {
        func bad(_ detail: String, expected: String, actual: String, next: String) -> RevocationState {
            .bad(
                Finding(
                    "crl-\(detail)", claim: "crl", expected: expected, actual: actual, source: "RFC 5280 §5",
                    next: next))
        }
        let fetch = "fetch the list from AMD's KDS again"
        guard list.issuerDER == root.subjectDER else {
            self = bad("issuer", expected: root.subject, actual: list.issuer, next: fetch)
            return
        }
        guard Self.maySignLists(root) else {
            self = bad("signer", expected: "key usage cRLSign", actual: "the ARK lacks it", next: fetch)
            return
        }
        guard RSASSAPSS.isStated(in: list.der) else {
            self = bad("algorithm", expected: "RSASSA-PSS with SHA-384", actual: "another algorithm", next: fetch)
            return
        }
        do { try list.verify(issuedBy: root) } catch {
            self = bad("signature", expected: "a signature by \(root.subject)", actual: error.message, next: fetch)
            return
        }
        if let unknown = list.unknownCriticalExtensions.first {
            self = bad("extension", expected: "no critical extension", actual: unknown, next: fetch)
            return
        }
        for certificate in [signer, root] where list.lists(certificate) {
            self = bad(
                "revoked", expected: "\(certificate.subject) not listed",
                actual: "serial 0x\(Hex.encode(certificate.serial)) is revoked",
                next: "do not trust this chain; fetch certificates of the key that replaces it")
            return
        }
        guard let from = list.thisUpdate, let until = list.nextUpdate else {
            self = bad("expired", expected: "thisUpdate and nextUpdate", actual: "a date is missing", next: fetch)
            return
        }
        self = .good(ValidityWindow(claim: "crl", from: from, until: until))
    }

    /// keyUsage, where present, has cRLSign (RFC 5280 §4.2.1.3, bit 6).
    private static func maySignLists(_ certificate: Certificate) -> Bool {
        guard let value = certificate.extensionValue("2.5.29.15") else { return true }
        guard let bits = try? DER.single(value, "keyUsage"), bits.tag == 0x03, bits.content.count >= 2 else {
            return false
        }
        return bits.content[1] & 0x02 != 0
    }
}
