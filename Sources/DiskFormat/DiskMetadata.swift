import Bytes

/// What the header's JSON document says, read strictly: every field that exists is named here, every value that Nacre does
/// not write itself is refused.
public struct DiskMetadata: Sendable, Equatable {
    public struct Keyslot: Sendable, Equatable {
        public let id: Int
        /// Where its binary area lies, bytes from the disk's start.
        public let offset: Int
        public let size: Int
    }

    /// Whose disk this is: set when it is made, and by every re-key. Believed only once its seal verifies.
    public struct Binding: Sendable, Equatable {
        public let keyslot: Int
        public let clusterID: [UInt8]
        public let node: NodeName
        /// Counts re-keys.
        public let epoch: Int
        /// Counts openings; the cluster remembers the last one, so that an older copy of the disk is noticed.
        public let generation: Int
        /// HMAC-SHA-256 by a key derived from the disk's key, over `sealed`.
        public let seal: [UInt8]
    }

    public let keyslots: [Keyslot]
    public let bindings: [Binding]

    public init(parsing bytes: [UInt8]) throws(HeaderError) {
        do {
            var fields = try JSONFields(try JSON(parsing: bytes, limit: BinaryHeader.size), path: "json")
            let keyslots = try Self.entries(try fields.required("keyslots"), "json.keyslots", 1...DiskLayout.keyslots)
            let slots = try keyslots.map { try Self.keyslot($0.id, $0.value) }
            try Self.disjoint(slots)
            try Self.segments(try fields.required("segments"))
            try Self.digests(try fields.required("digests"), keyslots: slots.map(\.id))
            try Self.config(try fields.required("config"))
            let tokens = try Self.entries(try fields.required("tokens"), "json.tokens", 0...DiskLayout.keyslots)
            bindings = try tokens.map { try Self.binding($0.id, $0.value, keyslots: slots.map(\.id)) }
            guard Set(bindings.map(\.keyslot)).count == bindings.count else {
                throw HeaderError("token", "json.tokens", expected: "one token for each keyslot", actual: "more")
            }
            self.keyslots = slots
            try fields.end()
        } catch let error as ParseError {
            throw HeaderError(error, "json")
        } catch let error as HeaderError {
            throw error
        } catch { throw HeaderError("form", "json", actual: "\(error)") }
    }

    /// An object whose keys are numbers 0 to 31, in order.
    private static func entries(
        _ value: JSON, _ path: String, _ count: ClosedRange<Int>
    ) throws -> [(id: Int, value: JSON)] {
        guard let object = value.object else { throw HeaderError("form", path, expected: "an object", actual: "other") }
        guard count.contains(object.count) else {
            throw HeaderError(
                "count", path, expected: "\(count.lowerBound) to \(count.upperBound)", actual: "\(object.count)")
        }
        return try object.map { key, value in
            guard let id = Int(key), (0...31).contains(id), String(id) == key else {
                throw HeaderError("form", "\(path).\(key)", expected: "a number 0 to 31", actual: key)
            }
            return (id, value)
        }.sorted { $0.id < $1.id }
    }

    private static func keyslot(_ id: Int, _ value: JSON) throws -> Keyslot {
        let path = "json.keyslots.\(id)"
        var fields = try JSONFields(value, path: path)
        try expect(try fields.string("type"), "luks2", "\(path).type", "keyslot")
        try expect(try fields.integer("key_size"), DiskLayout.volumeKeySize, "\(path).key_size", "keyslot")
        var splitter = try JSONFields(try fields.required("af"), path: "\(path).af")
        try expect(try splitter.string("type"), "luks1", "\(path).af.type", "keyslot")
        try expect(try splitter.integer("stripes"), DiskLayout.stripes, "\(path).af.stripes", "keyslot")
        try expect(try splitter.string("hash"), "sha256", "\(path).af.hash", "keyslot")
        try splitter.end()
        var area = try JSONFields(try fields.required("area"), path: "\(path).area")
        try expect(try area.string("type"), "raw", "\(path).area.type", "keyslot")
        try expect(try area.string("encryption"), DiskLayout.keyslotCipher, "\(path).area.encryption", "cipher")
        try expect(try area.integer("key_size"), DiskLayout.keyslotKeySize, "\(path).area.key_size", "cipher")
        let offset = try number(try area.string("offset"), "\(path).area.offset")
        let size = try number(try area.string("size"), "\(path).area.size")
        try area.end()
        try expect(size, DiskLayout.keyslotSize, "\(path).area.size", "size")
        let room = DiskLayout.keyslotsOffset...DiskLayout.keyslotsOffset + DiskLayout.keyslotsSize - size
        guard room.contains(offset), offset.isMultiple(of: 4096) else {
            throw HeaderError("offset", "\(path).area.offset", expected: "\(room), whole sectors", actual: "\(offset)")
        }
        try derivation(try fields.required("kdf"), "\(path).kdf")
        try fields.end()
        return Keyslot(id: id, offset: offset, size: size)
    }

    private static func derivation(_ value: JSON, _ path: String) throws {
        var fields = try JSONFields(value, path: path)
        try expect(try fields.string("type"), "pbkdf2", "\(path).type", "kdf")
        try expect(try fields.string("hash"), "sha256", "\(path).hash", "kdf")
        try iterations(try fields.integer("iterations"), path)
        try salt(try fields.base64("salt"), path)
        try fields.end()
    }

