import Bytes

/// The GUIDed table at the end of an OVMF image (edk2 `OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`): it ends 32 bytes
/// before the image does and is read backwards.
struct FirmwareTable {
    private let entries: [GUID: [UInt8]]
    private let image: [UInt8]

    private static let footer: GUID = "96b582de-1fb2-45f7-baea-a366c55a082d"
    static let sevMetadata: GUID = "dc886566-984a-4798-a75e-5585a7bf67cc"
    static let kernelHashes: GUID = "7255371f-3a3b-4b04-927b-1da6efa8d454"
    static let sevResetBlock: GUID = "00f771de-1a7e-4fcb-890e-68c77e2fb44e"
    static let svsmInfo: GUID = "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd"
    static let tdxMetadata: GUID = "e47a6535-984a-4798-865e-4685a7bf8ec2"

    /// An image without the table has an empty one.
    init(_ image: [UInt8]) throws(ParseError) {
        self.image = image
        let end = image.count - 32
        guard end >= 18, GUID(bytes: Array(image[end - 16..<end])) == Self.footer else {
            entries = [:]
            return
        }
        let size = Int(image[end - 18]) | Int(image[end - 17]) << 8
        guard size >= 18, size <= end else {
            throw ParseError("length", field: "firmware table", offset: end - 18, "\(size) bytes")
        }
        var entries: [GUID: [UInt8]] = [:]
        let start = end - size
        var upTo = end - 18
        while upTo - start >= 18 {
            let length = Int(image[upTo - 18]) | Int(image[upTo - 17]) << 8
            guard length >= 18, length <= upTo - start, let name = GUID(bytes: Array(image[upTo - 16..<upTo])) else {
                throw ParseError("length", field: "firmware table entry", offset: upTo - 18, "\(length) bytes")
            }
            guard entries.updateValue(Array(image[upTo - length..<upTo - 18]), forKey: name) == nil else {
                throw ParseError("duplicate", field: "firmware table entry", offset: upTo - 18, "\(name) stands twice")
            }
            upTo -= length
        }
        guard upTo == start else {
            throw ParseError("length", field: "firmware table", offset: start, "\(upTo - start) bytes are no entry")
        }
        self.entries = entries
    }

    /// The first four bytes of an entry, little-endian; `nil` where it is missing.
    func word(_ name: GUID) throws(ParseError) -> UInt32? {
        guard let data = entries[name] else { return nil }
        var reader = ByteReader(data)
        return try reader.le(UInt32.self, "\(name)")
    }

    /// A reader from where `name` says, counted back from the end of the image, to the end.
    func reader(at name: GUID, _ field: String) throws(ParseError) -> ByteReader? {
        guard let back = try word(name) else { return nil }
        guard back > 0, Int(back) <= image.count else {
            throw ParseError("range", field: field, offset: image.count, "\(back) bytes before the end")
        }
        let start = image.count - Int(back)
        return ByteReader(Array(image[start...]), base: start)
    }
}
