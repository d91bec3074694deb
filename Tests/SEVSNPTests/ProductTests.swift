import Bytes
import SEVSNP
import Testing

/// Products, TCB layouts and KDS addresses (publication 57230).
@Suite struct ProductTests {
    @Test(
        arguments: [
            (0x19, 0x00, "Milan"), (0x19, 0x0F, "Milan"), (0x19, 0x10, "Genoa"), (0x19, 0x1F, "Genoa"),
            (0x19, 0xA0, "Genoa"), (0x19, 0xAF, "Genoa"), (0x1A, 0x00, "Turin"), (0x1A, 0x11, "Turin"),
            (0x19, 0x20, ""), (0x19, 0xB0, ""), (0x1A, 0x12, ""), (0x17, 0x31, ""), (0x00, 0x00, ""),
        ] as [(UInt8, UInt8, String)])
    func productOfProcessor(_ family: UInt8, _ model: UInt8, _ name: String) {
        #expect((Product(family: family, model: model)?.rawValue ?? "") == name)
    }

    @Test(arguments: [("Milan-B0", "Milan"), ("Genoa", "Genoa"), ("Turin", "Turin"), ("Milanese", ""), ("", "")])
    func productOfCertificateName(_ text: String, _ name: String) {
        #expect((Product(certificateName: text)?.rawValue ?? "") == name)
    }

    /// Turin puts FMC first; read in Milan's order its levels would be other components.
    @Test func layouts() throws {
        let raw = RawTCBVersion(0x5100_0000_0401_0203)
        let turin = try TCBVersion(raw, product: .turin, "tcb")
        #expect(turin == TCBVersion(fmc: 3, bootloader: 2, tee: 1, snp: 4, microcode: 0x51))
        #expect(turin.raw(.turin) == raw)
        #expect(reason { _ = try TCBVersion(raw, product: .milan, "tcb") } == "parse-reserved")
        let milan = try TCBVersion(RawTCBVersion(0xD518_0000_0000_0004), product: .milan, "tcb")
        #expect(milan == TCBVersion(bootloader: 4, tee: 0, snp: 0x18, microcode: 0xD5))
        #expect(reason { _ = try TCBVersion(milan.raw(.milan), product: .turin, "tcb") } == "parse-reserved")
    }

    /// Per component: a higher component does not make up for a lower one, as it would in a number.
    @Test(arguments: ["fmc", "bl", "tee", "snp", "ucode"])
    func comparedPerComponent(_ component: String) {
        let minimum = TCBVersion(fmc: 5, bootloader: 5, tee: 5, snp: 5, microcode: 5)
        var tcb = TCBVersion(fmc: 9, bootloader: 9, tee: 9, snp: 9, microcode: 9)
        #expect(tcb.firstBelow(minimum) == nil && minimum.firstBelow(minimum) == nil)
        switch component {
        case "fmc": tcb.fmc = 4
        case "bl": tcb.bootloader = 4
        case "tee": tcb.tee = 4
        case "snp": tcb.snp = 4
        default: tcb.microcode = 4
        }
        #expect(tcb.firstBelow(minimum) == component)
    }

    @Test func addresses() throws {
        typealias KDS = KeyDistributionService
        #expect(KDS.chainURL(.milan, .vcek) == "https://kdsintf.amd.com/vcek/v1/Milan/cert_chain")
        #expect(KDS.chainURL(.turin, .vlek) == "https://kdsintf.amd.com/vlek/v1/Turin/cert_chain")
        #expect(KDS.revocationListURL(.genoa, .vcek) == "https://kdsintf.amd.com/vcek/v1/Genoa/crl")
        let report = try AttestationReport(Sample.shipped.report)
        let hex = Hex.encode(report.chipID)
        #expect(
            KDS.vcekURL(for: report, product: .milan)
                == "https://kdsintf.amd.com/vcek/v1/Milan/\(hex)?blSPL=2&teeSPL=0&snpSPL=5&ucodeSPL=68")
        #expect(KDS.vcekURL(for: report) == nil, "version 2 does not name its product")
        let turin = TCBVersion(fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 81)
        #expect(
            KDS.vcekURL(.turin, chipID: Array(1...64), tcb: turin)
                == "https://kdsintf.amd.com/vcek/v1/Turin/0102030405060708?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=81"
        )
        var masked = report
        masked.chipID = [UInt8](repeating: 0, count: 64)
        #expect(KDS.vcekURL(for: masked, product: .milan) == nil)
        var vlek = report
        vlek.signingKey = .vlek
        #expect(KDS.vcekURL(for: vlek, product: .milan) == nil)
    }
}
