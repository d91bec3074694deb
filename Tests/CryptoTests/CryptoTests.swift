import Bytes
import Crypto
import TestKit
import Testing

private func hex(_ text: String) -> [UInt8] { Hex.decode(text.filter { $0 != " " }) ?? [] }

@Suite struct DigestTests {
    /// FIPS 180-4 examples.
    @Test(arguments: [
        (HashAlgorithm.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d"),
        (.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            .sha384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7"
        ),
        (
            .sha512,
            "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd"
                + "454d4423643ce80e2a9ac94fa54ca49f"
        ),
    ])
    func `digests of abc, whole and in pieces`(algorithm: HashAlgorithm, expected: String) {
        #expect(Hex.encode(algorithm.hash(Array("abc".utf8))) == expected)
        var running = Digest(algorithm)
        for byte in "abc".utf8 { running.update([byte]) }
        #expect(Hex.encode(running.finish()) == expected)
        #expect(algorithm.hash([]).count == algorithm.size)
    }

    /// RFC 4231 test case 2.
    @Test func `HMAC-SHA256`() {
        let tag = HashAlgorithm.sha256.hmac(key: Array("Jefe".utf8), Array("what do ya want for nothing?".utf8))
        #expect(Hex.encode(tag) == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843")
    }

    /// RFC 5869 test cases 1 and 3; `info` is text here, so case 3 with its empty one, and case 1's extract by HMAC.
    @Test func `HKDF-SHA256`() {
        let key = [UInt8](repeating: 0x0B, count: 22)
        let output = hkdfSHA256(key: key, salt: [], info: "", count: 42)
        #expect(
            Hex.encode(output)
                == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
        let extracted = HashAlgorithm.sha256.hmac(key: hex("000102030405060708090a0b0c"), key)
        #expect(Hex.encode(extracted) == "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5")
        #expect(
            hkdfSHA256(key: key, salt: [1], info: "nacre/v1/a", count: 32)
                != hkdfSHA256(key: key, salt: [1], info: "nacre/v1/b", count: 32))
    }
}

@Suite struct KeyTests {
    /// RFC 6979 §A.2.5: P-256, SHA-256, message "sample".
    @Test func `verifies a published ECDSA signature and no changed one`() throws {
        let key = try PublicKey(
            .p256, x: hex("60FED4BA255A9D31C961EB74C6356D68C049B8923B61FA6CE669622E60F29FB6"),
            y: hex("7903FE1008B8BC99A41AE9E95628BC64F2F1B20C2D7E9F5177A3C294D4462299"))
        let raw =
            hex("EFD48B2AACB6A8FD1140DD9CD45E81D69D2C877B56AAF991C34D0EA84EAF3716")
            + hex("F7CB1C942D657C41D436C7A1B6E29F65F3E900DBB9AFF4064DC4AB2F843ACDA8")
        let message = Array("sample".utf8)
        try key.verifyECDSA(raw: raw, of: message, hash: .sha256)
        for index in [0, 31, 32, 63] {
            var changed = raw
            changed[index] ^= 1
            #expect(throws: CryptoError.self) { try key.verifyECDSA(raw: changed, of: message, hash: .sha256) }
        }
        #expect(throws: CryptoError.self) { try key.verifyECDSA(raw: raw, of: message, hash: .sha384) }
        #expect(throws: CryptoError.self) { try key.verifyECDSA(raw: raw, of: message + [0], hash: .sha256) }
        let zero = [UInt8](repeating: 0, count: 64)
        #expect(throws: CryptoError.self) { try key.verifyECDSA(raw: zero, of: message, hash: .sha256) }
        #expect(throws: CryptoError.self) { try key.verifyECDSA(raw: [], of: message, hash: .sha256) }
    }

    /// RFC 8032 §7.1 test 2.
    @Test func `verifies a published Ed25519 signature`() throws {
        let point = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
        let key = try PublicKey(spki: hex("302a300506032b6570032100") + point)
        #expect(key.kind == .ed25519)
        let signature = hex(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
                + "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00")
        try key.verify(signature, of: [0x72], scheme: .ed25519)
        #expect(throws: CryptoError.self) { try key.verify(signature, of: [0x73], scheme: .ed25519) }
        #expect(throws: CryptoError.self) { try key.verify(signature, of: [0x72], scheme: .ecdsa(.sha256)) }
    }

