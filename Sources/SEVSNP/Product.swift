import Bytes

/// The processor families with SEV-SNP that AMD runs a certificate hierarchy for.
///
/// Bergamo and Siena belong to Genoa's hierarchy. Names are those of the KDS (publication 57230) and of certificates.
public enum Product: String, Sendable, CaseIterable, Hashable {
    case milan = "Milan"
    case genoa = "Genoa"
    case turin = "Turin"

    /// The product of a `productName` extension: the part before a stepping suffix ("Milan-B0").
    public init?(certificateName name: some StringProtocol) {
        self.init(rawValue: String(name.prefix { $0 != "-" }))
    }

    /// The product of combined CPUID family and model, as reports of version 3 and later carry them; `nil` for others.
    public init?(family: UInt8, model: UInt8) {
        switch (family, model) {
        case (0x19, 0x00...0x0F): self = .milan
        case (0x19, 0x10...0x1F), (0x19, 0xA0...0xAF): self = .genoa
        case (0x1A, 0x00...0x11): self = .turin
        default: return nil
        }
    }

    /// Length of the hardware id that the KDS and certificates use: 8 bytes on Turin, all 64 of CHIP_ID before.
    public var hardwareIDLength: Int { self == .turin ? 8 : 64 }
}

/// Security patch levels of one TCB_VERSION, by component. Compared per component, never as a number.
///
/// SEV-SNP ABI, TCB_VERSION: Milan and Genoa `bl, tee, 0, 0, 0, 0, snp, ucode`; Turin `fmc, bl, tee, snp, 0, 0, 0,
/// ucode`.
public struct TCBVersion: Sendable, Equatable, Hashable, CustomStringConvertible {
    /// Firmware of the security processor's FMC; Turin only.
    public var fmc: UInt8?
    public var bootloader: UInt8
    public var tee: UInt8
    public var snp: UInt8
    public var microcode: UInt8

    public init(fmc: UInt8? = nil, bootloader: UInt8, tee: UInt8, snp: UInt8, microcode: UInt8) {
        self.fmc = fmc
        self.bootloader = bootloader
        self.tee = tee
        self.snp = snp
        self.microcode = microcode
    }

    /// Decodes `raw` in the layout of `product`; reserved bytes must be zero (`parse-reserved`).
    public init(_ raw: RawTCBVersion, product: Product, _ field: String) throws(ParseError) {
        let bytes = raw.littleEndian
        let reserved: [Int]
        switch product {
        case .milan, .genoa:
            self.init(bootloader: bytes[0], tee: bytes[1], snp: bytes[6], microcode: bytes[7])
            reserved = [2, 3, 4, 5]
        case .turin:
            self.init(fmc: bytes[0], bootloader: bytes[1], tee: bytes[2], snp: bytes[3], microcode: bytes[7])
            reserved = [4, 5, 6]
        }
        if let index = reserved.first(where: { bytes[$0] != 0 }) {
            throw ParseError(
                "reserved", field: field, offset: index,
                "byte \(index) of a \(product.rawValue) TCB version must be zero, is \(bytes[index])")
        }
    }

    /// The eight bytes in the layout of `product`.
    public func raw(_ product: Product) -> RawTCBVersion {
        switch product {
        case .milan, .genoa:
            RawTCBVersion(littleEndian: [bootloader, tee, 0, 0, 0, 0, snp, microcode])
        case .turin:
            RawTCBVersion(littleEndian: [fmc ?? 0, bootloader, tee, snp, 0, 0, 0, microcode])
        }
    }

    /// Component names as policies and certificates use them, with values.
    public var components: [(name: String, value: UInt8)] {
        (fmc.map { [("fmc", $0)] } ?? []) + [("bl", bootloader), ("tee", tee), ("snp", snp), ("ucode", microcode)]
    }

    /// The first component that is lower than `minimum`'s, if any. A component this product lacks counts as 0.
    public func firstBelow(_ minimum: TCBVersion) -> String? {
        if (fmc ?? 0) < (minimum.fmc ?? 0) { return "fmc" }
        if bootloader < minimum.bootloader { return "bl" }
        if tee < minimum.tee { return "tee" }
        if snp < minimum.snp { return "snp" }
        return microcode < minimum.microcode ? "ucode" : nil
    }

    public var description: String { components.map { "\($0.name) \($0.value)" }.joined(separator: ", ") }
}

/// A TCB_VERSION as it stands in a report: eight bytes whose layout depends on the product.
public struct RawTCBVersion: Sendable, Equatable, Hashable {
    public var value: UInt64

    public init(_ value: UInt64) { self.value = value }

    /// From eight bytes in the order they stand in a report; missing ones are zero, further ones are ignored.
    init(littleEndian bytes: [UInt8]) {
        value = bytes.prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    /// The eight bytes in the order they stand in a report.
    public var littleEndian: [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) } }
}
