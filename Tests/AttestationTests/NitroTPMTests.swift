import Bytes
import Crypto
import TPM
import TestKit
import Testing

@testable import Attestation

/// No genuine NitroTPM document is at hand: these are made here, under an own root, in the form that AWS publishes.
@Suite struct NitroTPMTests {
    static let time = Instant(seconds: 1_780_000_000)

    struct Sample {
        let root: TestAuthority
        let leafKey: PrivateKey
        let leaf: Certificate
        var fields: [String: CBOR]
        var header: CBOR = .map([.integer(1): .integer(-35)])
        var tag: UInt64? = nil

        init() throws {
            root = try TestAuthority(root: "nitro test root")
            leafKey = try PrivateKey(generating: .p384)
            leaf = try root.issue("i-0123-tpm0", leafKey.publicKey, extensions: [TestAuthority.digitalSignature])
            let registers = (0..<24).map {
                (CBOR.integer(Int64($0)), CBOR.bytes([UInt8](repeating: UInt8($0), count: 48)))
            }
            fields = [
                "module_id": .text("i-0123-tpm0"), "timestamp": .integer(1_780_000_000_000), "digest": .text("SHA384"),
                "nitrotpm_pcrs": .map(Dictionary(uniqueKeysWithValues: registers)), "certificate": .bytes(leaf.der),
                "cabundle": .array([.bytes(root.certificate.der)]), "nonce": .bytes([1, 2, 3]), "user_data": .null,
            ]
        }

        func document() throws -> [UInt8] {
            let payload = CBOR.map(
                Dictionary(uniqueKeysWithValues: fields.map { (CBOR.text($0.key), $0.value) })
            ).encoded
            let signed = CBOR.array([.text("Signature1"), .bytes(header.encoded), .bytes([]), .bytes(payload)]).encoded
            let signature = try rawSignature(leafKey.sign(signed, scheme: .ecdsa(.sha384)))
            let message = CBOR.array([.bytes(header.encoded), .map([:]), .bytes(payload), .bytes(signature)])
            return (tag.map { .tagged($0, message) } ?? message).encoded
        }

        /// r ‖ s from ECDSA-Sig-Value.
        private func rawSignature(_ der: [UInt8]) throws -> [UInt8] {
            try DER.single(der, "signature").children("signature").flatMap { element in
                let number = DER.unsignedInteger(element.content) ?? []
                return [UInt8](repeating: 0, count: 48 - number.count) + number
            }
        }

        func judge(_ document: [UInt8], _ policy: JSON = ["nonce": "010203"], at time: Instant = time) -> Verdict {
            Judge.judge(
                EvidenceCase(
                    kind: "nitrotpm", inputs: ["document": document, "roots": root.certificate.der], policy: policy,
                    time: time))
        }
    }

    @Test func acceptsAWholeDocument() throws {
        var sample = try Sample()
        let verdict = sample.judge(try sample.document())
        #expect(verdict.reason == "ok")
        #expect(verdict.marks == ["development", "simulated"])
        #expect(verdict.unchecked.contains("tpm/sha384/4"))
        sample.tag = 18
        #expect(sample.judge(try sample.document()).isAccepted)
    }

    @Test func refusesAnyOtherRootThanAWS() throws {
        let sample = try Sample()
        let evidence = EvidenceCase(kind: "nitrotpm", inputs: ["document": try sample.document()], time: Self.time)
        #expect(Judge.judge(evidence).reason == "chain")
    }

    @Test func refusesByPolicy() throws {
        let sample = try Sample()
        let document = try sample.document()
        #expect(sample.judge(document, ["nonce": "0102"]).reason == "nonce")
        #expect(sample.judge(document, ["user_data": "00"]).reason == "policy-user-data")
        let zero = String(repeating: "00", count: 48)
        #expect(sample.judge(document, ["expected_pcrs": ["sha384": ["0": .string(zero)]]]).isAccepted)
        #expect(sample.judge(document, ["expected_pcrs": ["sha384": ["1": .string(zero)]]]).reason == "pcr-value")
        #expect(sample.judge(document, ["surprise": 1]).reason == "parse-form")
        #expect(sample.judge(document, at: Instant(seconds: 2_300_000_000)).reason == "expired")
    }

    @Test func refusesOtherForms() throws {
        var sample = try Sample()
        sample.header = .map([.integer(1): .integer(-7)])
        #expect(sample.judge(try sample.document()).reason == "parse-form")
        sample = try Sample()
        sample.tag = 17
        #expect(sample.judge(try sample.document()).reason == "parse-form")
        for (name, value) in [
            ("digest", CBOR.text("SHA256")), ("extra", .null), ("nitrotpm_pcrs", .map([:])), ("cabundle", .array([])),
            ("timestamp", .text("now")),
        ] {
            sample = try Sample()
            sample.fields[name] = value
            #expect(sample.judge(try sample.document()).reason == "parse-form", "\(name)")
        }
    }

    @Test func refusesMutationsAndTruncations() throws {
        let sample = try Sample()
        let document = try sample.document()
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<mutations(quick: 500) {
            let changed = mutate(document, with: &generator)
            guard changed != document else { continue }
            #expect(!sample.judge(changed).isAccepted)
        }
        for count in document.indices { #expect(!sample.judge(Array(document.prefix(count))).isAccepted) }
    }
}
