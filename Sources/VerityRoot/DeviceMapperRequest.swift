import Bytes

/// One request to `/dev/mapper/control`: `struct dm_ioctl` with at most one target behind it
/// (Linux `include/uapi/linux/dm-ioctl.h`, interface 4.0.0, which every later kernel answers).
///
/// | offset | size | field |
/// |--:|--:|---|
/// | 0 | 12 | version |
/// | 12 | 4 | size of the whole buffer |
/// | 16 | 4 | offset of the targets |
/// | 20 | 4 | number of targets |
/// | 28 | 4 | flags |
/// | 40 | 8 | device numbers (answer) |
/// | 48 | 128 | name |
/// | 176 | 129 | UUID |
/// | 312 | … | `struct dm_target_spec` (40 bytes), parameters, NUL, padding to 8 |
public struct DeviceMapperRequest: Equatable, Sendable {
    public static let headerSize = 312
    private static let readOnly: UInt32 = 1

    /// The buffer handed to the ioctl; the kernel answers in place.
    public let bytes: [UInt8]

    /// - Parameters:
    ///   - name: below 128 bytes.
    ///   - uuid: below 129 bytes; given when the device is created, empty afterwards.
    public init(name: String, uuid: String = "", table: VerityTable? = nil) throws(ParseError) {
        guard (1..<128).contains(name.utf8.count), uuid.utf8.count < 129 else {
            throw ParseError("range", field: "dm.name", offset: 0, "name or UUID too long")
        }
        var targets = ByteWriter()
        if let table {
            targets.le(UInt64(0))
            targets.le(table.sectors)
            targets.zeros(8)
            targets.append("verity".utf8)
            targets.zeros(16 - "verity".utf8.count)
            targets.append(table.parameters.utf8)
            targets.u8(0)
            targets.pad(to: 8)
        }
        var writer = ByteWriter()
        for version: UInt32 in [4, 0, 0] { writer.le(version) }
        writer.le(UInt32(Self.headerSize + targets.bytes.count))
        writer.le(UInt32(Self.headerSize))
        writer.le(UInt32(table == nil ? 0 : 1))
        writer.zeros(4)
        writer.le(Self.readOnly)
        writer.zeros(16)
        for (text, size) in [(name, 128), (uuid, 129)] {
            writer.append(text.utf8)
            writer.zeros(size - text.utf8.count)
        }
        writer.zeros(7)
        writer.append(targets.bytes)
        bytes = writer.bytes
    }

    /// The device numbers in the kernel's answer, in the form that `mknod` takes.
    public static func device(answer: [UInt8]) throws(ParseError) -> UInt64 {
        var reader = ByteReader(answer)
        try reader.skip(40, "dm.header")
        return try reader.le(UInt64.self, "dm.dev")
    }
}
