import Bytes

/// The UEFI variables in a firmware's non-volatile store (edk2 `MdeModulePkg/Include/Guid/VariableFormat.h`; firmware
/// volume header: UEFI PI 1.8 volume 3 §3.2.1).
public struct VariableStore: Sendable {
    public struct Variable: Sendable, Equatable {
        public let name: String
        public let vendor: GUID
        public let attributes: UInt32
        public let data: [UInt8]
    }

    public let variables: [Variable]

    static let volumeGUID: GUID = "fff12b8d-7696-4c8b-a985-2747075b4f50"
    static let authenticatedGUID: GUID = "aaf32c78-947b-439a-a180-2e144ec37792"
    /// Largest store that is read.
    static let maximumSize = 16 << 20

    /// - Parameter bytes: a variables file (`OVMF_VARS.fd`) or a whole firmware image that starts with one.
    public init(_ bytes: [UInt8]) throws(ParseError) {
        let (start, end) = try Self.volume(bytes)
        var reader = ByteReader(Array(bytes[start..<end]), base: start)
        guard try GUID(&reader, "VARIABLE_STORE_HEADER.Signature") == Self.authenticatedGUID else {
            throw ParseError(
                "form", field: "VARIABLE_STORE_HEADER.Signature", offset: start, "not an authenticated variable store")
        }
        let size = Int(try reader.le(UInt32.self, "VARIABLE_STORE_HEADER.Size"))
        guard try reader.u8("VARIABLE_STORE_HEADER.Format") == 0x5A,
            try reader.u8("VARIABLE_STORE_HEADER.State") == 0xFE
        else {
            throw ParseError("form", field: "VARIABLE_STORE_HEADER", offset: start + 20, "not formatted or not healthy")
        }
        try reader.zeros(6, "VARIABLE_STORE_HEADER.Reserved")
        guard size >= 28, size <= end - start else {
            throw ParseError("length", field: "VARIABLE_STORE_HEADER.Size", offset: start + 16, "\(size) bytes")
        }
        var body = try reader.sub(size - 28, "variables")
        variables = try Self.parse(&body)
    }

    /// First and last byte of the variable store within `bytes`, from the volume's header.
    private static func volume(_ bytes: [UInt8]) throws(ParseError) -> (start: Int, end: Int) {
        guard bytes.count <= maximumSize else {
            throw ParseError("length", field: "variable store", offset: 0, "\(bytes.count) bytes")
        }
        var reader = ByteReader(bytes)
        try reader.zeros(16, "ZeroVector")
        guard try GUID(&reader, "FileSystemGuid") == volumeGUID else {
            throw ParseError("form", field: "FileSystemGuid", offset: 16, "not a volume of variables")
        }
        let length = try reader.le(UInt64.self, "FvLength")
        guard try reader.take(4, "Signature") == Array("_FVH".utf8) else {
            throw ParseError("form", field: "Signature", offset: 40, "not _FVH")
        }
        try reader.skip(4, "Attributes")
        let headerLength = Int(try reader.le(UInt16.self, "HeaderLength"))
        guard length <= UInt64(bytes.count), headerLength >= 56, headerLength.isMultiple(of: 2),
            headerLength < Int(length)
        else { throw ParseError("length", field: "FvLength", offset: 32, "\(length) bytes of \(bytes.count)") }
        var sum: UInt16 = 0
        for index in stride(from: 0, to: headerLength, by: 2) {
            sum &+= UInt16(bytes[index]) | UInt16(bytes[index + 1]) << 8
        }
        guard sum == 0 else {
            throw ParseError("checksum", field: "Checksum", offset: 50, "the header does not sum to 0")
        }
        return (headerLength, Int(length))
    }

    /// AUTHENTICATED_VARIABLE_HEADERs, each followed by name and data, aligned to four bytes, until something else.
    private static func parse(_ reader: inout ByteReader) throws(ParseError) -> [Variable] {
        var added: [Variable] = []
        var inTransition: [Variable] = []
        while reader.remaining >= 60 {
            let offset = reader.offset
            let start = try reader.le(UInt16.self, "StartId")
            // Free space is erased flash.
            if start == 0xFFFF { break }
            guard start == 0x55AA else { throw ParseError("form", field: "StartId", offset: offset, "not 55AA") }
            let state = try reader.u8("State")
            try reader.skip(1, "Reserved")
            let attributes = try reader.le(UInt32.self, "Attributes")
            try reader.skip(8 + 16 + 4, "authentication")
            let nameSize = Int(try reader.le(UInt32.self, "NameSize"))
            let dataSize = Int(try reader.le(UInt32.self, "DataSize"))
            let vendor = try GUID(&reader, "VendorGuid")
            let name = try reader.take(nameSize, "name")
            let data = try reader.take(dataSize, "data")
            let excess = (reader.offset - offset) % 4
            if excess != 0 { try reader.skip(min(4 - excess, reader.remaining), "padding") }

            // VAR_ADDED, or VAR_ADDED being replaced; everything else is deleted or was never finished.
            guard state == 0x3F || state == 0x3E else { continue }
            let units = stride(from: 0, to: name.count - name.count % 2, by: 2).map {
                UInt16(name[$0]) | UInt16(name[$0 + 1]) << 8
            }
            guard nameSize.isMultiple(of: 2), units.last == 0,
                let text = String(validating: units.dropLast(), as: UTF16.self)
            else { throw ParseError("form", field: "name", offset: offset + 60, "not UTF-16 with a NUL") }
            let variable = Variable(name: text, vendor: vendor, attributes: attributes, data: data)
            if state == 0x3F { added.append(variable) } else { inTransition.append(variable) }
        }
        let replaced = inTransition.filter { old in
            !added.contains { $0.name == old.name && $0.vendor == old.vendor }
        }
        return added + replaced
    }

    /// The data of a variable; `nil` where it is not in the store.
    public subscript(name: String, vendor: GUID) -> [UInt8]? {
        variables.first { $0.name == name && $0.vendor == vendor }?.data
    }
}
