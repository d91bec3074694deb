import Bytes
import Crypto

/// Event data decoded by type, for explanations and for claims about Secure Boot. Anything that does not decode is
/// `other`: firmware is free in much of this, and only digests are proof.
public enum EventData: Equatable, Sendable {
    /// UEFI_VARIABLE_DATA.
    case variable(UEFIVariable)
    /// UEFI_IMAGE_LOAD_EVENT: the device path of the image.
    case image(path: String)
    /// EFI_GUID'd disk and the number of partitions in a UEFI_GPT_DATA.
    case gpt(disk: String, partitions: Int)
    /// Text in ASCII or UTF-16.
    case text(String)
    /// TCG_PCClientTaggedEvent: identifier and text.
    case tagged(UInt32, String)
    /// The value of a separator.
    case separator(UInt32)
    case other

    public init(_ event: EventLog.Event) {
        self = (try? Self.decode(event)) ?? .other
    }

    private static func decode(_ event: EventLog.Event) throws(ParseError) -> EventData {
        let data = event.data
        var reader = ByteReader(data)
        switch event.type {
        case .separator:
            guard data.count == 4 else { return text(data).map { .text($0) } ?? .other }
            return .separator(try reader.le(UInt32.self, "separator"))
        case .variableDriverConfig, .variableBoot, .variableBoot2, .variableAuthority:
            return .variable(try UEFIVariable(parsing: data))
        case .bootServicesApplication, .bootServicesDriver, .runtimeServicesDriver:
            try reader.skip(24, "UEFI_IMAGE_LOAD_EVENT")
            let length = try reader.le(UInt64.self, "UEFI_IMAGE_LOAD_EVENT.LengthOfDevicePath")
            let path = try reader.take(Int(clamping: length), "UEFI_IMAGE_LOAD_EVENT.DevicePath")
            return .image(path: try DevicePath.text(path))
        case .gptEvent:
            try reader.skip(56, "UEFI_PARTITION_TABLE_HEADER")
            let disk = GUID.text(try reader.take(16, "DiskGUID"))
            try reader.skip(20, "UEFI_PARTITION_TABLE_HEADER")
            let count = try reader.le(UInt64.self, "NumberOfPartitions")
            guard count <= 1024, reader.remaining == Int(count) * 128 else { return .other }
            return .gpt(disk: disk, partitions: Int(count))
        case .eventTag:
            let tag = try reader.le(UInt32.self, "taggedEventID")
            let size = try reader.le(UInt32.self, "taggedEventDataSize")
            let text = text(try reader.take(Int(clamping: size), "taggedEventData"))
            return .tagged(tag, text ?? "")
        case .ipl, .action, .efiAction, .crtmVersion, .compactHash:
            return text(data).map { .text($0) } ?? .other
        default: return .other
        }
    }

    /// Printable text in UTF-16LE or UTF-8, with or without a terminator; `nil` for anything else.
    static func text(_ data: [UInt8]) -> String? {
        guard !data.isEmpty, data.count <= 1 << 16 else { return nil }
        if data.count >= 4, data.count.isMultiple(of: 2), data[1] == 0, data[3] == 0 { return UTF16.text(data) }
        let trimmed = data.reversed().drop { $0 == 0 }.reversed()
        guard let text = String(validating: trimmed, as: UTF8.self), isPrintable(text) else { return nil }
        return text
    }

    static func isPrintable(_ text: String) -> Bool {
        !text.isEmpty && text.unicodeScalars.allSatisfy { $0.value >= 0x20 && $0.value != 0x7F && $0.value < 0xE000 }
    }
}

/// UEFI_VARIABLE_DATA (PFP §10.4.2): what a measured UEFI variable was called and held.
public struct UEFIVariable: Equatable, Sendable {
    /// Registry form, lower case.
    public let guid: String
    public let name: String
    public let value: [UInt8]

    /// Vendor GUID of SecureBoot, PK, KEK, BootOrder.
    public static let globalGUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"

    public init(parsing data: [UInt8]) throws(ParseError) {
        var reader = ByteReader(data)
        guid = GUID.text(try reader.take(16, "UEFI_VARIABLE_DATA.VariableName"))
        let nameLength = try reader.le(UInt64.self, "UEFI_VARIABLE_DATA.UnicodeNameLength")
        let valueLength = try reader.le(UInt64.self, "UEFI_VARIABLE_DATA.VariableDataLength")
        guard nameLength <= 1024 else {
            throw ParseError(
                "range", field: "UEFI_VARIABLE_DATA.UnicodeNameLength", offset: 16, "\(nameLength) characters")
        }
        let units = try reader.take(Int(nameLength) * 2, "UEFI_VARIABLE_DATA.UnicodeName")
        name = UTF16.text(units) ?? ""
        value = try reader.take(Int(clamping: valueLength), "UEFI_VARIABLE_DATA.VariableData")
        try reader.end("UEFI_VARIABLE_DATA")
    }

    /// The firmware's own Secure Boot state variable.
    public var isSecureBoot: Bool { guid == Self.globalGUID && name == "SecureBoot" }
}

/// Mixed-endian GUIDs of UEFI.
enum GUID {
    static func text(_ bytes: [UInt8]) -> String {
        guard bytes.count == 16 else { return "" }
        let order = [3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15]
        return order.map { $0 < 0 ? "-" : Hex.encode([bytes[$0]]) }.joined()
    }
}

/// UTF-16LE text.
enum UTF16 {
    /// Without its terminator; `nil` when malformed or not printable.
    static func text(_ bytes: [UInt8]) -> String? {
        var units: [UInt16] = []
        var reader = ByteReader(bytes)
        while !reader.isAtEnd {
            guard let unit = try? reader.le(UInt16.self, "UTF-16") else { return nil }
            units.append(unit)
        }
        while units.last == 0 { units.removeLast() }
        guard let text = String(validating: units, as: Unicode.UTF16.self), EventData.isPrintable(text) else {
            return nil
        }
        return text
    }
}
