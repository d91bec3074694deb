import Bytes
import Crypto
import TestKit
import Testing

@Suite struct IssuingTests {
    static let start = Instant(seconds: 1_800_000_000)
    static let end = Instant(seconds: 1_800_000_000 + 86400)

    static func uniform(_ byte: UInt8) -> Secret {
        var bytes = [UInt8](repeating: byte, count: 48)
        return Secret(wiping: &bytes)
    }

    static func issuer(_ byte: UInt8 = 7) throws -> CertificateIssuer {
        try CertificateIssuer(key: try PrivateKey(p256From: uniform(byte)), commonName: "test-ca")
    }

    static func template(_ purpose: CertificateTemplate.Purpose = .server) -> CertificateTemplate {
        CertificateTemplate(
            commonName: "system:node:worker-0", organizations: ["system:nodes", "nacre:node:worker-0"],
            names: [.dns("worker-0"), .ip(IPAddress(10, 200, 0, 2)), .dns("a.example")], purpose: purpose,
            notBefore: start, notAfter: end)
    }

    @Test func `a key from uniform bytes is their number modulo n - 1, plus 1`() throws {
        // 0 → d = 1, whose public key is the generator (SEC 2 §2.4.2).
        let one = try PrivateKey(p256From: Self.uniform(0))
        #expect(
            one.publicKey.point.map { Hex.encode($0) }
                == "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
                + "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5")
        // n - 1 → the same again; n - 2 → d = n - 1, the generator's mirror image.
        func key(_ hex: String) throws -> PrivateKey {
            var bytes = [UInt8](repeating: 0, count: 16) + (Hex.decode(hex) ?? [])
            return try PrivateKey(p256From: Secret(wiping: &bytes))
        }
        let again = try key("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632550")
        #expect(again.publicKey == one.publicKey)
        let last = try key("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc63254f")
        #expect(last.publicKey.coordinates?.x == one.publicKey.coordinates?.x)
        #expect(last.publicKey.coordinates?.y != one.publicKey.coordinates?.y)
        let signature = try last.sign([1], scheme: .ecdsa(.sha256))
        try last.publicKey.verify(signature, of: [1], scheme: .ecdsa(.sha256))
        #expect(throws: CryptoError.self) {
            try PrivateKey(p256From: Secret(Self.uniform(1), from: 0, count: 32))
        }
    }

    @Test func `issued certificates say what was asked for and verify against any certificate of the issuer`() throws {
        let issuer = try Self.issuer()
        let key = try PrivateKey(generating: .p256)
        let leaf = try issuer.issue(Self.template(), for: key.publicKey)
        #expect(leaf.serial.count == 16 && leaf.commonName == "system:node:worker-0" && !leaf.isCA)
        #expect(leaf.issuerCommonName == "test-ca")
        #expect(leaf.notBefore == Self.start && leaf.notAfter == Self.end)
        #expect(try leaf.publicKey() == key.publicKey)
        let first = try issuer.certificate(notBefore: Self.start, notAfter: Self.end)
        let second = try Self.issuer().certificate(
            notBefore: Instant(seconds: Self.start.seconds + 3600), notAfter: Instant(seconds: 4_000_000_000))
        #expect(first.subjectDER == second.subjectDER && first.serial != second.serial)
        #expect(try first.publicKey() == second.publicKey())
        for authority in [first, second] {
            try leaf.verify(issuedBy: authority)
            try leaf.verifyPath(
                intermediates: [], roots: [authority], at: Instant(seconds: Self.start.seconds + 7200))
        }
        let other = try Self.issuer(8).certificate(notBefore: Self.start, notAfter: Self.end)
        #expect(throws: CryptoError.self) { try leaf.verify(issuedBy: other) }
        #expect(throws: PathError.self) {
            try leaf.verifyPath(intermediates: [], roots: [first], at: Instant(seconds: Self.end.seconds + 1))
        }
    }

    @Test(.enabled(if: OpenSSLTool.isAvailable))
    func `openssl verifies strictly and reads the same`() throws {
        let issuer = try Self.issuer()
        let leaf = try issuer.issue(Self.template(), for: try PrivateKey(generating: .p256).publicKey)
        let client = try issuer.issue(Self.template(.client), for: try PrivateKey(generating: .p256).publicKey)
        let folder = try TemporaryFolder()
        let moment = "-attime \(Self.start.seconds + 60)"
        let leafFile = try folder.file("leaf.pem", leaf.pem)
        let clientFile = try folder.file("client.pem", client.pem)
        for (index, end) in [Self.end, Instant(seconds: 4_000_000_000)].enumerated() {
            let authority = try folder.file(
                "ca\(index).pem", try issuer.certificate(notBefore: Self.start, notAfter: end).pem)
            let verify = "verify -x509_strict \(moment) -CAfile \(authority)"
            #expect(try OpenSSLTool.run("\(verify) -purpose sslserver -verify_ip 10.200.0.2 \(leafFile)").status == 0)
            #expect(
                try OpenSSLTool.run("\(verify) -purpose sslserver -verify_hostname a.example \(leafFile)").status == 0)
            #expect(try OpenSSLTool.run("\(verify) -purpose sslclient \(clientFile)").status == 0)
            #expect(try OpenSSLTool.run("\(verify) -purpose sslclient \(leafFile)").status != 0)
            #expect(try OpenSSLTool.run("\(verify) -purpose sslserver \(clientFile)").status != 0)
            #expect(try OpenSSLTool.run("\(verify) -verify_hostname b.example \(leafFile)").status != 0)
        }
        let text = String(decoding: try OpenSSLTool.run("x509 -noout -text -in \(leafFile)").output, as: UTF8.self)
        for line in [
            "Version: 3 (0x2)", "Issuer: CN = test-ca",
            "Subject: O = system:nodes, O = nacre:node:worker-0, CN = system:node:worker-0",
            "Signature Algorithm: ecdsa-with-SHA256", "ASN1 OID: prime256v1", "CA:FALSE", "Digital Signature",
            "TLS Web Server Authentication", "DNS:worker-0, IP Address:10.200.0.2, DNS:a.example",
            "Not Before: Jan 15 08:00:00 2027 GMT", "Not After : Jan 16 08:00:00 2027 GMT",
        ] { #expect(text.replacing(" = ", with: "=").contains(line.replacing(" = ", with: "=")), "\(line) in \(text)") }
        let authority = String(
            decoding: try OpenSSLTool.run("x509 -noout -text -in \(folder.path)/ca1.pem").output, as: UTF8.self)
        #expect(authority.contains("CA:TRUE, pathlen:0") && authority.contains("Certificate Sign, CRL Sign"))
    }

    @Test func `names, times and keys that a certificate cannot have are refused`() throws {
        let issuer = try Self.issuer()
        let key = try PrivateKey(generating: .p256).publicKey
        func refused(_ change: (inout CertificateTemplate) -> Void) -> Bool {
            var template = Self.template()
            change(&template)
            do { _ = try issuer.issue(template, for: key) } catch { return error.kind == .form }
            return false
        }
        #expect(!refused { _ in })
        #expect(refused { $0.commonName = "" })
        #expect(refused { $0.commonName = "a b" })
        #expect(refused { $0.commonName = String(repeating: "a", count: 65) })
        #expect(refused { $0.organizations = ["a\u{0}"] })
        for name in ["", "a..b", "-a", "A", "*.example", "a.example\n", "a_b"] {
            #expect(refused { $0.names = [.dns(name)] }, "\(name)")
        }
        #expect(refused { $0.notAfter = $0.notBefore })
        #expect(refused { $0.notAfter = Instant(seconds: 253_402_300_800) })
        #expect(throws: CryptoError.self) {
            try issuer.issue(Self.template(), for: try PrivateKey(generating: .p384).publicKey)
        }
        #expect(throws: CryptoError.self) {
            try CertificateIssuer(key: try PrivateKey(generating: .p384), commonName: "a")
        }
    }

    @Test func `X25519 pairs are of one curve point, and secret base64 is base64`() throws {
        let pair = try X25519Pair()
        #expect(pair.published.count == 32 && pair.published != [UInt8](repeating: 0, count: 32))
        var generator = SeededGenerator(seed: 1)
        for count in 0..<70 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            var copy = bytes
            let text = Secret(wiping: &copy).base64.framed("<", ">")
            let expected = Array("<\(Base64.encode(bytes))>".utf8)
            #expect(text.withBytes { span in span.indices.map { span[$0] } } == expected)
        }
    }

    @Test func `IP addresses read and written`() {
        for text in ["10.200.0.1", "0.0.0.0", "::1", "fe80::5054:ff:fe00:1", "2001:db8::1"] {
            #expect(IPAddress(text)?.description == text)
        }
        for text in ["", "10.0.0", "10.0.0.256", "fe80::1%eth0", " ::1", "1.2.3.4 ", "::g", "1.2.3.4/8"] {
            #expect(IPAddress(text) == nil, "\(text)")
        }
        #expect(IPAddress("fe80::1")?.isLinkLocal == true && IPAddress("2001:db8::1")?.isLinkLocal == false)
        #expect(IPAddress(bytes: [1]) == nil)
    }
}
