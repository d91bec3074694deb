import Bytes
import Crypto

/// A period of time, both ends included.
struct Validity: Sendable, Equatable {
    let start: Instant
    let end: Instant

    init(_ start: Instant, _ end: Instant) {
        self.start = start
        self.end = end
    }

    /// Throws `<what>-not-yet-valid` or `<what>-expired` unless `time` lies within.
    func require(_ time: Instant, _ what: String) throws(Finding) {
        guard time < start || time > end else { return }
        throw Finding(
            time < start ? "\(what)-not-yet-valid" : "\(what)-expired", claim: what,
            expected: "\(start) to \(end)", actual: "\(time)", source: "its own dates",
            next: time < start ? "judge at a later time" : "fetch it again, or judge at the time of the evidence")
    }
}

/// A certificate whose signature, names and use were checked; its dates are checked at each use.
struct CheckedCertificate: Sendable {
    let certificate: Certificate
    let key: PublicKey
    /// SubjectPublicKeyInfo of `key`, for comparing: libcrypto takes 100 µs to write one.
    let spki: [UInt8]
    let subjectDER: [UInt8]
    let serial: [UInt8]
    let validity: Validity

    /// - Parameter what: how reasons call it (`pck`, `intermediate`, …).
    init(_ certificate: Certificate, _ what: String) throws(Finding) {
        self.certificate = certificate
        subjectDER = certificate.subjectDER
        serial = certificate.serial
        do {
            // libcrypto also reads BER; a certificate has one encoding only.
            guard try DER.single(certificate.der, what).children(what, limit: 3).count == 3 else {
                throw ParseError("form", field: what, offset: 0, "is not a certificate")
            }
            key = try certificate.publicKey()
        } catch {
            throw Finding("\(what)-chain", claim: what, expected: "a certificate in DER", actual: "\(error)")
        }
        spki = key.spki
        guard key.kind == .p256, let start = certificate.notBefore, let end = certificate.notAfter else {
            throw Finding("\(what)-chain", claim: what, expected: "a P-256 key and dates", actual: "\(key.kind)")
        }
        validity = Validity(start, end)
        // keyUsage and basicConstraints are what Intel marks critical; anything else critical is not understood here.
        let known: Set<String> = ["2.5.29.15", "2.5.29.19"]
        if let unknown = certificate.extensions.first(where: { $0.critical && !known.contains($0.oid) }) {
            throw Finding("\(what)-chain", claim: what, expected: "known critical extensions", actual: unknown.oid)
        }
    }
}

/// The root that a caller trusts: pinned by key and name, since Intel reissues the certificate.
struct TrustAnchor: Sendable {
    let root: CheckedCertificate
    /// Whether it is Intel's own key and not one that only the caller trusts.
    let isIntel: Bool

    /// Reads one certificate, DER or PEM, which must be signed by itself.
    init(_ bytes: [UInt8]) throws(Finding) {
        let certificate: Certificate
        do {
            certificate = try Certificate.read(bytes)
        } catch {
            throw Finding("parse-form", claim: "root", expected: "one X.509 certificate", actual: error.message)
        }
        root = try CheckedCertificate(certificate, "root")
        isIntel = root.spki == IntelRoot.spki
        do {
            try certificate.verify(issuedBy: certificate)
        } catch {
            throw Finding("root-chain", claim: "root", expected: "a self-signed CA", actual: error.message)
        }
    }

    /// Whether `certificate` is this root, perhaps reissued: same name, same key, signed by that key.
    func accepts(_ certificate: CheckedCertificate) -> Bool {
        guard certificate.subjectDER == root.subjectDER, certificate.spki == root.spki else { return false }
        do {
            try certificate.certificate.verify(issuedBy: root.certificate)
            return true
        } catch {
            return false
        }
    }
}

/// The PEM texts of Intel's services: certificates only, leaf first, root last.
enum IssuerChain {
    static let pckName = "Intel SGX PCK Certificate"
    static let pckIssuerNames: Set<String> = ["Intel SGX PCK Platform CA", "Intel SGX PCK Processor CA"]
    static let tcbSigningName = "Intel SGX TCB Signing"
    static let maximumSize = 1 << 16

    /// Exactly `count` certificates in the one PEM form that Intel's services and stacks produce: 64 columns, no other
    /// text, the same line ends throughout. Chains are not covered by a signature as text, so only one text may pass.
    static func certificates(_ text: [UInt8], count: Int, _ what: String) throws(Finding) -> [Certificate] {
        func refusal(_ actual: String) -> Finding {
            Finding("\(what)-chain", claim: what, expected: "\(count) certificates in PEM", actual: actual)
        }
        guard text.count <= maximumSize else { throw refusal("\(text.count) bytes") }
        var rest = text.contains(0x0D) ? lineFeeds(text)[...] : text[...]
        var chain: [Certificate] = []
        while !rest.isEmpty {
            guard chain.count < count else { throw refusal("more") }
            guard let der = block(&rest) else {
                throw refusal("other text, or another line width, in certificate \(chain.count + 1)")
            }
            do {
                chain.append(try Certificate(der: der))
            } catch {
                throw refusal(error.message)
            }
        }
        guard chain.count == count else { throw refusal("\(chain.count) certificates") }
        return chain
    }

