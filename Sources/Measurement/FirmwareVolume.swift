import Bytes

/// One firmware volume (UEFI PI 1.8 volume 3 §3.2.1) within a larger image.
struct FirmwareVolume {
    /// The whole volume, header included.
    let bytes: [UInt8]
    let fileSystem: GUID
    /// FvName of the extended header.
    let name: GUID?
    private let firstFile: Int

    private static let fileSystems: Set<GUID> = [
        "8c8ce578-8a3d-4f1c-9935-896185c32dd3", "5473c07a-3dcb-4dca-bd6f-1e9689e7349a",
    ]

    /// A file of a volume.
    struct File {
        let name: GUID
        let type: UInt8
        /// Where it starts in the volume, header included, and how long it is.
        let offset: Int
        let size: Int
        let contents: [UInt8]
    }

    /// `nil` where no volume starts at `offset`.
    init?(_ image: [UInt8], at offset: Int) throws(ParseError) {
        guard offset >= 0, offset + 56 <= image.count, Array(image[offset + 40..<offset + 44]) == Array("_FVH".utf8)
        else { return nil }
        var reader = ByteReader(Array(image[offset..<offset + 56]), base: offset)
        try reader.skip(16, "ZeroVector")
        fileSystem = try GUID(&reader, "FileSystemGuid")
        let length = try reader.le(UInt64.self, "FvLength")
        try reader.skip(8, "Signature")
        let headerLength = Int(try reader.le(UInt16.self, "HeaderLength"))
        try reader.skip(2, "Checksum")
        let extended = Int(try reader.le(UInt16.self, "ExtHeaderOffset"))
        guard length <= UInt64(image.count - offset), headerLength >= 56, headerLength <= Int(length) else {
            throw ParseError("length", field: "FvLength", offset: offset + 32, "\(length) bytes")
        }
        bytes = Array(image[offset..<offset + Int(length)])
        guard extended > 0 else {
            (name, firstFile) = (nil, headerLength)
            return
        }
        guard extended + 20 <= bytes.count else {
            throw ParseError("range", field: "ExtHeaderOffset", offset: offset + 52, "\(extended)")
        }
        reader = ByteReader(Array(bytes[extended..<extended + 20]), base: offset + extended)
        name = try GUID(&reader, "FvName")
        let size = Int(try reader.le(UInt32.self, "ExtHeaderSize"))
        firstFile = extended + size
    }

    /// The files, in order; none where the volume is of another file system.
    func files() throws(ParseError) -> [File] {
        guard Self.fileSystems.contains(fileSystem) else { return [] }
        var files: [File] = []
        var offset = (firstFile + 7) / 8 * 8
        while offset + 24 <= bytes.count {
            var reader = ByteReader(Array(bytes[offset..<min(bytes.count, offset + 32)]), base: offset)
            let name = try GUID(&reader, "file name")
            try reader.skip(2, "IntegrityCheck")
            let type = try reader.u8("Type")
            let attributes = try reader.u8("Attributes")
            let small = try reader.take(3, "Size")
            try reader.skip(1, "State")
            // Pad files are named by erased bytes too; a header that is erased throughout is free space.
            if type == 0xFF, small == [0xFF, 0xFF, 0xFF] { break }
            var size = Int(small[0]) | Int(small[1]) << 8 | Int(small[2]) << 16
            var header = 24
            if attributes & 1 != 0 {
                size = Int(clamping: try reader.le(UInt64.self, "ExtendedSize"))
                header = 32
            }
            guard size >= header, size <= bytes.count - offset else {
                throw ParseError("length", field: "file size", offset: offset + 20, "\(size) bytes")
            }
            files.append(
                File(
                    name: name, type: type, offset: offset, size: size,
                    contents: Array(bytes[offset + header..<offset + size])))
            offset = (offset + size + 7) / 8 * 8
        }
        return files
    }
}

/// One section of a firmware file (UEFI PI 1.8 volume 3 §3.2.4).
struct FirmwareSection {
    let type: UInt8
    /// Of GUID-defined sections.
    let guid: GUID?
    let contents: [UInt8]

    /// All sections of a file or of an unpacked section, each aligned to four bytes.
    static func all(_ bytes: [UInt8]) throws(ParseError) -> [FirmwareSection] {
        var sections: [FirmwareSection] = []
        var offset = 0
        while offset + 4 <= bytes.count {
            var reader = ByteReader(Array(bytes[offset..<min(bytes.count, offset + 28)]), base: offset)
            let small = try reader.take(3, "section size")
            let type = try reader.u8("section type")
            var size = Int(small[0]) | Int(small[1]) << 8 | Int(small[2]) << 16
            var header = 4
            if size == 0xFF_FFFF {
                size = Int(try reader.le(UInt32.self, "ExtendedSize"))
                header = 8
            }
            var guid: GUID?
            if type == 0x02 {
                guid = try GUID(&reader, "SectionDefinitionGuid")
                header = Int(try reader.le(UInt16.self, "DataOffset"))
            }
            guard size >= header, header >= 4, size <= bytes.count - offset else {
                throw ParseError("length", field: "section size", offset: offset, "\(size) bytes")
            }
            sections.append(
                FirmwareSection(type: type, guid: guid, contents: Array(bytes[offset + header..<offset + size])))
            offset = (offset + size + 3) / 4 * 4
        }
        return sections
    }
}
