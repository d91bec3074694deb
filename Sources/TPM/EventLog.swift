import Bytes
import Crypto

/// A firmware event log: TCG crypto-agile or SHA-1 form (PC Client Platform Firmware Profile §10), or the confidential
/// computing log of ACPI's CCEL (UEFI §38.4.1), which is the same with measurement registers for PCRs.
///
/// Parsing proves nothing; replayed values must equal quoted ones, and event data is only what `bindsData` and the
/// digests make of it.
public struct EventLog: Equatable, Sendable {
    public enum Registers: Sendable, Equatable {
        /// Register numbers are PCR indices 0…23.
        case tpm
        /// Register numbers are 0 (the TD's own measurement, never extended) and RTMR + 1.
        case confidentialComputing

        var limit: Int { self == .tpm ? 24 : 5 }
    }

    public struct Event: Equatable, Sendable {
        /// Place in the log, from 0.
        public let number: Int
        /// PCR, or CC measurement register.
        public let register: Int
        public let type: EventType
        /// One digest for each of the log's algorithms.
        public let digests: [HashAlgorithm: [UInt8]]
        public let data: [UInt8]
        /// Byte offset in the log.
        public let offset: Int

        public init(
            number: Int, register: Int, type: EventType, digests: [HashAlgorithm: [UInt8]], data: [UInt8], offset: Int
        ) {
            self.number = number
            self.register = register
            self.type = type
            self.digests = digests
            self.data = data
            self.offset = offset
        }

        /// Whether the event extends its register.
        public var isExtended: Bool { type != .noAction }
        /// Whether the data hashes to the digest in every bank, so that the register vouches for the data.
        public var dataMatchesDigests: Bool { digests.allSatisfy { $0.key.hash(data) == $0.value } }
    }

    public let registers: Registers
    /// The banks that every event carries, in the log's order.
    public let algorithms: [HashAlgorithm]
    public let events: [Event]
    /// Locality that started the TPM, from the StartupLocality event; PCR 0 starts with this value.
    public let startupLocality: UInt8

    public static let maximumSize = 16 << 20
    public static let maximumEvents = 8192
    public static let maximumData = 4 << 20

    /// - Parameter registers: what the register numbers mean; only a CC area may be padded, with 0xFF or zeros.
    /// - Throws: `ParseError` with details `truncated`, `limit`, `header`, `algorithm`, `digest-count`, `index`,
    ///   `locality`, `trailing`; `finding(for:)` makes the `log-…` reason.
    public init(parsing bytes: [UInt8], registers: Registers = .tpm) throws(ParseError) {
        do {
            var parser = try EventLogParser(bytes: bytes, registers: registers)
            try parser.read()
            self.registers = registers
            algorithms = parser.algorithms.map(\.hash)
            events = parser.events
            startupLocality = parser.locality ?? 0
        } catch {
            // A length field that reaches past the end is how a cut log shows.
            guard error.detail == "length" else { throw error }
            throw ParseError("truncated", field: error.field, offset: error.offset, error.message)
        }
    }

    /// The `log-…` finding of a parse error of this form.
    public static func finding(for error: ParseError) -> Finding {
        Finding(
            "log-\(error.detail)", claim: error.field, expected: "a whole TCG event log",
            actual: "at byte \(error.offset): \(error.message)", source: "TCG PC Client Platform Firmware Profile §10",
            next: "read the log again; a log that was cut or edited proves nothing")
    }
}

private struct EventLogParser {
    typealias Algorithm = (hash: HashAlgorithm, identifier: UInt16)

    let registers: EventLog.Registers
    /// From here on a CC area holds nothing but 0xFF or nothing but zeros; the end of a TPM's log.
    let end: Int
    var reader: ByteReader
    let isCryptoAgile: Bool
    var algorithms: [Algorithm] = []
    var events: [EventLog.Event] = []
    var locality: UInt8?
    var isRegister0Extended = false