    private static let head = Array("-----BEGIN CERTIFICATE-----\n".utf8)
    private static let tail = Array("-----END CERTIFICATE-----\n".utf8)

    /// The DER of the block at the start of `text`, which moves behind it; `nil` unless the block is as `PEM.encode` would
    /// write it (the newline at the very end of a text may be missing).
    private static func block(_ text: inout ArraySlice<UInt8>) -> [UInt8]? {
        guard text.starts(with: head) else { return nil }
        let start = text.startIndex + head.count
        guard let end = text[start...].firstIndex(of: UInt8(ascii: "-")) else { return nil }
        let base64 = text[start..<end].filter { $0 != 0x0A }
        let after = text[end...]
        guard after.starts(with: tail) || after.elementsEqual(tail.dropLast()),
            let der = Base64.decode(String(decoding: base64, as: UTF8.self)),
            text[..<end].elementsEqual(PEM.encode("CERTIFICATE", der).utf8.dropLast(tail.count))
        else { return nil }
        text = after.dropFirst(tail.count)
        return der
    }

    /// CR LF throughout becomes LF; a text with any other use of CR stays as it is, and is refused later.
    private static func lineFeeds(_ text: [UInt8]) -> [UInt8] {
        let plain = text.filter { $0 != 0x0D }
        return plain.flatMap { $0 == 0x0A ? [0x0D, 0x0A] : [$0] } == text ? plain : text
    }

    /// `subject` was issued by `issuer`: names, CA flag, signature.
    static func require(_ subject: CheckedCertificate, by issuer: CheckedCertificate, _ what: String) throws(Finding) {
        do {
            try subject.certificate.verify(issuedBy: issuer.certificate)
        } catch {
            throw Finding(
                "\(what)-chain", claim: what, expected: "a signature by \(issuer.certificate.subject)",
                actual: error.message, source: "its issuer chain")
        }
    }

    /// The last certificate of a chain is the trusted root.
    static func require(root: Certificate, is anchor: TrustAnchor, _ what: String) throws(Finding) -> CheckedCertificate
    {
        let root = try CheckedCertificate(root, what)
        guard anchor.accepts(root) else {
            throw Finding(
                "\(what)-chain", claim: what, expected: "a chain to \(anchor.root.certificate.subject), pinned by key",
                actual: "\(root.certificate.subject), SHA-256 \(Hex.encode(root.certificate.sha256))",
                source: "the root given", next: "give the root that signs this platform")
        }
        return root
    }

    static func require(name expected: Set<String>, _ actual: String?, _ what: String) throws(Finding) {
        guard let actual, expected.contains(actual) else {
            throw Finding(
                "\(what)-chain", claim: "\(what).commonName", expected: expected.sorted().joined(separator: " or "),
                actual: actual ?? "none", source: "Intel's certificate profile")
        }
    }
}

/// The chain inside a quote, PCK ‖ CA ‖ root, with all that does not depend on the time checked.
struct CheckedPCKChain: Sendable {
    let pck: CheckedCertificate
    let intermediate: CheckedCertificate
    let root: CheckedCertificate
    let platform: PCKExtension

    /// - Parameter text: the certification data of a quote; one NUL may end it.
    init(_ text: [UInt8], anchor: TrustAnchor) throws(Finding) {
        let pem = text.last == 0 ? Array(text.dropLast()) : text
        // Inside a quote the text ends with a newline, so that no byte of it is free.
        guard pem.last == 0x0A else {
            throw Finding("pck-chain", claim: "pck", expected: "PEM that ends with a newline", actual: "another end")
        }
        let chain = try IssuerChain.certificates(pem, count: 3, "pck")
        root = try IssuerChain.require(root: chain[2], is: anchor, "pck")
        intermediate = try CheckedCertificate(chain[1], "intermediate")
        pck = try CheckedCertificate(chain[0], "pck")
        try IssuerChain.require(name: IssuerChain.pckIssuerNames, chain[1].commonName, "pck")
        try IssuerChain.require(name: [IssuerChain.pckName], chain[0].commonName, "pck")
        try IssuerChain.require(intermediate, by: root, "pck")
        try IssuerChain.require(pck, by: intermediate, "pck")
        guard !chain[0].isCA, let value = chain[0].extensionValue(PCKExtension.oid) else {
            throw Finding("pck-chain", claim: "pck", expected: "an end entity with the SGX extension", actual: "none")
        }
        do {
            platform = try PCKExtension(parsing: value)
        } catch {
            throw error.finding
        }
    }

    func requireDates(_ time: Instant) throws(Finding) {
        try pck.validity.require(time, "pck")
        try intermediate.validity.require(time, "intermediate")
        try root.validity.require(time, "root")
    }
}
