import Bytes

/// The volumes of an OVMF image that firmware measures into PCR 0 (UEFI PI 1.8 volume 3: firmware volumes §3.2, files
/// §3.2.3, sections §3.2.4): PEI and DXE volume, unpacked from the compressed main volume.
public struct FirmwareVolumes: Sendable {
    /// The PEI volume as it lies in the image.
    public let pei: [UInt8]
    public let dxe: [UInt8]
    /// PcdFirmwareVersionString, `nil` where it cannot be told from the image.
    public let version: String?
    /// Whether the DXE volume holds the Secure Boot driver.
    public let supportsSecureBoot: Bool
    /// Start of the variable store's volume, where the image contains one.
    public let variablesOffset: Int?

    private static let peiName: GUID = "6938079b-b503-4e3d-9d24-b28337a25806"
    private static let dxeName: GUID = "7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1"
    private static let lzma: GUID = "ee4e5898-3914-4259-9d6e-dc7bd79403cf"
    private static let tcg2: GUID = "a0c98b77-cba5-4bb8-993b-4af6ce33ece4"
    private static let secureBootConfiguration: GUID = "f0e6a44f-7195-41c3-ac64-54f202cd0a21"

    /// Largest image, and largest unpacked volume, that is read.
    static let maximumSize = 64 << 20

    public init(_ image: [UInt8]) throws(ParseError) {
        guard image.count <= Self.maximumSize else {
            throw ParseError("length", field: "firmware", offset: 0, "\(image.count) bytes")
        }
        var found: [GUID: [UInt8]] = [:]
        var variables: Int?
        var offset = 0
        while offset + 72 <= image.count {
            guard let volume = try FirmwareVolume(image, at: offset) else {
                offset += 4096
                continue
            }
            if volume.fileSystem == VariableStore.volumeGUID { variables = variables ?? offset }
            try Self.collect(volume, into: &found, depth: 0)
            offset += max(4096, volume.bytes.count)
        }
        guard let pei = found[Self.peiName], let dxe = found[Self.dxeName] else {
            throw ParseError("missing", field: "firmware", offset: 0, "no PEI and DXE volume: not an OVMF image")
        }
        self.pei = pei
        self.dxe = dxe
        variablesOffset = variables
        supportsSecureBoot = dxe.contains(sequence: Self.secureBootConfiguration.bytes)
        version = try Self.version(pei: pei, dxe: dxe)
    }

    /// Walks the files of `volume` down to the volumes inside them.
    private static func collect(
        _ volume: FirmwareVolume, into found: inout [GUID: [UInt8]], depth: Int
    ) throws(ParseError) {
        if let name = volume.name, found[name] == nil { found[name] = volume.bytes }
        // PEI and DXE volumes hold drivers only, and nothing below them is measured.
        guard depth < 4, volume.name != peiName, volume.name != dxeName else { return }
        for file in try volume.files() where file.type == 0x0B {
            try collect(sections: file.contents, into: &found, depth: depth)
        }
    }

    private static func collect(
        sections bytes: [UInt8], into found: inout [GUID: [UInt8]], depth: Int
    ) throws(ParseError) {
        for section in try FirmwareSection.all(bytes) {
            switch section.type {
            case 0x02 where section.guid == lzma:
                let unpacked = try LZMADecoder.decode(section.contents, limit: maximumSize)
                try collect(sections: unpacked, into: &found, depth: depth + 1)
            case 0x17:
                if let volume = try FirmwareVolume(section.contents, at: 0) {
                    try collect(volume, into: &found, depth: depth + 1)
                }
            default: break
            }
        }
    }

    /// The version string that Tcg2Pei measures: the one UTF-16 text in its executable that the DXE volume holds too
    /// (there it goes into SMBIOS).
    private static func version(pei: [UInt8], dxe: [UInt8]) throws(ParseError) -> String? {
        guard let volume = try FirmwareVolume(pei, at: 0),
            let file = try volume.files().first(where: { $0.name == tcg2 })
        else { return nil }
        var candidates: Set<String> = []
        for section in try FirmwareSection.all(file.contents) where section.type == 0x10 || section.type == 0x12 {
            for text in utf16Texts(section.contents) {
                // What looks like a first letter may be the end of an instruction before the text.
                for candidate in [text, String(text.dropFirst())]
                where candidate.count >= 3 && dxe.contains(sequence: littleEndian(Array(candidate.utf16)) + [0, 0]) {
                    candidates.insert(candidate)
                    break
                }
            }
        }
        return candidates.count == 1 ? candidates.first : nil
    }

    /// Runs of at least three printable ASCII characters in UTF-16LE that end in NUL, at any even or odd offset.
    private static func utf16Texts(_ bytes: [UInt8]) -> [String] {
        var texts: [String] = []
        var index = 0
        while index + 1 < bytes.count {
            var text: [UInt8] = []
            var end = index
            while end + 1 < bytes.count, (0x20..<0x7F).contains(bytes[end]), bytes[end + 1] == 0 {
                text.append(bytes[end])
                end += 2
            }
            let isEnded = end + 1 < bytes.count && bytes[end] == 0 && bytes[end + 1] == 0
            if text.count >= 3, isEnded {
                texts.append(String(decoding: text, as: UTF8.self))
                index = end
            } else {
                index += 1
            }
        }
        return texts
    }
}

extension FirmwareVolumes {
    /// The PEI volume as it stands in memory when it is measured on a Q35 machine.
    ///
    /// The PEI core runs in place, and the constructor of its timer library has stored the ACPI timer's port (PMBASE
    /// 0x600 + 8) before Tcg2Pei hashes the volume. `virt-fw-measure` does not know this; a TPM shows it.
    public var peiOnQ35: [UInt8] {
        guard let volume = try? FirmwareVolume(pei, at: 0),
            let core = try? volume.files().first(where: { $0.type == 0x04 })
        else { return pei }
        // mov dword [rip + displacement], 0x608
        let port: [UInt8] = [0x08, 0x06, 0, 0]
        var result = pei
        for index in core.offset..<max(core.offset, core.offset + core.size - 10)
        where pei[index] == 0xC7 && pei[index + 1] == 0x05 && Array(pei[index + 6..<index + 10]) == port {
            let displacement = pei[index + 2..<index + 6].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            let target = index + 10 + Int(Int32(bitPattern: displacement))
            guard target >= core.offset, target + 4 <= core.offset + core.size,
                pei[target..<target + 4].allSatisfy({ $0 == 0 })
            else { continue }
            result.replaceSubrange(target..<target + 4, with: port)
        }
        return result
    }

    /// PCR 0 on a Q35 machine without other firmware: version, both volumes, separator.
    public var events: [PredictedEvent]? {
        guard let version else { return nil }
        return [
            PredictedEvent(
                .tpm(0), .crtmVersion, "firmware version \(version)", littleEndian(Array(version.utf16)) + [0, 0]),
            PredictedEvent(.tpm(0), .firmwareBlob, "PEI firmware volume, as it runs on Q35", peiOnQ35),
            PredictedEvent(.tpm(0), .firmwareBlob, "DXE firmware volume", dxe),
            BootPrediction.separator(.tpm(0)),
        ]
    }
}

extension [UInt8] {
    /// Whether `other` stands anywhere in these bytes.
    func contains(sequence other: [UInt8]) -> Bool {
        guard let first = other.first, other.count <= count else { return false }
        var start = 0
        while let index = self[start...].firstIndex(of: first), index + other.count <= count {
            if self[index..<index + other.count].elementsEqual(other) { return true }
            start = index + 1
        }
        return false
    }
}
