import Bytes
import SEVSNP
import TestKit
import Testing

/// SEV-SNP ABI, ATTESTATION_REPORT: layout, reserved bytes, must-be-one bits, versions.
@Suite struct AttestationReportTests {
    /// The shipped report, field by field.
    @Test func fieldsByName() throws {
        let report = try AttestationReport(Sample.shipped.report)
        #expect(report.version == 2 && report.guestSVN == 0 && report.vmpl == 0)
        #expect(report.policy == GuestPolicy(rawValue: 0xB0000))
        #expect(report.policy.allowsDebug && report.policy.allowsSMT && !report.policy.allowsMigrationAgent)
        #expect(report.platformInfo.smtEnabled && !report.platformInfo.tsmeEnabled)
        #expect(report.signingKey == .vcek && !report.hasAuthorKey && !report.masksChipKey)
        #expect(report.processor == nil && !report.isChipIDMasked)
        #expect(Hex.encode(report.chipID.prefix(8)) == "3ac3fe21e13fb099")
        let tcb = TCBVersion(bootloader: 2, tee: 0, snp: 5, microcode: 0x44)
        for raw in [report.reportedTCB, report.currentTCB, report.committedTCB, report.launchTCB] {
            #expect(try TCBVersion(raw, product: .milan, "tcb") == tcb)
            #expect(tcb.raw(.milan) == raw)
        }
        #expect(report.currentFirmware.description == "1.49.3" && report.committedFirmware.description == "1.49.3")
        #expect(report.reportIDMA == [UInt8](repeating: 0xFF, count: 32))
        #expect(report.idKeyDigest.allSatisfy { $0 == 0 } && report.signature.bigEndian?.count == 96)
    }

    @Test(arguments: Sample.all)
    func serializeGivesTheParsedBytes(_ sample: Sample) throws {
        let report = try AttestationReport(sample.report)
        #expect(report.serialize() == sample.report)
        #expect(report.signedBytes == Array(sample.report.prefix(AttestationReport.signedSize)))
        #expect(ReportSignature(bigEndian: try #require(report.signature.bigEndian)) == report.signature)
    }

    @Test func truncatedAtEveryByteAndLongerAreRefused() {
        let bytes = Sample.shipped.report
        for count in 0..<bytes.count {
            #expect(reason { _ = try AttestationReport(Array(bytes.prefix(count))) } == "parse-length")
        }
        #expect(reason { _ = try AttestationReport(bytes + [0]) } == "parse-length")
        #expect(reason { _ = try AttestationReport([UInt8](repeating: 0, count: 32) + bytes) } == "parse-length")
    }

    @Test(arguments: [0, 1, 6, 7, 255])
    func unknownVersionsAreRefused(_ version: UInt8) {
        var bytes = Sample.shipped.report
        bytes[0] = version
        #expect(reason { _ = try AttestationReport(bytes) } == "parse-version")
        bytes[0] = 2
        bytes[3] = 1
        #expect(reason { _ = try AttestationReport(bytes) } == "parse-version")
    }

    /// Every byte that no field covers, in each version.
    @Test(arguments: 2...5)
    func reservedBytesMustBeZero(_ version: UInt8) throws {
        var bytes = Sample.shipped.report
        bytes[0] = version
        var reserved = Array(0x4C..<0x50) + Array(0x18B..<0x1A0) + [0x1EB, 0x1EF]
        reserved += Array(0x208..<0x2A0) + Array(0x330..<0x4A0)
        if version == 2 { reserved += 0x188..<0x18B }
        if version < 5 { reserved += 0x1F8..<0x208 }
        #expect(throws: Never.self) { try AttestationReport(bytes) }
        for offset in reserved {
            var changed = bytes
            changed[offset] = 1
            let error = #expect(throws: ParseError.self) { try AttestationReport(changed) }
            #expect(error?.detail == "reserved" && error?.offset == offset, "offset \(offset)")
        }
    }

    /// Every byte that is not reserved is a field: changing it changes the report, and only there.
    @Test(arguments: 2...5)
    func everyOtherByteIsAField(_ version: UInt8) throws {
        var bytes = Sample.shipped.report
        bytes[0] = version
        let report = try AttestationReport(bytes)
        for offset in 4..<bytes.count {
            var changed = bytes
            changed[offset] ^= 1
            guard let other = try? AttestationReport(changed) else { continue }
            #expect(other != report && other.serialize() == changed, "offset \(offset)")
        }
    }

    @Test func bitsThatMustBe() throws {
        func with(_ offset: Int, _ value: UInt8) -> String {
            var bytes = Sample.shipped.report
            bytes[offset] = value
            return reason { _ = try AttestationReport(bytes) }
        }
        #expect(with(0x0A, 0x09) == "parse-reserved", "policy bit 17 clear")
        #expect(with(0x0B, 0x04) == "parse-reserved", "policy bit 26")
        #expect(with(0x0F, 0x80) == "parse-reserved", "policy bit 63")
        #expect(with(0x0B, 0x03) == "accepted", "policy bits 24 and 25 are defined")
        #expect(with(0x30, 4) == "parse-range", "there is no VMPL 4")
        #expect(with(0x34, 2) == "parse-range", "signature algorithm 2")
        #expect(with(0x34, 0) == "parse-range", "signed, without an algorithm")
        #expect(with(0x48, 0x08) == "parse-range", "signing key 2")
        #expect(with(0x48, 0x20) == "parse-range", "flag bit 5")
        #expect(with(0x48, 0x1F) == "accepted", "author key, masked chip key, unsigned")
    }

    /// Real Turin machines set bit 6 of PLATFORM_INFO, which no specification named.
    @Test func unknownPlatformInfoBitsAreKept() throws {
        var bytes = Sample.shipped.report
        bytes[0x40] = 0x65
        bytes[0x47] = 0x80
        let info = try AttestationReport(bytes).platformInfo
        #expect(info.unknownBits == 0x8000_0000_0000_0040)
        #expect(info.smtEnabled && info.eccEnabled && info.aliasCheckComplete && !info.tioEnabled)
    }

    @Test func randomDamageNeverCrashesAndNeverParsesToSomethingElse() {
        var generator = SeededGenerator(seed: 4)
        for _ in 0..<mutations(20_000, quick: 5_000) {
            let bytes = mutate(Sample.shipped.report, with: &generator)
            if let report = try? AttestationReport(bytes) { #expect(report.serialize() == bytes) }
        }
    }
}