    @Test func `a point off the curve is no key`() {
        let one = [UInt8](repeating: 1, count: 32)
        #expect(throws: CryptoError.self) { try PublicKey(.p256, x: one, y: one) }
        #expect(throws: CryptoError.self) { try PublicKey(.p384, x: one, y: one) }
    }

    @Test(arguments: Curve.allCases)
    func `keys keep their value through every form, and openssl reads them`(curve: Curve) throws {
        let key = try PrivateKey(generating: curve)
        let again = try PrivateKey(pem: key.pem())
        #expect(again.publicKey == key.publicKey)
        let point = try #require(key.publicKey.point)
        let half = curve.coordinateSize
        #expect(
            try PublicKey(curve, x: Array(point.prefix(half)), y: Array(point.suffix(half))) == key.publicKey)
        #expect(try PublicKey(pem: Array(key.publicKey.pem.utf8)) == key.publicKey)
        #expect(try PublicKey(spki: key.publicKey.spki) == key.publicKey)
        #expect(throws: CryptoError.self) { try PublicKey(spki: key.publicKey.spki + [0]) }
        guard let openssl = Tool.find("openssl") else { return }
        let folder = try TemporaryFolder()
        let publicFile = try folder.file("key.pub", key.publicKey.pem)
        let message = try folder.file("message", "to be signed")
        let hash: HashAlgorithm = curve == .p256 ? .sha256 : .sha384
        let signature = try folder.file(
            "signature", try key.sign(Array("to be signed".utf8), scheme: .ecdsa(hash)))
        let result = try Tool.run(
            [openssl, "dgst", "-\(hash.rawValue)", "-verify", publicFile, "-signature", signature, message])
        #expect(result.text == "Verified OK\n", "\(result.errors)")
    }

    @Test func `an encrypted key does not make anybody ask for a passphrase`() {
        let pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMAA=\n-----END ENCRYPTED PRIVATE KEY-----\n"
        let error = #expect(throws: CryptoError.self) { try PrivateKey(pem: Array(pem.utf8)) }
        #expect(error?.message.contains("is encrypted") == true)
        let other = #expect(throws: CryptoError.self) { try PrivateKey(pem: Array("no key".utf8)) }
        #expect(other?.message.contains("is encrypted") == false)
    }

    @Test func `RSA numbers are checked before libcrypto sees them`() {
        #expect(throws: CryptoError.self) { try PublicKey(rsaModulus: [1, 2, 3], exponent: 65537) }
        #expect(throws: CryptoError.self) {
            try PublicKey(rsaModulus: [UInt8](repeating: 0xFF, count: 256), exponent: 2)
        }
    }
}

/// Certificate paths, with AMD's and Intel's genuine chains where the vectors are at hand.
@Suite struct CertificateTests {
    @Test func `AMD's PSS chain verifies link by link, and no link by another`() throws {
        guard Vectors.root != nil else { return }
        let chain = try Certificate.chain(pem: Vectors.read("roots/amd/milan_vcek.pem"))
        let vek = try Certificate(der: Vectors.read("snp/milan-v2-coco/vek.der"))
        #expect(chain.count == 2)
        try chain[1].verify(issuedBy: chain[1])
        try chain[0].verify(issuedBy: chain[1])
        try vek.verify(issuedBy: chain[0])
        #expect(throws: CryptoError.self) { try vek.verify(issuedBy: chain[1]) }
        #expect(throws: CryptoError.self) { try chain[0].verify(issuedBy: vek) }
        #expect(throws: CryptoError.self) { try vek.verifySignature(by: chain[1].publicKey()) }
        #expect(vek.commonName == "SEV-VCEK")
    }

    @Test func `paths are judged at the time given, not at the clock's`() throws {
        let key = try PrivateKey(generating: .p256)
        let certificate = try Certificate.selfSigned(
            key: key, commonName: "root", notBefore: Instant(seconds: 1000), notAfter: Instant(seconds: 2000))
        try certificate.verifyPath(intermediates: [], roots: [certificate], at: Instant(seconds: 1500))
        for seconds: Int64 in [999, 2001] {
            do {
                try certificate.verifyPath(intermediates: [], roots: [certificate], at: Instant(seconds: seconds))
                Issue.record("accepted at \(seconds)")
            } catch { #expect(error.isExpired) }
        }
        #expect(certificate.isValid(at: Instant(seconds: 1000)))
        #expect(certificate.isValid(at: Instant(seconds: 2000)))
        let other = try Certificate.selfSigned(
            key: PrivateKey(generating: .p256), commonName: "root", notBefore: Instant(seconds: 1000),
            notAfter: Instant(seconds: 2000))
        #expect(throws: PathError.self) {
            try certificate.verifyPath(intermediates: [], roots: [other], at: Instant(seconds: 1500))
        }
    }

