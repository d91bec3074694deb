import Bytes

/// The headers of a PE/COFF image (Microsoft PE format; UEFI 2.10 §2.1.1), strict and bounded.
///
/// Contents are never loaded: callers get ranges and sources, and hash with what they like.
public struct PEImage: Sendable {
    public let source: ByteSource
    public let sections: [Section]
    /// Bytes of headers at the start of the file.
    public let sizeOfHeaders: Int
    /// Bytes that the loaded image takes.
    public let sizeOfImage: Int
    /// Offset of the optional header's CheckSum.
    let checksumOffset: Int
    /// Offset of the certificate table's directory entry; `nil` where the header has no such entry.
    let certificateEntryOffset: Int?
    /// The attribute certificate table, always the end of the file; `nil` where the image is not signed.
    public let certificates: Range<Int>?

    /// One row of the section table.
    public struct Section: Sendable, Equatable {
        /// Up to eight bytes without the padding; bytes that are not ASCII show as `?`.
        public let name: String
        public let virtualSize: Int
        public let virtualAddress: Int
        public let rawSize: Int
        public let rawOffset: Int
        /// Offset of this row in the file.
        public let headerOffset: Int
    }

    /// Rows a section table may have; a UKI with many profiles stays far below.
    static let maximumSections = 1024
    /// Largest image that is loaded, 2 GiB: beyond, sizes are nonsense.
    static let maximumImage = 1 << 31

    public init(_ source: ByteSource) throws(ParseError) {
        self.source = source
        guard try source.read(at: 0, count: 2, "MZ") == Array("MZ".utf8) else {
            throw ParseError("form", field: "MZ", offset: 0, "not a PE image")
        }
        var reader = ByteReader(try source.read(at: 0x3C, count: 4, "e_lfanew"), base: 0x3C)
        let start = Int(try reader.le(UInt32.self, "e_lfanew"))
        reader = ByteReader(try source.read(at: start, count: 24, "COFF header"), base: start)
        guard try reader.take(4, "PE signature") == Array("PE\0\0".utf8) else {
            throw ParseError("form", field: "PE signature", offset: start, "not PE")
        }
        try reader.skip(2, "Machine")
        let sectionCount = Int(try reader.le(UInt16.self, "NumberOfSections"))
        try reader.skip(12, "COFF header")
        let optionalSize = Int(try reader.le(UInt16.self, "SizeOfOptionalHeader"))
        guard sectionCount <= Self.maximumSections else {
            throw ParseError("range", field: "NumberOfSections", offset: start + 6, "\(sectionCount) sections")
        }

        let optional = try OptionalHeader(source, at: start + 24, size: optionalSize)
        sizeOfHeaders = optional.sizeOfHeaders
        sizeOfImage = optional.sizeOfImage
        checksumOffset = optional.checksumOffset
        certificateEntryOffset = optional.certificateEntryOffset
        certificates = optional.certificates

        let tableOffset = start + 24 + optionalSize
        guard tableOffset + sectionCount * 40 <= sizeOfHeaders else {
            throw ParseError(
                "length", field: "SizeOfHeaders", offset: tableOffset, "ends before the section table does")
        }
        reader = ByteReader(
            try source.read(at: tableOffset, count: sectionCount * 40, "section table"), base: tableOffset)
        var sections: [Section] = []
        for _ in 0..<sectionCount { sections.append(try Self.section(&reader, optional, fileSize: source.count)) }
        self.sections = sections
    }

