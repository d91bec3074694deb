import Bytes

/// UEFI device paths (UEFI §10.3) in the shell's textual form, as far as boot logs use them.
enum DevicePath {
    static let maximumNodes = 64

    /// Nodes joined by `/`; a node of a kind not known here shows as `Path(type,subtype)`.
    static func text(_ bytes: [UInt8]) throws(ParseError) -> String {
        var reader = ByteReader(bytes)
        var nodes: [String] = []
        while !reader.isAtEnd {
            guard nodes.count < maximumNodes else {
                throw ParseError(
                    "limit", field: "EFI_DEVICE_PATH", offset: reader.offset, "more than \(maximumNodes) nodes")
            }
            let offset = reader.offset
            let type = try reader.u8("EFI_DEVICE_PATH.Type")
            let subtype = try reader.u8("EFI_DEVICE_PATH.SubType")
            let length = try reader.le(UInt16.self, "EFI_DEVICE_PATH.Length")
            guard length >= 4 else {
                throw ParseError("range", field: "EFI_DEVICE_PATH.Length", offset: offset + 2, "\(length) bytes")
            }
            let body = try reader.take(Int(length) - 4, "EFI_DEVICE_PATH")
            if type == 0x7F { break }
            nodes.append((try? node(type, subtype, body)) ?? "Path(\(type),\(subtype))")
        }
        return nodes.joined(separator: "/")
    }

    private static func node(_ type: UInt8, _ subtype: UInt8, _ body: [UInt8]) throws(ParseError) -> String {
        var reader = ByteReader(body)
        switch (type, subtype) {
        case (1, 1):
            let function = try reader.u8("Pci.Function")
            return "Pci(0x\(hex(try reader.u8("Pci.Device"))),0x\(hex(function)))"
        case (1, 3):
            let kind = try reader.le(UInt32.self, "MemoryMapped.Type")
            let start = try reader.le(UInt64.self, "MemoryMapped.Start")
            return
                "MemoryMapped(0x\(hex(kind)),0x\(hex(start)),0x\(hex(try reader.le(UInt64.self, "MemoryMapped.End"))))"
        case (1, 4): return "VenHw(\(GUID.text(try reader.take(16, "VenHw.Guid"))))"
        case (2, 1):
            let identifier = try reader.le(UInt32.self, "Acpi.HID")
            let unique = try reader.le(UInt32.self, "Acpi.UID")
            return identifier == 0x0A03_41D0
                ? "PciRoot(0x\(hex(unique)))" : "Acpi(0x\(hex(identifier)),0x\(hex(unique)))"
        case (3, 2):
            let target = try reader.le(UInt16.self, "Scsi.Target")
            return "Scsi(0x\(hex(target)),0x\(hex(try reader.le(UInt16.self, "Scsi.Lun"))))"
        case (3, 10): return "VenMsg(\(GUID.text(try reader.take(16, "VenMsg.Guid"))))"
        case (3, 18):
            let port = try reader.le(UInt16.self, "Sata.Port")
            return "Sata(0x\(hex(port)),0x\(hex(try reader.le(UInt16.self, "Sata.Multiplier"))))"
        case (3, 23):
            return "NVMe(0x\(hex(try reader.le(UInt32.self, "NVMe.Namespace"))))"
        case (4, 1):
            let partition = try reader.le(UInt32.self, "HD.Partition")
            try reader.skip(16, "HD.Extent")
            return "HD(\(partition),\(GUID.text(try reader.take(16, "HD.Signature"))))"
        case (4, 3): return "VenMedia(\(GUID.text(try reader.take(16, "VenMedia.Guid"))))"
        case (4, 4): return UTF16.text(body) ?? "File(?)"
        case (4, 6): return "FvFile(\(GUID.text(try reader.take(16, "FvFile.Guid"))))"
        case (4, 7): return "Fv(\(GUID.text(try reader.take(16, "Fv.Guid"))))"
        case (4, 8):
            try reader.skip(4, "Offset.Reserved")
            let start = try reader.le(UInt64.self, "Offset.Start")
            return "Offset(0x\(hex(start)),0x\(hex(try reader.le(UInt64.self, "Offset.End"))))"
        default: return "Path(\(type),\(subtype))"
        }
    }

    private static func hex(_ value: some FixedWidthInteger & UnsignedInteger) -> String { String(value, radix: 16) }
}