    @Test func `no truncated or damaged certificate makes the reader trap, or keeps its signature`() throws {
        let key = try PrivateKey(generating: .p256)
        let whole = try Certificate.selfSigned(
            key: key, commonName: "node", notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1 << 32))
        for count in 0..<whole.der.count {
            #expect(throws: CryptoError.self) { try Certificate(der: Array(whole.der.prefix(count))) }
        }
        #expect(throws: CryptoError.self) { try Certificate(der: whole.der + [0]) }
        var generator = SeededGenerator(seed: 23)
        for _ in 0..<3000 {
            let damaged = mutate(whole.der, with: &generator)
            guard damaged != whole.der, let certificate = try? Certificate(der: damaged) else { continue }
            _ = (certificate.subject, certificate.extensions, certificate.notBefore, certificate.commonName)
            #expect(throws: CryptoError.self) { try certificate.verifySignature(by: key.publicKey) }
        }
    }
}

/// X.690 DER and RFC 7468 text.
@Suite struct EncodingTests {
    @Test func `elements survive writing and reading`() throws {
        for count in [0, 1, 127, 128, 255, 256, 65535, 65536] {
            let content = [UInt8](repeating: 5, count: count)
            let element = try DER.single(DER.element(0x04, content), "x")
            #expect(element.content == content)
        }
        let nested = DER.sequence([DER.unsigned([0x80]), DER.unsigned([0])])
        let children = try DER.single(nested, "seq").children("seq")
        #expect(children.map { DER.unsignedInteger($0.content) } == [[0x80], [0]])
    }

    @Test(
        arguments: [
            [0x04], [0x04, 0x80], [0x04, 0x81, 0x01, 0], [0x04, 0x82, 0, 0x80], [0x04, 0x02, 1], [0x1F, 0x01, 0],
            [0x04, 0x01, 0, 0], [0x04, 0x85, 1, 0, 0, 0, 0],
        ] as [[UInt8]])
    func `indefinite, padded and cut lengths are refused`(bytes: [UInt8]) {
        #expect(throws: ParseError.self) { try DER.single(bytes, "x") }
    }

    @Test func `object identifiers and integers are minimal`() {
        #expect(DER.objectIdentifier([0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D]) == "1.2.840.113549")
        #expect(DER.objectIdentifier([0x2A, 0x80, 0x01]) == nil)
        #expect(DER.objectIdentifier([0x2A, 0x86]) == nil)
        #expect(DER.objectIdentifier([]) == nil)
        #expect(DER.objectIdentifier([UInt8](repeating: 0xFF, count: 20) + [0x7F]) == nil)
        #expect(DER.unsignedInteger([0x00, 0x7F]) == nil)
        #expect(DER.unsignedInteger([0xFF]) == nil)
        #expect(DER.unsignedInteger([]) == nil)
    }

    @Test func `PEM survives writing and reading, and a broken block ends the reading`() throws {
        let der = (0..<200).map { UInt8($0) }
        let text = PEM.encode("THING", der) + "comment\n" + PEM.encode("OTHER", [1])
        #expect(PEM.blocks(Array(text.utf8)).map(\.label) == ["THING", "OTHER"])
        #expect(PEM.blocks(Array(text.utf8)).first?.der == der)
        let broken = text.replacing("comment", with: "-----BEGIN X-----\n!!\n-----END X-----")
        #expect(PEM.blocks(Array(broken.utf8)).map(\.label) == ["THING"])
        #expect(PEM.blocks(Array(text.utf8), limit: 1).count == 1)
    }

    @Test func `no damage makes the readers trap`() {
        var generator = SeededGenerator(seed: 9)
        let der = DER.sequence([DER.unsigned([1, 2, 3]), DER.sequence([DER.element(0x06, [0x2A, 0x03])])])
        let pem = Array(PEM.encode("THING", der).utf8)
        for _ in 0..<3000 {
            if let element = try? DER.single(mutate(der, with: &generator), "x") { _ = try? element.children("x") }
            _ = PEM.blocks(mutate(pem, with: &generator))
        }
    }
}
