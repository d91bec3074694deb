import Bytes
import Crypto
import TestKit
import Testing

@testable import TPM

@Suite struct QuoteTests {
    static let samples: [(String, String)] =
        Vectors.root == nil
        ? []
        : [
            ("q_rsassa", "ak_rsassa"), ("q_rsapss", "ak_rsapss"), ("q_ecdsa256", "ak_ecdsa256"),
            ("q_ecdsa384", "ak_ecdsa384"), ("q_multi", "ak_ecdsa256"), ("q_0to7", "ak_rsassa"),
        ]
    static let nonce = Array("shared nonce 01".utf8)

    static func read(_ name: String) throws -> [UInt8] { try Vectors.read("tpm/swtpm/\(name)") }
    static func pcrs() throws -> PCRBank { try PCRBank(parsing: read("pcrs.json")) }

    static func verify(_ attest: [UInt8], _ signature: [UInt8], _ ak: [UInt8], _ pcrs: PCRBank) throws(TPMError) {
        let quote = try Quote(attest: attest, signature: signature)
        try quote.verify(ak: AttestationKey(parsing: ak), nonce: nonce, pcrs: pcrs)
    }

    @Test(arguments: samples)
    func encodesAsTheTPMDid(_ name: String, _ ak: String) throws {
        let (attest, signature) = (try Self.read("\(name).attest"), try Self.read("\(name).sig"))
        let quote = try Quote(attest: attest, signature: signature)
        #expect(quote.attest.encoded == attest)
        #expect(quote.signature.encoded == signature)
    }

    @Test(arguments: samples)
    func refusesEveryTruncation(_ name: String, _ ak: String) throws {
        let (attest, signature) = (try Self.read("\(name).attest"), try Self.read("\(name).sig"))
        for count in attest.indices {
            #expect(throws: ParseError.self) { try Attest(parsing: Array(attest.prefix(count))) }
        }
        for count in signature.indices {
            #expect(throws: ParseError.self) { try TPMSignature(parsing: Array(signature.prefix(count))) }
        }
        let key = try Self.read("\(ak).pub")
        for count in key.indices {
            #expect(throws: ParseError.self) { try TPMPublic(parsing: Array(key.prefix(count))) }
        }
        #expect(throws: ParseError.self) { try Attest(parsing: attest + [0]) }
        #expect(throws: ParseError.self) { try TPMSignature(parsing: signature + [0]) }
        #expect(throws: ParseError.self) { try TPMPublic(parsing: key + [0]) }
    }

    /// Damage anywhere in the statement, the signature or the key: none of it is accepted.
    @Test(arguments: samples)
    func refusesMutations(_ name: String, _ ak: String) throws {
        let parts = [
            try Self.read("\(name).attest"), try Self.read("\(name).sig"), try Self.read("\(ak).pub"),
        ]
        let pcrs = try Self.pcrs()
        try Self.verify(parts[0], parts[1], parts[2], pcrs)
        var generator = SeededGenerator(seed: 1)
        var accepted: [String] = []
        for round in 0..<mutations(quick: 600) {
            var changed = parts
            changed[round % 3] = mutate(parts[round % 3], with: &generator)
            guard changed != parts else { continue }
            if (try? Self.verify(changed[0], changed[1], changed[2], pcrs)) != nil {
                accepted.append("part \(round % 3): \(Hex.encode(changed[round % 3]))")
            }
        }
        // Attributes beyond those that make an attestation key, and the authorisation policy, are not judged: only a
        // pinned name binds them. Such a key still made the signature.
        let unbound = accepted.filter { !$0.hasPrefix("part 2") }
        #expect(unbound.isEmpty, "\(unbound.first ?? "")")
    }

    @Test(arguments: ["rsassa", "rsapss", "ecdsa256", "ecdsa384"])
    func computesTheNameThatTheTPMReports(_ key: String) throws {
        guard Vectors.root != nil else { return }
        let area = try TPMPublic(parsing: Self.read("ak_\(key).pub"))
        #expect(area.name == (try Self.read("ak_\(key).name")))
        #expect(try area.publicKey() == PublicKey(pem: Self.read("ak_\(key).pem")))
    }

    @Test func readsEndorsementKeys() throws {
        guard Vectors.root != nil else { return }
        for key in ["ek_rsa", "ek_ecc"] {
            let area = try TPMPublic(parsing: Self.read("\(key).pub"))
            #expect(area.attributes.contains([.restricted, .decrypt]))
            #expect(throws: TPMError.self) { try AttestationKey(area).checkAttributes() }
        }
    }

    /// A nonce is compared whole: no prefix, no padding.
    @Test(arguments: [nonce.dropLast(), nonce + [0], [], nonce.dropFirst() + [0]].map { Array($0) })
    func refusesAnotherNonce(_ nonce: [UInt8]) throws {
        guard Vectors.root != nil else { return }
        let quote = try Quote(attest: Self.read("q_rsassa.attest"), signature: Self.read("q_rsassa.sig"))
        let key = try AttestationKey(parsing: Self.read("ak_rsassa.pub"))
        let error = #expect(throws: TPMError.self) { try quote.verify(ak: key, nonce: nonce, pcrs: Self.pcrs()) }
        #expect(error?.finding.reason == "nonce")
    }

    @Test func refusesAQuoteOfNothingButSHA1() throws {
        guard Vectors.root != nil else { return }
        let quote = try Quote(attest: Self.read("q_sha1bank.attest"), signature: Self.read("q_sha1bank.sig"))
        let key = try AttestationKey(parsing: Self.read("ak_rsassa.pub"))
        let error = #expect(throws: TPMError.self) { try quote.verify(ak: key, nonce: nil, pcrs: Self.pcrs()) }
        #expect(error?.finding.reason == "pcr-sha1")
        #expect(try quote.verify(ak: key, nonce: nil, pcrs: Self.pcrs(), allowSHA1: true).banks == [.sha1])
    }

    @Test func returnsOnlyWhatIsQuoted() throws {
        guard Vectors.root != nil else { return }
        let quote = try Quote(attest: Self.read("q_0to7.attest"), signature: Self.read("q_0to7.sig"))
        let key = try AttestationKey(parsing: Self.read("ak_rsassa.pub"))
        let covered = try quote.verify(ak: key, nonce: Self.nonce, pcrs: Self.pcrs())
        #expect(covered.values.mapValues { $0.keys.sorted() } == [.sha256: Array(0...7)])
    }

    /// Own statements through own signatures: the parser reads what the writer writes, for any selection.
    @Test func roundTripsOwnStatements() throws {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<200 {
            let banks = HashAlgorithm.allCases.shuffled(using: &generator).prefix(
                Int.random(in: 0...4, using: &generator))
            let attest = Attest(
                qualifiedSigner: (0..<34).map { _ in UInt8.random(in: 0...255, using: &generator) },
                extraData: (0..<Int.random(in: 0...64, using: &generator)).map { UInt8($0) },
                clock: generator.next(), resetCount: UInt32.random(in: 0...9, using: &generator), restartCount: 3,
                isClockSafe: Bool.random(using: &generator), firmwareVersion: generator.next(),
                selections: banks.map { bank in
                    PCRSelection(
                        hash: bank, indices: Array(0..<24).filter { _ in Bool.random(using: &generator) })
                },
                pcrDigest: [UInt8](repeating: 1, count: 32))
            #expect(try Attest(parsing: attest.encoded) == attest)
        }
    }
}
