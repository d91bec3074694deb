import Bytes
import Crypto

/// What an OVMF (or SVSM) image says about its SEV launch (edk2 `OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm`).
struct SEVFirmware {
    struct Section {
        let gpa: UInt64
        let size: Int
        let type: SectionType
    }

    enum SectionType: UInt32 {
        case secureMemory = 1
        case secrets, cpuid, callingArea
        case kernelHashes = 0x10
    }

    /// Guest-physical address of the first byte.
    let start: UInt64
    let sections: [Section]
    private let table: FirmwareTable

    /// Largest image that is launched.
    static let maximumSize = 64 << 20
    /// Memory that all sections together may ask for.
    private static let maximumSectionMemory = 1 << 30

    init(_ image: [UInt8], endingAt end: UInt64) throws(Finding) {
        guard !image.isEmpty, image.count <= Self.maximumSize, image.count.isMultiple(of: LaunchDigest.pageSize),
            UInt64(image.count) <= end
        else { throw Self.unusable("firmware", "\(image.count) bytes, must be whole pages up to 64 MiB") }
        start = end - UInt64(image.count)
        do throws(ParseError) {
            table = try FirmwareTable(image)
            sections = try Self.sections(table)
        } catch { throw error.finding }
    }

    private static func sections(_ table: FirmwareTable) throws(ParseError) -> [Section] {
        guard var reader = try table.reader(at: FirmwareTable.sevMetadata, "SEV metadata") else { return [] }
        let start = reader.offset
        guard try reader.take(4, "SEV metadata signature") == Array("ASEV".utf8) else {
            throw ParseError("form", field: "SEV metadata signature", offset: start, "not ASEV")
        }
        let size = Int(try reader.le(UInt32.self, "SEV metadata size"))
        guard try reader.le(UInt32.self, "SEV metadata version") == 1 else {
            throw ParseError("version", field: "SEV metadata version", offset: start + 8, "not 1")
        }
        let count = Int(try reader.le(UInt32.self, "SEV metadata count"))
        guard count <= 256, size >= 16 + 12 * count else {
            throw ParseError("length", field: "SEV metadata count", offset: start + 12, "\(count) in \(size) bytes")
        }
        var memory = 0
        var sections: [Section] = []
        for _ in 0..<count {
            let offset = reader.offset
            let gpa = try reader.le(UInt32.self, "section address")
            let size = Int(try reader.le(UInt32.self, "section size"))
            let raw = try reader.le(UInt32.self, "section type")
            guard let type = SectionType(rawValue: raw) else {
                throw ParseError("version", field: "section type", offset: offset + 8, "type \(raw) is not known")
            }
            memory += size
            guard size.isMultiple(of: LaunchDigest.pageSize), memory <= maximumSectionMemory else {
                throw ParseError("range", field: "section size", offset: offset + 4, "\(size) bytes")
            }
            sections.append(Section(gpa: UInt64(gpa), size: size, type: type))
        }
        return sections
    }

    /// Where the table of kernel hashes goes; 0 or `nil` where the firmware takes none.
    var kernelHashesAddress: UInt32? {
        get throws(Finding) {
            do throws(ParseError) { return try table.word(FirmwareTable.kernelHashes) } catch { throw error.finding }
        }
    }

    /// The value of an entry without which there is no launch.
    func required(_ name: GUID, _ field: String) throws(Finding) -> UInt32 {
        let word: UInt32?
        do throws(ParseError) { word = try table.word(name) } catch { throw error.finding }
        guard let word else { throw Self.unusable("firmware", "has no \(field)") }
        return word
    }

    static func unusable(_ claim: String, _ actual: String) -> Finding {
        Finding("parse-range", claim: claim, actual: actual, source: "SEV launch")
    }
}

/// Hashes of a directly booted kernel, as QEMU hands them to OVMF in a measured page (QEMU `target/i386/sev.c`).
public struct KernelHashes: Sendable {
    private let kernel: [UInt8]
    private let initrd: [UInt8]
    private let commandLine: [UInt8]

    /// - Parameter append: without NUL; the hash covers it.
    public init(kernel: ByteSource, initrd: ByteSource?, append: String) throws(ParseError) {
        self.kernel = try kernel.digests([.sha256])[.sha256] ?? []
        self.initrd = try (initrd ?? ByteSource([])).digests([.sha256])[.sha256] ?? []
        commandLine = HashAlgorithm.sha256.hash(Array(append.utf8) + [0])
    }

    static let noSection = Finding(
        "no-kernel-hashes-section", claim: "firmware", expected: "a section for kernel hashes", actual: "none",
        source: "SEV metadata of the firmware", next: "use a firmware built for direct boot (AmdSev), or no kernel")

    /// The table, padded to 16 bytes.
    var table: [UInt8] {
        var writer = ByteWriter()
        let entries: [(GUID, [UInt8])] = [
            ("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", commandLine), ("44baf731-3a2f-4bd7-9af1-41e29169781d", initrd),
            ("4de79437-abd2-427f-b835-d5b172d2045b", kernel),
        ]
        writer.append(("9438d606-4f22-4cc9-b479-a793d411fd21" as GUID).bytes)
        writer.le(UInt16(18 + entries.count * 50))
        for (name, hash) in entries {
            writer.append(name.bytes)
            writer.le(UInt16(50))
            writer.append(hash)
        }
        writer.pad(to: 16)
        return writer.bytes
    }

    /// The page with the table where the firmware expects it.
    func page(at address: UInt32?) throws(Finding) -> [UInt8] {
        guard let address, address != 0 else { throw Self.noSection }
        let table = table
        let offset = Int(address % UInt32(LaunchDigest.pageSize))
        guard offset + table.count <= LaunchDigest.pageSize else {
            throw SEVFirmware.unusable("address of the kernel hashes", "the table crosses a page")
        }
        return [UInt8](repeating: 0, count: offset) + table
            + [UInt8](repeating: 0, count: LaunchDigest.pageSize - offset - table.count)
    }
}
