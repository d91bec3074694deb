import Bytes
import Crypto

/// The log of systemd's own measurements (`/run/log/systemd/tpm2-measure.log`): an RFC 7464 JSON text sequence in the
/// TCG Canonical Event Log's JSON form, continuing the firmware's log.
public struct UserspaceLog: Equatable, Sendable {
    public struct Record: Equatable, Sendable {
        /// PCR index 0…23.
        public let pcr: Int
        public let digests: [HashAlgorithm: [UInt8]]
        /// systemd's kind of event: `phase`, `machine-id`, `filesystem`, `volume-key`, …; `nil` where not given.
        public let eventType: String?
        /// The text that was measured, or for volume keys that names the key.
        public let text: String?
        /// All content fields.
        public let content: JSON

        /// Whether the text hashes to the digest in every bank. False for keyed digests, such as volume keys.
        public var textMatchesDigests: Bool {
            guard let text else { return false }
            return digests.allSatisfy { $0.key.hash(Array(text.utf8)) == $0.value }
        }
    }

    public let records: [Record]

    public static let maximumSize = 4 << 20
    public static let maximumRecords = 4096

    /// - Throws: `ParseError`; `finding(for:)` of `EventLog` makes the `log-…` reason.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        guard bytes.count <= Self.maximumSize else {
            throw ParseError(
                "limit", field: "userspace log", offset: 0, "\(bytes.count) bytes, at most \(Self.maximumSize) are read"
            )
        }
        var records: [Record] = []
        var start = 0
        while start < bytes.count {
            guard bytes[start] == 0x1E else {
                throw ParseError("form", field: "userspace log", offset: start, "no record separator")
            }
            guard let end = bytes[start...].firstIndex(of: 0x0A) else {
                throw ParseError("truncated", field: "userspace log", offset: start, "the last record has no end")
            }
            guard records.count < Self.maximumRecords else {
                throw ParseError(
                    "limit", field: "userspace log", offset: start, "more than \(Self.maximumRecords) records")
            }
            let path = "userspace log[\(records.count)]"
            do {
                let json = try JSON(parsing: Array(bytes[(start + 1)..<end]), limit: 1 << 16)
                records.append(try Self.record(json, path: path))
            } catch {
                throw ParseError(error.detail, field: "\(path) \(error.field)", offset: start, error.message)
            }
            start = end + 1
        }
        self.records = records
    }

    private static func record(_ json: JSON, path: String) throws(ParseError) -> Record {
        var fields = try JSONFields(json, path: path)
        let pcr = try fields.integer("pcr")
        guard PCRBank.indices.contains(pcr) else {
            throw ParseError("index", field: "\(path).pcr", offset: 0, "register \(pcr)")
        }
        var digests: [HashAlgorithm: [UInt8]] = [:]
        for (index, value) in try fields.array("digests").enumerated() {
            var digest = try JSONFields(value, path: "\(path).digests[\(index)]")
            let name = try digest.string("hashAlg")
            guard let hash = HashAlgorithm(rawValue: name), digests[hash] == nil else {
                throw ParseError("algorithm", field: "\(path).digests[\(index)]", offset: 0, "\"\(name)\"")
            }
            digests[hash] = try digest.hex("digest", count: hash.size)
            try digest.end()
        }
        guard !digests.isEmpty else {
            throw ParseError("digest-count", field: "\(path).digests", offset: 0, "no digest")
        }
        guard try fields.string("content_type") == "systemd" else {
            throw ParseError("form", field: "\(path).content_type", offset: 0, "not \"systemd\"")
        }
        let content = try fields.required("content")
        try fields.end()
        // What systemd writes into the content grows with its releases; only the two fields read here have a type.
        var inner = try JSONFields(content, path: "\(path).content")
        return Record(
            pcr: pcr, digests: digests, eventType: try inner.optionalString("eventType"),
            text: try inner.optionalString("string"), content: content)
    }
}
