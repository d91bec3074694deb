import ArgumentParser
import Bytes
import Crypto
import Measurement

extension LaunchDigest.Host: ExpressibleByArgument {}
extension TrustDomainMeasurement.Order: ExpressibleByArgument {}

extension LaunchDigest {
    /// What `--vcpus` and `--vcpu-type` may be.
    static func validate(vcpus: [Int], types: [String]) throws {
        guard vcpus.allSatisfy({ (1...maximumVCPUs).contains($0) }) else {
            throw ValidationError("--vcpus takes numbers from 1 to \(maximumVCPUs).")
        }
        if let type = types.first(where: { signature(ofType: $0) == nil }) {
            throw ValidationError("'\(type)' is not a CPU model with SEV-SNP.")
        }
    }
}

/// Comma-separated values of one option.
struct CommaList<Element: Sendable & Hashable>: ExpressibleByArgument, Sendable
where Element: LosslessStringConvertible {
    let values: [Element]
    init(_ values: [Element]) { self.values = values }
    init?(argument: String) {
        let parts = argument.split(separator: ",", omittingEmptySubsequences: false).map { Element(String($0)) }
        let values = parts.compactMap { $0 }
        guard values.count == parts.count, Set(values).count == values.count else { return nil }
        self.values = values
    }
    var defaultValueDescription: String { values.map(\.description).joined(separator: ",") }
}

struct ImageMeasure: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "measure",
        abstract: "Predict every register that a boot of an image will show.",
        discussion: """
            Takes a raw disk or a UKI, or with --firmware nothing: then it prints what the firmware alone determines. \
            Registers that depend on inputs not given are named, with the input.
            """)

    @Argument(help: "Raw disk image or unified kernel image.")
    var image: String?

    @Option(help: ArgumentHelp("Firmware image, e.g. OVMF_CODE.fd or OVMF.fd.", valueName: "file"))
    var firmware: String?

    @Option(
        help: ArgumentHelp(
            "Variable store, e.g. OVMF_VARS.fd, where it is not part of the firmware.", valueName: "file"))
    var vars: String?

    @Option(help: ArgumentHelp("Numbers of vCPUs to compute SEV-SNP launch digests for.", valueName: "n,…"))
    var vcpus = CommaList<Int>([])

    @Option(help: ArgumentHelp("QEMU CPU models to compute SEV-SNP launch digests for.", valueName: "type,…"))
    var vcpuType = CommaList<String>(["EPYC-v4"])

    @Option(help: "Whose hypervisor launches SEV-SNP guests.")
    var vmm = LaunchDigest.Host.qemu

    @Option(help: ArgumentHelp("TPM banks.", valueName: "bank,…"))
    var bank = CommaList<String>(["sha256", "sha384"])

    @Option(help: ArgumentHelp("Kernel of a direct SEV-SNP boot.", valueName: "file"))
    var kernel: String?

    @Option(help: ArgumentHelp("Initrd of a direct SEV-SNP boot.", valueName: "file"))
    var initrd: String?

    @Option(help: ArgumentHelp("Command line of a direct SEV-SNP boot.", valueName: "text"))
    var append: String?

    @Option(help: ArgumentHelp("SEV features of the guest.", valueName: "hex"))
    var guestFeatures = "1"

    @Option(help: ArgumentHelp("Order in which the hypervisor measures TDX pages.", valueName: "order"))
    var mrtdOrder = TrustDomainMeasurement.Order.onePass

    @Option(help: ArgumentHelp("Profile of the UKI.", valueName: "number"))
    var profile = 0

    @Option(help: ArgumentHelp("Phases extended into PCR 11, in order.", valueName: "phase,…"))
    var phases = CommaList<String>(BootPrediction.defaultPhases)

    @Flag(help: "Print each event with what it hashes.")
    var explain = false

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard image != nil || firmware != nil || vars != nil else {
            throw ValidationError("Give a disk, a UKI or --firmware.")
        }
        guard !bank.values.isEmpty, bank.values.allSatisfy({ HashAlgorithm(rawValue: $0) != nil }) else {
            throw ValidationError("--bank takes \(HashAlgorithm.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        try LaunchDigest.validate(vcpus: vcpus.values, types: vcpuType.values)
        guard vcpus.values.isEmpty || firmware != nil else { throw ValidationError("--vcpus needs --firmware.") }
        guard kernel != nil || (initrd == nil && append == nil) else {
            throw ValidationError("--initrd and --append need --kernel.")
        }
        guard kernel == nil || !vcpus.values.isEmpty else { throw ValidationError("--kernel needs --vcpus.") }
        guard features != nil else { throw ValidationError("--guest-features takes a hexadecimal number.") }
        guard profile >= 0 else { throw ValidationError("--profile takes a number from 0.") }
    }

    private var features: UInt64? {
        UInt64(guestFeatures.hasPrefix("0x") ? String(guestFeatures.dropFirst(2)) : guestFeatures, radix: 16)
    }

    func run() async throws {
        let request = MeasurementRequest(
            image: image, firmware: firmware, variables: vars, vcpus: vcpus.values, vcpuTypes: vcpuType.values,
            host: vmm, banks: bank.values.compactMap { HashAlgorithm(rawValue: $0) }, kernel: kernel, initrd: initrd,
            append: append ?? "", guestFeatures: features ?? 1, order: mrtdOrder, profile: profile,
            phases: phases.values)
        let document = try await request.document()
        switch output.output {
        case .json: print(document.json.pretty, terminator: "")
        case .text: print(document.table(explain: explain))
        }
    }
}
