import Bytes
import Crypto

/// The initial VMSA page of a vCPU (AMD APM volume 2, table B-4).
enum SaveArea {
    private struct Segment {
        var selector: UInt16 = 0
        var attributes: UInt16
        var limit: UInt32 = 0xFFFF
        var base: UInt64 = 0
    }

    /// What the hosts set differently.
    private struct Registers {
        /// es, cs, ss, ds, fs, gs, gdtr, ldtr, idtr, tr: the order of the page.
        var segments: [Segment]
        var cr0: UInt64 = 0x10
        var rip: UInt64
        var pat: UInt64 = 0x0007_0406_0007_0406
        var rdx: UInt64
        var features: UInt64
        var mxcsr: UInt32
        var fcw: UInt16
    }

    /// - Parameters:
    ///   - isBoot: the first vCPU starts at the reset vector, the others at `apEntry`.
    ///   - signature: CPUID function 1 EAX; only QEMU's guests see it.
    static func page(
        isBoot: Bool, apEntry: UInt32, host: LaunchDigest.Host, signature: UInt32, features: UInt64
    ) -> [UInt8] {
        let entry: UInt32 = isBoot ? 0xFFFF_FFF0 : apEntry
        let isEC2 = host == .ec2
        let data = Segment(attributes: 0x93)
        let code = Segment(
            selector: 0xF000, attributes: isEC2 && entry == 0xFFFF_FFF0 ? 0x9A : 0x9B,
            base: UInt64(entry & 0xFFFF_0000))
        let none = Segment(attributes: 0)
        return page(
            Registers(
                segments: [
                    data, code, Segment(attributes: isEC2 ? 0x92 : 0x93), data, data, data, none,
                    Segment(attributes: 0x82), none, Segment(attributes: isEC2 ? 0x83 : 0x8B),
                ],
                rip: UInt64(entry & 0xFFFF), pat: host == .gce ? 0x0007_0106 : 0x0007_0406_0007_0406,
                rdx: host == .qemu ? UInt64(signature) : 0x600, features: features,
                mxcsr: host == .qemu ? 0x1F80 : 0, fcw: host == .qemu ? 0x37F : 0))
    }

    /// The VMSA of every vCPU that COCONUT-SVSM starts with: 32-bit protected mode, flat segments.
    static func svsmPage(entry: UInt64, signature: UInt32) -> [UInt8] {
        let data = Segment(selector: 16, attributes: 0xC93, limit: 0xFFFF_FFFF)
        let none = Segment(attributes: 0)
        return page(
            Registers(
                segments: [
                    data, Segment(selector: 8, attributes: 0xC9B, limit: 0xFFFF_FFFF), data, data, data,
                    Segment(attributes: 0x93), none, Segment(attributes: 0x82), none, Segment(attributes: 0x8B),
                ],
                cr0: 0x11, rip: entry, rdx: UInt64(signature), features: 1, mxcsr: 0x1F80, fcw: 0))
    }

    private static func page(_ registers: Registers) -> [UInt8] {
        var writer = ByteWriter()
        func seek(_ offset: Int) { writer.zeros(offset - writer.bytes.count) }
        for segment in registers.segments {
            writer.le(segment.selector)
            writer.le(segment.attributes)
            writer.le(segment.limit)
            writer.le(segment.base)
        }
        let words: [(Int, UInt64)] = [
            (0xD0, 0x1000),  // EFER
            (0x148, 0x40),  // CR4
            (0x158, registers.cr0),
            (0x160, 0x400),  // DR7
            (0x168, 0xFFFF_0FF0),  // DR6
            (0x170, 2),  // RFLAGS
            (0x178, registers.rip),
            (0x268, registers.pat),
            (0x310, registers.rdx),
            (0x3B0, registers.features),
            (0x3E8, 1),  // XCR0
        ]
        for (offset, value) in words {
            seek(offset)
            writer.le(value)
        }
        seek(0x408)
        writer.le(registers.mxcsr)
        seek(0x410)
        writer.le(registers.fcw)
        seek(LaunchDigest.pageSize)
        return writer.bytes
    }
}

extension LaunchDigest {
    /// CPUID function 1 EAX of QEMU's CPU models; `nil` for a name that is not one.
    public static func signature(ofType name: String) -> UInt32? {
        let models: [(names: [String], family: UInt32, model: UInt32, stepping: UInt32)] = [
            (["EPYC", "EPYC-v1", "EPYC-v2", "EPYC-IBPB", "EPYC-v3", "EPYC-v4", "EPYC-v5"], 23, 1, 2),
            (["EPYC-Rome", "EPYC-Rome-v1", "EPYC-Rome-v2", "EPYC-Rome-v3", "EPYC-Rome-v4", "EPYC-Rome-v5"], 23, 49, 0),
            (["EPYC-Milan", "EPYC-Milan-v1", "EPYC-Milan-v2", "EPYC-Milan-v3"], 25, 1, 1),
            (["EPYC-Genoa", "EPYC-Genoa-v1", "EPYC-Genoa-v2"], 25, 17, 0),
            (["EPYC-Turin", "EPYC-Turin-v1"], 26, 0, 0),
        ]
        guard let model = models.first(where: { $0.names.contains(name) }) else { return nil }
        return signature(family: model.family, model: model.model, stepping: model.stepping)
    }

    /// CPUID function 1 EAX (AMD APM volume 3, appendix E.3.2).
    public static func signature(family: UInt32, model: UInt32, stepping: UInt32) -> UInt32 {
        let base = min(family, 0xF)
        let extended = (family - base) & 0xFF
        return extended << 20 | (model >> 4 & 0xF) << 16 | base << 8 | (model & 0xF) << 4 | (stepping & 0xF)
    }

    /// Legacy SEV and SEV-ES launches: SHA-256 over firmware, kernel hashes and, for SEV-ES, the vCPUs' pages.
    public static func legacy(
        firmware: [UInt8], kernel: KernelHashes?, vcpus: Int?, host: Host, vcpuSignature: UInt32
    ) throws(Finding) -> [UInt8] {
        let ovmf = try SEVFirmware(firmware, endingAt: 1 << 32)
        var digest = Digest(.sha256)
        digest.update(firmware)
        if let kernel {
            guard let address = try ovmf.kernelHashesAddress, address != 0 else { throw KernelHashes.noSection }
            digest.update(kernel.table)
        }
        if let vcpus {
            guard (1...maximumVCPUs).contains(vcpus) else { throw SEVFirmware.unusable("vcpus", "\(vcpus)") }
            let entry = try ovmf.required(FirmwareTable.sevResetBlock, "SEV-ES reset block")
            for index in 0..<vcpus {
                digest.update(
                    SaveArea.page(isBoot: index == 0, apEntry: entry, host: host, signature: vcpuSignature, features: 0)
                )
            }
        }
        return digest.finish()
    }
}