    private static func disjoint(_ slots: [Keyslot]) throws(HeaderError) {
        let sorted = slots.sorted { $0.offset < $1.offset }
        for (one, next) in zip(sorted, sorted.dropFirst()) where one.offset + one.size > next.offset {
            throw HeaderError(
                "overlap", "json.keyslots", expected: "areas apart", actual: "\(one.id) and \(next.id) overlap")
        }
    }

    /// One segment, the whole disk behind the header.
    private static func segments(_ value: JSON) throws {
        let entries = try entries(value, "json.segments", 1...1)
        guard let entry = entries.first, entry.id == 0 else {
            throw HeaderError("segment", "json.segments", expected: "segment 0", actual: "another")
        }
        let path = "json.segments.0"
        var fields = try JSONFields(entry.value, path: path)
        try expect(try fields.string("type"), "crypt", "\(path).type", "segment")
        try expect(try fields.string("offset"), String(DiskLayout.dataOffset), "\(path).offset", "offset")
        try expect(try fields.string("size"), "dynamic", "\(path).size", "size")
        try expect(try fields.string("iv_tweak"), "0", "\(path).iv_tweak", "segment")
        try expect(try fields.string("encryption"), DiskLayout.cipher, "\(path).encryption", "cipher")
        try expect(try fields.integer("sector_size"), DiskLayout.sectorSize, "\(path).sector_size", "size")
        var integrity = try JSONFields(try fields.required("integrity"), path: "\(path).integrity")
        try expect(try integrity.string("type"), DiskLayout.integrity, "\(path).integrity.type", "integrity")
        for name in ["journal_encryption", "journal_integrity"] {
            try expect(try integrity.string(name), "none", "\(path).integrity.\(name)", "integrity")
        }
        try integrity.end()
        try fields.end()
    }

    /// One digest that ties the volume key to every keyslot and to the segment.
    private static func digests(_ value: JSON, keyslots: [Int]) throws {
        let entries = try entries(value, "json.digests", 1...1)
        guard let entry = entries.first, entry.id == 0 else {
            throw HeaderError("digest", "json.digests", expected: "digest 0", actual: "another")
        }
        let path = "json.digests.0"
        var fields = try JSONFields(entry.value, path: path)
        try expect(try fields.string("type"), "pbkdf2", "\(path).type", "digest")
        try expect(
            try fields.array("keyslots").compactMap(\.string).sorted(), keyslots.map { String($0) }.sorted(),
            "\(path).keyslots", "digest")
        try expect(try fields.array("segments").compactMap(\.string), ["0"], "\(path).segments", "digest")
        try expect(try fields.string("hash"), "sha256", "\(path).hash", "digest")
        try iterations(try fields.integer("iterations"), path)
        try salt(try fields.base64("salt"), path)
        try expect(try fields.base64("digest").count, 32, "\(path).digest", "digest")
        try fields.end()
    }

    /// Sizes only: flags and requirements (re-encryption among them) are not known here and so refused.
    private static func config(_ value: JSON) throws {
        var fields = try JSONFields(value, path: "json.config")
        try expect(
            try fields.string("json_size"), String(BinaryHeader.size - BinaryHeader.binarySize),
            "json.config.json_size", "size")
        try expect(
            try fields.string("keyslots_size"), String(DiskLayout.keyslotsSize), "json.config.keyslots_size", "size")
        try fields.end()
    }

    private static func binding(_ id: Int, _ value: JSON, keyslots: [Int]) throws -> Binding {
        let path = "json.tokens.\(id)"
        var fields = try JSONFields(value, path: path)
        try expect(try fields.string("type"), DiskLayout.tokenType, "\(path).type", "token")
        let slots = try fields.array("keyslots").compactMap { $0.string.flatMap { Int($0) } }
        guard slots.count == 1, let slot = slots.first, keyslots.contains(slot) else {
            throw HeaderError("token", "\(path).keyslots", expected: "one keyslot that exists", actual: "\(slots)")
        }
        guard let node = NodeName(try fields.string("node")) else {
            throw HeaderError("token", "\(path).node", expected: "a node's name", actual: "other text")
        }
        let binding = Binding(
            keyslot: slot, clusterID: try fields.hex("cluster", count: 32), node: node,
            epoch: try fields.integer("epoch"), generation: try fields.integer("generation"),
            seal: try fields.hex("seal", count: 32))
        try fields.end()
        guard binding.epoch >= 0, binding.generation >= 0 else {
            throw HeaderError("token", path, expected: "counters from 0", actual: "other values")
        }
        return binding
    }

    private static func expect<T: Equatable>(_ value: T, _ wanted: T, _ claim: String, _ detail: String)
        throws(HeaderError)
    {
        guard value == wanted else { throw HeaderError(detail, claim, expected: "\(wanted)", actual: "\(value)") }
    }

    private static func iterations(_ count: Int, _ path: String) throws(HeaderError) {
        guard DiskLayout.iterations.contains(count) else {
            throw HeaderError("kdf", "\(path).iterations", expected: "\(DiskLayout.iterations)", actual: "\(count)")
        }
    }

    private static func salt(_ bytes: [UInt8], _ path: String) throws(HeaderError) {
        guard bytes.count == 32 else {
            throw HeaderError("kdf", "\(path).salt", expected: "32 bytes", actual: "\(bytes.count)")
        }
    }

    /// LUKS2 writes 64-bit numbers as decimal text.
    private static func number(_ text: String, _ path: String) throws(HeaderError) -> Int {
        guard let value = Int(text), value >= 0, String(value) == text else {
            throw HeaderError("form", path, expected: "a decimal number", actual: text)
        }
        return value
    }
}
