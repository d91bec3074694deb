import Bytes

/// The certificate table of an extended report: configfs-tsm's `auxblob`, the ioctl's certificate buffer.
///
/// GHCB specification, "SNP Extended Guest Request": entries of 24 bytes {GUID in text order, offset u32, length u32},
/// closed by a zero entry; offsets count from the start of the blob. The host writes it: nothing in it is trusted,
/// unknown GUIDs are kept by their text and otherwise ignored.
public struct CertificateTable: Sendable, Equatable {
    /// What an entry holds.
    public enum Name: Sendable, Hashable, CustomStringConvertible {
        case vcek, vlek, ask, ark, crl
        /// Any other GUID, lower-case text form.
        case other(String)

        static let known: [(name: Name, guid: String)] = [
            (.vcek, "63da758d-e664-4564-adc5-f4b93be8accd"), (.vlek, "a8074bc2-a25a-483e-aae6-39c045a0b8a1"),
            (.ask, "4ab7b379-bbac-4fe4-a02f-05aef327c782"), (.ark, "c0b406a4-a803-4952-9743-3fb6014cd0ae"),
            (.crl, "92f81bc3-5811-4d3d-97ff-d19f88dc67ea"),
        ]

        init(guid: String) { self = Self.known.first { $0.guid == guid }?.name ?? .other(guid) }

        public var guid: String {
            if case .other(let guid) = self { guid } else { Self.known.first { $0.name == self }?.guid ?? "" }
        }

        public var description: String {
            switch self {
            case .vcek: "vcek"
            case .vlek: "vlek"
            case .ask: "ask"
            case .ark: "ark"
            case .crl: "crl"
            case .other(let guid): guid
            }
        }
    }

    public struct Entry: Sendable, Equatable {
        public let name: Name
        /// As the host put it: DER or PEM.
        public let contents: [UInt8]

        public init(name: Name, contents: [UInt8]) {
            self.name = name
            self.contents = contents
        }
    }

    public static let maximumSize = 1 << 20
    public static let maximumEntries = 64
    private static let entrySize = 24

    /// In the order of the table.
    public let entries: [Entry]

    public init(entries: [Entry]) { self.entries = entries }

    /// Contents of the entry called `name`.
    public subscript(name: Name) -> [UInt8]? { entries.first { $0.name == name }?.contents }

    /// Errors: `length` (no closing entry, above 1 MiB), `range` (contents that begin inside the table or leave the
    /// blob), `form` (a GUID twice, too many entries, a closing entry that is not zero).
    public init(_ blob: [UInt8]) throws(ParseError) {
        guard blob.count <= Self.maximumSize else {
            throw ParseError("length", field: "auxblob", offset: 0, "\(blob.count) bytes, at most \(Self.maximumSize)")
        }
        var reader = ByteReader(blob)
        var places: [(name: Name, offset: Int, length: Int, at: Int)] = []
        while true {
            let start = reader.offset
            let guid = try reader.take(16, "auxblob.guid")
            let offset = try reader.le(UInt32.self, "auxblob.offset")
            let length = try reader.le(UInt32.self, "auxblob.length")
            if guid.allSatisfy({ $0 == 0 }) {
                guard offset == 0, length == 0 else {
                    throw ParseError("form", field: "auxblob.guid", offset: start, "closing entry is not all zero")
                }
                break
            }
            guard places.count < Self.maximumEntries else {
                throw ParseError("form", field: "auxblob", offset: start, "more than \(Self.maximumEntries) entries")
            }
            let name = Name(guid: Self.text(guid))
            guard !places.contains(where: { $0.name == name }) else {
                throw ParseError("form", field: "auxblob.\(name)", offset: start, "stands twice")
            }
            places.append((name, Int(offset), Int(length), start))
        }
        let tableEnd = reader.offset
        var entries: [Entry] = []
        var total = 0
        for place in places {
            // 64-bit integers: the sum of two 32-bit numbers cannot wrap.
            guard place.offset >= tableEnd, place.offset + place.length <= blob.count else {
                throw ParseError(
                    "range", field: "auxblob.\(place.name)", offset: place.at,
                    "bytes \(place.offset) to \(place.offset + place.length) of a blob whose contents are at "
                        + "\(tableEnd) to \(blob.count)")
            }
            // Entries may overlap; together they still must not be more than a blob's worth of copies.
            total += place.length
            guard total <= Self.maximumSize else {
                throw ParseError("length", field: "auxblob.\(place.name)", offset: place.at, "entries exceed 1 MiB")
            }
            entries.append(Entry(name: place.name, contents: Array(blob[place.offset..<place.offset + place.length])))
        }
        self.entries = entries
    }

    /// The table with contents packed behind it. Entries with a GUID that is not one are left out.
    public func serialize() -> [UInt8] {
        let usable = entries.compactMap { entry in Self.guid(entry.name.guid).map { (guid: $0, entry: entry) } }
        var table = ByteWriter()
        var contents: [UInt8] = []
        let tableEnd = (usable.count + 1) * Self.entrySize
        for (guid, entry) in usable {
            table.append(guid)
            table.le(UInt32(truncatingIfNeeded: tableEnd + contents.count))
            table.le(UInt32(truncatingIfNeeded: entry.contents.count))
            contents += entry.contents
        }
        table.zeros(Self.entrySize)
        table.append(contents)
        return table.bytes
    }

    /// Bytes in text order (RFC 4122), unlike the GUIDs of UEFI.
    private static func text(_ guid: [UInt8]) -> String {
        let hex = Array(Hex.encode(guid).utf8)
        var text: [UInt8] = []
        for (index, digit) in hex.enumerated() {
            if [8, 12, 16, 20].contains(index) { text.append(UInt8(ascii: "-")) }
            text.append(digit)
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static func guid(_ text: String) -> [UInt8]? {
        guard let bytes = Hex.decode(text.filter { $0 != "-" }), bytes.count == 16 else { return nil }
        return bytes
    }
}
