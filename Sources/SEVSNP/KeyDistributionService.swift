import Bytes

/// Where AMD's Key Distribution Service serves what a report needs (publication 57230). Addresses only: nothing here
/// fetches, and whatever is fetched is verified like any other input.
public enum KeyDistributionService {
    public static let host = "https://kdsintf.amd.com"

    private static func base(_ product: Product, _ kind: EndorsementKey.Kind) -> String {
        "\(host)/\(kind.rawValue)/v1/\(product.rawValue)"
    }

    /// ASK or ASVK, then ARK, PEM.
    public static func chainURL(_ product: Product, _ kind: EndorsementKey.Kind) -> String {
        "\(base(product, kind))/cert_chain"
    }

    /// The ARK's revocation list, DER.
    public static func revocationListURL(_ product: Product, _ kind: EndorsementKey.Kind) -> String {
        "\(base(product, kind))/crl"
    }

    /// The VCEK of one chip at one TCB, DER. VLEKs are not served by chip: the cloud hands them out.
    ///
    /// - Parameter chipID: CHIP_ID of the report, 64 bytes; Turin uses the first 8.
    public static func vcekURL(_ product: Product, chipID: [UInt8], tcb: TCBVersion) -> String {
        let hardwareID = Hex.encode(chipID.prefix(product.hardwareIDLength))
        let fmc = product == .turin ? "fmcSPL=\(tcb.fmc ?? 0)&" : ""
        return "\(base(product, .vcek))/\(hardwareID)?\(fmc)blSPL=\(tcb.bootloader)&teeSPL=\(tcb.tee)"
            + "&snpSPL=\(tcb.snp)&ucodeSPL=\(tcb.microcode)"
    }

    /// The VCEK that signed `report`; `nil` for a report by a VLEK or by nobody, with a masked chip id, of an unknown
    /// processor, or of version 2, which does not name its product, when none is given.
    public static func vcekURL(for report: AttestationReport, product given: Product? = nil) -> String? {
        guard report.signingKey == .vcek, !report.isChipIDMasked, let product = report.processor?.product ?? given,
            let tcb = try? TCBVersion(report.reportedTCB, product: product, "report.reported_tcb")
        else { return nil }
        return vcekURL(product, chipID: report.chipID, tcb: tcb)
    }
}