    init(bytes: [UInt8], registers: EventLog.Registers) throws(ParseError) {
        guard bytes.count <= EventLog.maximumSize else {
            throw ParseError(
                "limit", field: "log", offset: 0, "\(bytes.count) bytes, at most \(EventLog.maximumSize) are read")
        }
        self.registers = registers
        var end = bytes.count
        if registers == .confidentialComputing, let last = bytes.last, last == 0 || last == 0xFF {
            while end > 0, bytes[end - 1] == last { end -= 1 }
        }
        self.end = end
        reader = ByteReader(bytes)
        // The first event has the SHA-1 form in both kinds of log.
        var header = reader
        let register = try header.le(UInt32.self, "event.pcrIndex")
        let type = EventType(rawValue: try header.le(UInt32.self, "event.eventType"))
        let digest = try header.take(20, "event.digest")
        let size = try header.le(UInt32.self, "event.eventSize")
        let data = try header.take(Int(min(size, UInt32(EventLog.maximumData))), "event.event")
        isCryptoAgile = type == .noAction && data.starts(with: Self.signature)
        guard isCryptoAgile else {
            guard registers == .tpm else {
                throw ParseError("header", field: "event.event", offset: 32, "no Spec ID Event03")
            }
            algorithms = [(.sha1, HashAlgorithm.sha1.tpmIdentifier)]
            return
        }
        // A CC log may name the first measurement register here; in a TPM's log this is PCR 0.
        guard register == 0 || registers == .confidentialComputing && Int(register) < registers.limit,
            digest.allSatisfy({ $0 == 0 })
        else {
            throw ParseError(
                "header", field: "TCG_EfiSpecIDEvent", offset: 0, "register \(register), or a digest that is not zero")
        }
        algorithms = try Self.specification(data)
        events.append(
            EventLog.Event(number: 0, register: 0, type: .noAction, digests: [:], data: data, offset: 0))
        reader = header
    }

    private static let signature = Array("Spec ID Event03\0".utf8)
    private static let startupSignature = Array("StartupLocality\0".utf8)

    /// TCG_EfiSpecIDEvent: the algorithms that every event carries.
    private static func specification(_ data: [UInt8]) throws(ParseError) -> [Algorithm] {
        var reader = ByteReader(data, base: 32)
        try reader.skip(16 + 4, "TCG_EfiSpecIDEvent.platformClass")
        let minor = try reader.u8("TCG_EfiSpecIDEvent.specVersionMinor")
        let major = try reader.u8("TCG_EfiSpecIDEvent.specVersionMajor")
        try reader.skip(1, "TCG_EfiSpecIDEvent.specErrata")
        let width = try reader.u8("TCG_EfiSpecIDEvent.uintnSize")
        guard major == 2, (1...2).contains(width) else {
            throw ParseError(
                "header", field: "TCG_EfiSpecIDEvent", offset: 52,
                "version \(major).\(minor), integers of \(width) words")
        }
        let count = try reader.le(UInt32.self, "TCG_EfiSpecIDEvent.numberOfAlgorithms")
        guard (1...8).contains(count) else {
            throw ParseError("algorithm", field: "TCG_EfiSpecIDEvent", offset: 56, "\(count) algorithms")
        }
        var algorithms: [Algorithm] = []
        for _ in 0..<count {
            let offset = reader.offset
            let identifier = try reader.le(UInt16.self, "TCG_EfiSpecIDEvent.algorithmId")
            let size = try reader.le(UInt16.self, "TCG_EfiSpecIDEvent.digestSize")
            guard let hash = HashAlgorithm(tpmIdentifier: identifier), hash.size == Int(size),
                !algorithms.contains(where: { $0.hash == hash })
            else {
                throw ParseError(
                    "algorithm", field: "TCG_EfiSpecIDEvent.digestSizes", offset: offset,
                    "0x\(Hex.encode(identifier)) with \(size) bytes is unknown, of another size, or stands twice")
            }
            algorithms.append((hash, identifier))
        }
        let vendor = try reader.u8("TCG_EfiSpecIDEvent.vendorInfoSize")
        try reader.skip(Int(vendor), "TCG_EfiSpecIDEvent.vendorInfo")
        guard reader.isAtEnd else {
            throw ParseError("header", field: "TCG_EfiSpecIDEvent", offset: reader.offset, "bytes after vendorInfo")
        }
        return algorithms
    }

