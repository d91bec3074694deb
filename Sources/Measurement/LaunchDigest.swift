import Bytes
import Crypto

/// The launch digest of AMD SEV-SNP (SEV Secure Nested Paging Firmware ABI 1.55 §8.17.2) as each host launches OVMF.
public struct LaunchDigest: Sendable {
    /// Whose hypervisor launches the guest; they differ in page types, order and initial registers.
    public enum Host: String, CaseIterable, Sendable {
        case qemu, ec2, gce
    }

    /// Where the firmware finds what it starts.
    public enum Boot: String, Sendable, CaseIterable {
        /// On a disk: the digest says nothing of it.
        case disk
        /// Handed over by the host: the digest covers hashes of kernel, initrd and command line, and the firmware refuses
        /// others.
        case direct
    }

    /// What is measured besides the firmware.
    public struct Parameters: Sendable {
        public var host = Host.qemu
        public var vcpus = 1
        /// CPUID function 1 EAX, which QEMU puts into RDX.
        public var vcpuSignature: UInt32 = 0
        /// SEV_FEATURES of the VMSA.
        public var guestFeatures: UInt64 = 1
        public var kernel: KernelHashes?
        /// Digest after the firmware's pages, where the firmware itself is not at hand (`firmwareDigest`).
        public var firmwareDigest: [UInt8]?

        public init() {}
    }

    /// vCPUs a launch may have.
    public static let maximumVCPUs = 8192
    static let pageSize = 4096

    /// Running digest: SHA-384 over PAGE_INFO structures (§8.17.2.1), each of which holds the digest before it.
    private(set) var value: [UInt8]

    private init(from value: [UInt8] = [UInt8](repeating: 0, count: 48)) { self.value = value }

    private enum PageType: UInt8 {
        case normal = 1
        case vmsa, zero, unmeasured, secrets, cpuid
    }

    private mutating func add(_ type: PageType, _ gpa: UInt64, _ contents: [UInt8]? = nil) {
        var info = ByteWriter()
        info.append(value)
        info.append(contents.map { HashAlgorithm.sha384.hash($0) } ?? [UInt8](repeating: 0, count: 48))
        info.le(UInt16(0x70))
        info.u8(type.rawValue)
        info.zeros(5)
        info.le(gpa)
        value = HashAlgorithm.sha384.hash(info.bytes)
    }

    private mutating func addPages(_ type: PageType, _ gpa: UInt64, count: Int) {
        for page in 0..<count { add(type, gpa &+ UInt64(page * Self.pageSize)) }
    }

    private mutating func addNormal(_ bytes: [UInt8], at gpa: UInt64) {
        for offset in stride(from: 0, to: bytes.count, by: Self.pageSize) {
            add(.normal, gpa &+ UInt64(offset), Array(bytes[offset..<offset + Self.pageSize]))
        }
    }

    /// Whether `firmware` has a place for the hashes of a directly booted kernel.
    public static func takesKernelHashes(_ firmware: [UInt8]) throws(Finding) -> Bool {
        let ovmf = try SEVFirmware(firmware, endingAt: 1 << 32)
        guard let address = try ovmf.kernelHashesAddress, address != 0 else { return false }
        return ovmf.sections.contains { $0.type == .kernelHashes }
    }

    /// The digest of a launch of `firmware` (SEV-SNP without SVSM).
    public static func snp(firmware: [UInt8], _ parameters: Parameters) throws(Finding) -> [UInt8] {
        let ovmf = try SEVFirmware(firmware, endingAt: 1 << 32)
        var digest = LaunchDigest()
        if let ready = parameters.firmwareDigest {
            guard ready.count == 48 else { throw SEVFirmware.unusable("firmware digest", "must be 48 bytes") }
            digest = LaunchDigest(from: ready)
        } else {
            digest.addNormal(firmware, at: ovmf.start)
        }
        try digest.addMetadata(ovmf, parameters.kernel, host: parameters.host)

        let entry = try ovmf.required(FirmwareTable.sevResetBlock, "SEV-ES reset block")
        for index in 0..<(try checkedCount(parameters.vcpus)) {
            let page = SaveArea.page(
                isBoot: index == 0, apEntry: entry, host: parameters.host, signature: parameters.vcpuSignature,
                features: parameters.guestFeatures)
            digest.add(.vmsa, 0xFFFF_FFFF_F000, page)
        }
        return digest.value
    }

    /// The digest after the pages of `firmware` alone.
    public static func firmwareOnly(_ firmware: [UInt8]) throws(Finding) -> [UInt8] {
        let ovmf = try SEVFirmware(firmware, endingAt: 1 << 32)
        var digest = LaunchDigest()
        digest.addNormal(firmware, at: ovmf.start)
        return digest.value
    }

    /// The digest of a QEMU launch with a COCONUT-SVSM below the firmware and its variables.
    ///
    /// - Parameter variablesSize: bytes of the variable store between them.
    public static func svsm(
        firmware: [UInt8], svsm: [UInt8], variablesSize: Int, vcpus: Int, vcpuSignature: UInt32
    ) throws(Finding) -> [UInt8] {
        let ovmf = try SEVFirmware(firmware, endingAt: 1 << 32)
        guard variablesSize >= 0, UInt64(variablesSize) < ovmf.start else {
            throw SEVFirmware.unusable("size of the variable store", "\(variablesSize)")
        }
        let monitor = try SEVFirmware(svsm, endingAt: ovmf.start - UInt64(variablesSize))
        let entry = monitor.start &+ UInt64(try monitor.required(FirmwareTable.svsmInfo, "SVSM launch offset"))
        var digest = LaunchDigest()
        digest.addNormal(firmware, at: ovmf.start)
        digest.addNormal(svsm, at: monitor.start)
        try digest.addMetadata(monitor, nil, host: .qemu)
        for _ in 0..<(try checkedCount(vcpus)) {
            digest.add(.vmsa, 0xFFFF_FFFF_F000, SaveArea.svsmPage(entry: entry, signature: vcpuSignature))
        }
        return digest.value
    }

    private static func checkedCount(_ vcpus: Int) throws(Finding) -> Int {
        guard (1...maximumVCPUs).contains(vcpus) else {
            throw SEVFirmware.unusable("vcpus", "\(vcpus), must be 1 to \(maximumVCPUs)")
        }
        return vcpus
    }

    /// The pages that the firmware's metadata asks for.
    private mutating func addMetadata(
        _ firmware: SEVFirmware, _ kernel: KernelHashes?, host: Host
    ) throws(Finding) {
        for section in firmware.sections {
            let pages = section.size / Self.pageSize
            switch section.type {
            case .secureMemory: addPages(host == .gce ? .unmeasured : .zero, section.gpa, count: pages)
            case .callingArea: addPages(.zero, section.gpa, count: pages)
            case .secrets: add(.secrets, section.gpa)
            // EC2 inserts the CPUID page when everything else is there.
            case .cpuid where host != .ec2: add(.cpuid, section.gpa)
            case .cpuid: break
            case .kernelHashes:
                if let kernel {
                    addNormal(try kernel.page(at: firmware.kernelHashesAddress), at: section.gpa)
                } else {
                    addPages(.zero, section.gpa, count: pages)
                }
            }
        }
        if host == .ec2 {
            for section in firmware.sections where section.type == .cpuid { add(.cpuid, section.gpa) }
        }
        if kernel != nil && !firmware.sections.contains(where: { $0.type == .kernelHashes }) {
            throw KernelHashes.noSection
        }
    }
}
