import Bytes
import Crypto

/// MRTD of an Intel TDX guest: what the VMM adds to the trust domain before it runs (Intel TDX Module Base
/// Architecture, "TD Measurement"; edk2 `OvmfPkg/ResetVector/X64/IntelTdxMetadata.asm`).
public enum TrustDomainMeasurement {
    /// In which order the VMM adds pages and measures their contents.
    public enum Order: String, CaseIterable, Sendable {
        /// Page by page: upstream KVM with QEMU 9 or newer, Google.
        case onePass = "one-pass"
        /// All pages of a section, then all contents: QEMU with the patches of its days of version 8.
        case twoPass = "two-pass"
    }

    private struct Section {
        let dataOffset: Int
        let rawSize: Int
        let address: UInt64
        let memorySize: Int
        let isMeasured: Bool
        let isAugmented: Bool
    }

    private static let pageSize = 4096
    private static let chunkSize = 256
    /// Memory that all sections together may take.
    private static let maximumMemory = 1 << 30

    /// - Parameter firmware: the combined image (`OVMF.fd`); data offsets refer to it.
    /// - Returns: `nil` where the image says nothing about TDX.
    public static func mrtd(_ firmware: [UInt8], order: Order) throws(ParseError) -> [UInt8]? {
        guard firmware.count <= 64 << 20 else {
            throw ParseError("length", field: "firmware", offset: 0, "\(firmware.count) bytes")
        }
        guard let sections = try sections(firmware) else { return nil }
        var digest = Digest(.sha384)
        for section in sections {
            let pages = section.isAugmented ? 0 : section.memorySize / pageSize
            for page in 0..<pages {
                digest.update(block("MEM.PAGE.ADD", section.address &+ UInt64(page * pageSize)))
                if section.isMeasured && order == .onePass { extend(&digest, page, section, firmware) }
            }
            guard section.isMeasured, order == .twoPass else { continue }
            for page in 0..<section.memorySize / pageSize { extend(&digest, page, section, firmware) }
        }
        return digest.finish()
    }

    /// TDH.MR.EXTEND for each 256 bytes of one page.
    private static func extend(_ digest: inout Digest, _ page: Int, _ section: Section, _ firmware: [UInt8]) {
        for offset in stride(from: page * pageSize, to: (page + 1) * pageSize, by: chunkSize) {
            digest.update(block("MR.EXTEND", section.address &+ UInt64(offset)))
            let present = max(0, min(chunkSize, section.rawSize - offset))
            if present > 0 {
                let start = section.dataOffset + offset
                digest.update(firmware[start..<start + present])
            }
            if present < chunkSize { digest.update([UInt8](repeating: 0, count: chunkSize - present)) }
        }
    }

    /// The 128 bytes that stand for one operation: its name, and the address at byte 16.
    private static func block(_ name: String, _ gpa: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(name.utf8)
        writer.zeros(16 - writer.bytes.count)
        writer.le(gpa)
        writer.pad(to: 128)
        return writer.bytes
    }

    private static func sections(_ firmware: [UInt8]) throws(ParseError) -> [Section]? {
        let table = try FirmwareTable(firmware)
        guard var reader = try table.reader(at: FirmwareTable.tdxMetadata, "TDX metadata") else { return nil }
        let start = reader.offset
        guard try reader.take(4, "TDX metadata signature") == Array("TDVF".utf8) else {
            throw ParseError("form", field: "TDX metadata signature", offset: start, "not TDVF")
        }
        let length = Int(try reader.le(UInt32.self, "TDX metadata length"))
        guard try reader.le(UInt32.self, "TDX metadata version") == 1 else {
            throw ParseError("version", field: "TDX metadata version", offset: start + 8, "not 1")
        }
        let count = Int(try reader.le(UInt32.self, "TDX metadata count"))
        guard count <= 256, length >= 16 + 32 * count else {
            throw ParseError("length", field: "TDX metadata count", offset: start + 12, "\(count) in \(length) bytes")
        }
        var memory = 0
        var sections: [Section] = []
        for _ in 0..<count {
            let offset = reader.offset
            let dataOffset = Int(try reader.le(UInt32.self, "data offset"))
            let rawSize = Int(try reader.le(UInt32.self, "raw data size"))
            let address = try reader.le(UInt64.self, "memory address")
            let size = try reader.le(UInt64.self, "memory size")
            let type = try reader.le(UInt32.self, "section type")
            let attributes = try reader.le(UInt32.self, "section attributes")
            guard attributes & ~3 == 0, type <= 6 else {
                throw ParseError(
                    "version", field: "section attributes", offset: offset + 24, "type \(type), \(attributes)")
            }
            let isAugmented = attributes & 2 != 0
            // Augmented memory is not measured and may be as large as it likes.
            let memorySize = isAugmented ? 0 : Int(clamping: size)
            memory = memory.addingReportingOverflow(memorySize).partialValue
            guard size.isMultiple(of: UInt64(pageSize)), memorySize <= maximumMemory, memory <= maximumMemory,
                rawSize == 0 || (dataOffset <= firmware.count && rawSize <= firmware.count - dataOffset),
                UInt64(rawSize) <= size
            else {
                throw ParseError("range", field: "section", offset: offset, "\(rawSize) bytes for \(size) of memory")
            }
            sections.append(
                Section(
                    dataOffset: dataOffset, rawSize: rawSize, address: address, memorySize: memorySize,
                    isMeasured: attributes & 1 != 0, isAugmented: isAugmented))
        }
        return sections
    }
}
