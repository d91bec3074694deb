import Bytes

/// Makes small PE32+ images, so that tests can say which sections an image has and how they are laid out.
public enum PEBuilder {
    public struct Section: Sendable {
        public var name: String
        public var contents: [UInt8]
        public var virtualSize: Int?
        public init(_ name: String, _ contents: [UInt8], virtualSize: Int? = nil) {
            (self.name, self.contents, self.virtualSize) = (name, contents, virtualSize)
        }
    }

    /// Headers of 4096 bytes, raw data aligned to 512, memory to 4096.
    public static func image(_ sections: [Section], certificates: [UInt8] = [], tail: [UInt8] = []) -> [UInt8] {
        var table = ByteWriter()
        var body = ByteWriter()
        var address = 0x1000
        for section in sections {
            let size = section.virtualSize ?? section.contents.count
            var name = ByteWriter()
            name.append(section.name.utf8)
            name.zeros(8 - name.bytes.count)
            table.append(name.bytes)
            table.le(UInt32(size))
            table.le(UInt32(address))
            let start = body.bytes.count
            body.append(section.contents)
            body.pad(to: 512)
            table.le(UInt32(body.bytes.count - start))
            table.le(UInt32(4096 + start))
            table.zeros(16)
            address += (max(size, 1) + 4095) / 4096 * 4096
        }
        body.append(tail)
        let end = 4096 + body.bytes.count
        var writer = ByteWriter()
        writer.append("MZ".utf8)
        writer.zeros(58)
        writer.le(UInt32(64))
        writer.append("PE\0\0".utf8)
        writer.le(UInt16(0x8664))
        writer.le(UInt16(sections.count))
        writer.zeros(12)
        writer.le(UInt16(240))
        writer.zeros(2)
        writer.le(UInt16(0x20B))
        writer.zeros(54)
        writer.le(UInt32(address))
        writer.le(UInt32(4096))
        writer.le(UInt32(0xC0FF_EE00))
        writer.zeros(40)
        writer.le(UInt32(16))
        writer.zeros(32)
        writer.le(UInt32(certificates.isEmpty ? 0 : end))
        writer.le(UInt32(certificates.count))
        writer.zeros(88)
        writer.append(table.bytes)
        writer.zeros(4096 - writer.bytes.count)
        writer.append(body.bytes)
        writer.append(certificates)
        return writer.bytes
    }
}