    mutating func read() throws(ParseError) {
        while reader.offset < end {
            guard events.count < EventLog.maximumEvents else {
                throw ParseError(
                    "limit", field: "log", offset: reader.offset, "more than \(EventLog.maximumEvents) events")
            }
            try event()
        }
    }

    private mutating func event() throws(ParseError) {
        let offset = reader.offset
        let register = try reader.le(UInt32.self, "event.pcrIndex")
        let type = EventType(rawValue: try reader.le(UInt32.self, "event.eventType"))
        let isValid = type == .noAction || !(registers == .confidentialComputing && register == 0)
        // Events that are not extended may name no register at all (PFP §10.4.1: 0xFFFFFFFF).
        guard Int(register) < registers.limit && isValid || type == .noAction && register == UInt32.max else {
            throw ParseError("index", field: "event.pcrIndex", offset: offset, "register \(register)")
        }
        var digests: [HashAlgorithm: [UInt8]] = [:]
        if isCryptoAgile {
            digests = try self.digests()
        } else {
            digests[.sha1] = try reader.take(20, "event.digest")
        }
        let sizeOffset = reader.offset
        let size = try reader.le(UInt32.self, "event.eventSize")
        guard size <= UInt32(EventLog.maximumData) else {
            let isCut = Int(size) > reader.remaining
            throw ParseError(
                isCut ? "truncated" : "limit", field: "event.eventSize", offset: sizeOffset,
                "\(size) bytes, \(reader.remaining) left, at most \(EventLog.maximumData) are read")
        }
        let data = try reader.take(Int(size), "event.event")
        if type == .noAction { try startup(data, offset: offset) }
        if type != .noAction, register == 0 { isRegister0Extended = true }
        events.append(
            EventLog.Event(
                number: events.count, register: Int(register), type: type, digests: digests, data: data,
                offset: offset))
    }

    /// TPML_DIGEST_VALUES, little-endian: each announced algorithm once.
    private mutating func digests() throws(ParseError) -> [HashAlgorithm: [UInt8]] {
        let offset = reader.offset
        let count = try reader.le(UInt32.self, "event.digests.count")
        guard count == UInt32(algorithms.count) else {
            throw ParseError(
                "digest-count", field: "event.digests.count", offset: offset,
                "\(count) digests, the log announces \(algorithms.count) algorithms")
        }
        var digests: [HashAlgorithm: [UInt8]] = [:]
        for _ in 0..<count {
            let offset = reader.offset
            let identifier = try reader.le(UInt16.self, "event.digests.algorithmId")
            guard let hash = algorithms.first(where: { $0.identifier == identifier })?.hash, digests[hash] == nil else {
                throw ParseError(
                    "algorithm", field: "event.digests.algorithmId", offset: offset,
                    "0x\(Hex.encode(identifier)) was not announced or stands twice")
            }
            digests[hash] = try reader.take(hash.size, "event.digests.digest")
        }
        return digests
    }

    /// TCG_EfiStartupLocalityEvent: once, before PCR 0 is extended, one of the localities that can start a TPM.
    private mutating func startup(_ data: [UInt8], offset: Int) throws(ParseError) {
        guard registers == .tpm, data.starts(with: Self.startupSignature) else { return }
        guard data.count == 17, let value = data.last, [0, 3, 4].contains(value), locality == nil, !isRegister0Extended
        else {
            throw ParseError(
                "locality", field: "TCG_EfiStartupLocalityEvent", offset: offset,
                "must be one byte of 0, 3 or 4, once, before PCR 0 is extended")
        }
        locality = value
    }
}
