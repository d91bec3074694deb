import Bytes
import Crypto

/// Files and parameters of one prediction: what `nacre image measure` is asked.
public struct MeasurementRequest: Sendable {
    /// Raw disk or UKI.
    public var image: String?
    public var firmware: String?
    /// Firmware of confidential VMs where it is another file: SEV-SNP launches and MRTD are of this one.
    public var launchFirmware: String?
    /// The image's own UKI, for launches that boot it directly beside those that do not; left out where the firmware
    /// takes no kernel hashes.
    public var directKernel: String?
    public var variables: String?
    public var vcpus: [Int]
    public var vcpuTypes: [String]
    public var host: LaunchDigest.Host
    public var banks: [HashAlgorithm]
    /// Direct SEV-SNP boot.
    public var kernel: String?
    public var initrd: String?
    public var append: String
    public var guestFeatures: UInt64
    public var order: TrustDomainMeasurement.Order
    public var profile: Int
    public var phases: [String]

    public init(
        image: String? = nil, firmware: String? = nil, launchFirmware: String? = nil, directKernel: String? = nil,
        variables: String? = nil, vcpus: [Int] = [],
        vcpuTypes: [String] = ["EPYC-v4"], host: LaunchDigest.Host = .qemu,
        banks: [HashAlgorithm] = [.sha256, .sha384], kernel: String? = nil, initrd: String? = nil, append: String = "",
        guestFeatures: UInt64 = 1, order: TrustDomainMeasurement.Order = .onePass, profile: Int = 0,
        phases: [String] = BootPrediction.defaultPhases
    ) {
        self.image = image
        self.firmware = firmware
        self.launchFirmware = launchFirmware
        self.directKernel = directKernel
        self.variables = variables
        self.vcpus = vcpus
        self.vcpuTypes = vcpuTypes
        self.host = host
        self.banks = banks
        self.kernel = kernel
        self.initrd = initrd
        self.append = append
        self.guestFeatures = guestFeatures
        self.order = order
        self.profile = profile
        self.phases = phases
    }

    /// Reads the files and computes everything they determine.
    public func document() async throws(Finding) -> MeasurementDocument {
        let firmwareBytes = try Self.checked(firmware, Self.firmware)
        let launchBytes = launchFirmware == nil ? firmwareBytes : try Self.checked(launchFirmware, Self.firmware)
        var inputs = BootPrediction.Inputs()
        inputs.profile = profile
        inputs.phases = phases
        var missing: [String: String] = [:]
        let prediction: BootPrediction
        let events: [Event]
        let mrtd: [UInt8]?
        do throws(ParseError) {
            if let image { try inputs.read(ByteSource(file: image)) }
            var store: [UInt8]?
            if let variables {
                store = try ByteSource(file: variables).readAll(limit: VariableStore.maximumSize, variables)
            }
            try inputs.read(firmware: firmwareBytes, variables: store)
            prediction = try BootPrediction(inputs)
            events = try await prediction.events.hashedConcurrently(banks)
            mrtd = try trustDomain(launchBytes, &missing)
        } catch { throw error.finding }
        let launches = try launches(launchBytes, &missing)
        return MeasurementDocument(
            prediction, events: events, banks: banks, launches: launches, mrtd: mrtd, missing: missing)
    }

    private static func firmware(_ path: String) throws(ParseError) -> [UInt8] {
        try ByteSource(file: path).readAll(limit: FirmwareVolumes.maximumSize, path)
    }

    private static func checked<T>(
        _ path: String?, _ read: (String) throws(ParseError) -> T
    ) throws(Finding) -> T? {
        guard let path else { return nil }
        do throws(ParseError) { return try read(path) } catch { throw error.finding }
    }

    private func trustDomain(
        _ firmware: [UInt8]?, _ missing: inout [String: String]
    ) throws(ParseError) -> [UInt8]? {
        guard let firmware else {
            missing["tdx/mrtd"] = "firmware image (--firmware)"
            return nil
        }
        do throws(ParseError) {
            if let mrtd = try TrustDomainMeasurement.mrtd(firmware, order: order) { return mrtd }
            missing["tdx/mrtd"] = "a firmware image with TDX metadata"
        } catch  where error.detail == "range" {
            // The offsets are those of the combined image; a code file alone is too short for them.
            missing["tdx/mrtd"] = "the combined firmware image (OVMF.fd): \(error.message)"
        }
        return nil
    }

    private func launches(
        _ firmware: [UInt8]?, _ missing: inout [String: String]
    ) throws(Finding) -> [MeasurementDocument.Launch] {
        guard let firmware, !vcpus.isEmpty else {
            missing["snp"] = firmware == nil ? "firmware image (--firmware)" : "numbers of vCPUs (--vcpus)"
            return []
        }
        var parameters = LaunchDigest.Parameters()
        parameters.host = host
        parameters.guestFeatures = guestFeatures
        let (initrd, append) = (initrd, append)
        parameters.kernel = try Self.checked(kernel) { path throws(ParseError) in
            var contents: ByteSource?
            if let initrd { contents = try ByteSource(file: initrd) }
            return try KernelHashes(kernel: try ByteSource(file: path), initrd: contents, append: append)
        }
        var kernels = [parameters.kernel]
        let direct = try Self.checked(directKernel) { path throws(ParseError) in
            try KernelHashes(kernel: try ByteSource(file: path), initrd: nil, append: "")
        }
        if let direct {
            if try LaunchDigest.takesKernelHashes(firmware) {
                kernels.append(direct)
            } else {
                missing["snp/direct"] = "firmware for direct boot (AmdSev)"
            }
        }
        // The pages of the firmware come first in every launch: hashed once.
        parameters.firmwareDigest = try LaunchDigest.firmwareOnly(firmware)
        var launches: [MeasurementDocument.Launch] = []
        for type in host == .qemu ? vcpuTypes : ["any"] {
            parameters.vcpuSignature = LaunchDigest.signature(ofType: type) ?? 0
            for count in vcpus {
                parameters.vcpus = count
                for kernel in kernels {
                    parameters.kernel = kernel
                    let digest = try LaunchDigest.snp(firmware: firmware, parameters)
                    launches.append(
                        MeasurementDocument.Launch(
                            host: host, vcpus: count, vcpuType: type, digest: digest,
                            boot: kernel == nil ? .disk : .direct))
                }
            }
        }
        return launches
    }
}
