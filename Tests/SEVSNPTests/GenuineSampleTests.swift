import Bytes
import Crypto
import SEVSNP
import TestKit
import Testing

/// Genuine reports of real machines, under AMD's own keys.
@Suite struct GenuineSampleTests {
    @Test(arguments: Sample.all)
    func verifiesUnderTheShippedKeys(_ sample: Sample) throws {
        let chain = try sample.chain()
        let verified = try chain.verify(try AttestationReport(sample.report), at: sample.time)
        #expect(chain.isAMDRoot && !chain.checksRevocation)
        #expect(verified.reportedTCB == chain.endorsement.tcb)
        if let processor = verified.report.processor { #expect(processor.product == chain.product) }
        if chain.endorsement.kind == .vcek {
            #expect(chain.endorsement.hardwareID?.count == chain.product.hardwareIDLength)
        } else {
            #expect(chain.endorsement.cspID?.isEmpty == false)
        }
    }

    @Test(arguments: Sample.all)
    func noDamagedCopyIsAccepted(_ sample: Sample) throws {
        let chain = try sample.chain()
        var generator = SeededGenerator(seed: UInt64(sample.report[0x1A0]) + 1)
        var accepted = 0
        for _ in 0..<mutations(quick: sample.name == Sample.shipped.name ? 1_000 : 400) {
            let bytes = mutate(sample.report, with: &generator)
            guard bytes != sample.report, let report = try? AttestationReport(bytes) else { continue }
            if (try? chain.verify(report, at: sample.time)) != nil { accepted += 1 }
        }
        #expect(accepted == 0)
    }

    @Test func signatureNumbersOutOfRange() throws {
        let chain = try Sample.shipped.chain()
        let good = try AttestationReport(Sample.shipped.report)
        let zero = [UInt8](repeating: 0, count: 72)
        let order = ReportSignature(
            bigEndian: (Hex.decode(
                "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973")
                ?? []) + [UInt8](repeating: 0, count: 48)
        ).r
        func judged(_ r: [UInt8], _ s: [UInt8]) -> String {
            var report = good
            report.signature = ReportSignature(r: r, s: s)
            return reason { _ = try chain.verify(report, at: Sample.shipped.time) }
        }
        #expect(judged(good.signature.r, good.signature.s) == "accepted")
        #expect(judged(zero, good.signature.s) == "signature-range")
        #expect(judged(good.signature.r, zero) == "signature-range")
        #expect(judged(order, good.signature.s) == "signature-range", "r = n")
        #expect(judged(good.signature.r, order) == "signature-range", "s = n")
        var high = good.signature.r
        high[48] = 1
        #expect(judged(high, good.signature.s) == "signature-range", "beyond 48 bytes")
        #expect(judged(good.signature.s, good.signature.r) == "signature")
    }

    /// The same answer as the `openssl` program, driven by hand, over every sample: chain and signature.
    @Test(.enabled(if: OpenSSLTool.isAvailable), arguments: Sample.all)
    func opensslByHandAgrees(_ sample: Sample) throws {
        let chain = try sample.chain()
        let report = try AttestationReport(sample.report)
        try withTemporaryFolder { folder in
            try writeFile("\(folder)/ark.pem", Array(chain.root.pem.utf8))
            try writeFile("\(folder)/ask.pem", Array(chain.signer.pem.utf8))
            try writeFile("\(folder)/vek.pem", Array(chain.endorsement.certificate.pem.utf8))
            try writeFile("\(folder)/key.pem", Array(chain.endorsement.key.pem.utf8))
            try writeFile("\(folder)/body", Array(sample.report.prefix(0x2A0)))
            let raw = try #require(report.signature.bigEndian)
            try writeFile("\(folder)/signature", try DER.ecdsaSignature(raw: raw))
            let chainAnswer = try OpenSSLTool.run(
                "verify -attime \(sample.time.seconds) -CAfile \(folder)/ark.pem -untrusted \(folder)/ask.pem "
                    + "\(folder)/vek.pem")
            let digest = "dgst -sha384 -verify \(folder)/key.pem -signature \(folder)/signature"
            let signatureAnswer = try OpenSSLTool.run("\(digest) \(folder)/body")
            let ours = reason { _ = try chain.verify(report, at: sample.time) }
            print(
                "openssl by hand: \(sample): chain \(chainAnswer.status), signature \(signatureAnswer.status); \(ours)")
            #expect(chainAnswer.status == 0 && signatureAnswer.status == 0 && ours == "accepted")

            // One bit off, and after the end of the VEK: both must say no.
            var body = Array(sample.report.prefix(0x2A0))
            body[0x90] ^= 1
            try writeFile("\(folder)/body", body)
            #expect(try OpenSSLTool.run("\(digest) \(folder)/body").status != 0)
            var changed = report
            changed.measurement[0] ^= 1
            #expect(reason { _ = try chain.verify(changed, at: sample.time) } == "signature")
            let late = Instant(seconds: (chain.endorsement.certificate.notAfter?.seconds ?? 0) + 1)
            let lateAnswer = try OpenSSLTool.run(
                "verify -attime \(late.seconds) -CAfile \(folder)/ark.pem -untrusted \(folder)/ask.pem "
                    + "\(folder)/vek.pem")
            #expect(lateAnswer.status != 0)
            #expect(reason { _ = try chain.verify(report, at: late) } == "cert-expired")
        }
    }
}