    private static func section(
        _ reader: inout ByteReader, _ optional: OptionalHeader, fileSize: Int
    ) throws(ParseError) -> Section {
        let offset = reader.offset
        let name = try reader.take(8, "Name").prefix { $0 != 0 }
        let virtualSize = Int(try reader.le(UInt32.self, "VirtualSize"))
        let virtualAddress = Int(try reader.le(UInt32.self, "VirtualAddress"))
        let rawSize = Int(try reader.le(UInt32.self, "SizeOfRawData"))
        let rawOffset = Int(try reader.le(UInt32.self, "PointerToRawData"))
        try reader.skip(16, "section header")
        guard rawSize == 0 || (rawOffset >= optional.sizeOfHeaders && rawOffset + rawSize <= fileSize) else {
            throw ParseError(
                "range", field: "PointerToRawData", offset: offset + 20,
                "\(rawSize) bytes at \(rawOffset), the file has \(fileSize)")
        }
        guard virtualAddress + virtualSize <= optional.sizeOfImage else {
            throw ParseError(
                "range", field: "VirtualAddress", offset: offset + 12,
                "\(virtualSize) bytes at \(virtualAddress), the image has \(optional.sizeOfImage)")
        }
        return Section(
            name: String(decoding: name.map { $0 > 0x20 && $0 < 0x7F ? $0 : UInt8(ascii: "?") }, as: UTF8.self),
            virtualSize: virtualSize, virtualAddress: virtualAddress, rawSize: rawSize, rawOffset: rawOffset,
            headerOffset: offset)
    }

    /// A section as it lies in memory once loaded: `VirtualSize` bytes, zeros where the file has fewer.
    public func contents(of section: Section) throws(ParseError) -> ByteSource {
        let present = min(section.rawSize, section.virtualSize)
        return try source.slice(at: section.rawOffset, count: present, section.name).resized(to: section.virtualSize)
    }
}

/// The parts of the optional header that measuring needs.
struct OptionalHeader {
    let checksumOffset: Int
    let sizeOfImage: Int
    let sizeOfHeaders: Int
    let certificateEntryOffset: Int?
    let certificates: Range<Int>?

    init(_ source: ByteSource, at start: Int, size: Int) throws(ParseError) {
        var reader = ByteReader(try source.read(at: start, count: size, "optional header"), base: start)
        let magic = try reader.le(UInt16.self, "Magic")
        guard magic == 0x10B || magic == 0x20B else {
            throw ParseError("version", field: "Magic", offset: start, "neither PE32 nor PE32+")
        }
        try reader.skip(54, "optional header")
        sizeOfImage = Int(try reader.le(UInt32.self, "SizeOfImage"))
        sizeOfHeaders = Int(try reader.le(UInt32.self, "SizeOfHeaders"))
        checksumOffset = reader.offset
        try reader.skip(4, "CheckSum")
        try reader.skip(magic == 0x10B ? 24 : 40, "optional header")
        let directories = Int(try reader.le(UInt32.self, "NumberOfRvaAndSizes"))
        guard directories <= 16, directories * 8 <= reader.remaining else {
            throw ParseError("range", field: "NumberOfRvaAndSizes", offset: reader.offset - 4, "\(directories)")
        }
        guard sizeOfImage <= PEImage.maximumImage, sizeOfHeaders <= source.count, sizeOfHeaders >= start + size else {
            throw ParseError(
                "range", field: "SizeOfHeaders", offset: checksumOffset - 4,
                "\(sizeOfHeaders) bytes of headers, \(sizeOfImage) of image, \(source.count) of file")
        }

        guard directories > 4 else {
            (certificateEntryOffset, certificates) = (nil, nil)
            return
        }
        try reader.skip(32, "data directories")
        certificateEntryOffset = reader.offset
        let offset = Int(try reader.le(UInt32.self, "certificate table"))
        let length = Int(try reader.le(UInt32.self, "certificate table"))
        guard length > 0 else {
            certificates = nil
            return
        }
        // Firmware takes the table for the end of the file; anything else would hash other bytes than it does.
        guard offset >= sizeOfHeaders, offset + length == source.count else {
            throw ParseError(
                "range", field: "certificate table", offset: reader.offset - 8, "is not the end of the file")
        }
        certificates = offset..<offset + length
    }
}
