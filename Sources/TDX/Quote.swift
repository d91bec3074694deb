import Bytes

/// A TDX quote, version 4 or 5 (Intel "TDX DCAP Quoting Library API" §A.3): header, TD report body, signature section.
///
/// Reading is strict: unknown versions, key types, TEE types, vendors and body types are refused, all nested lengths must
/// add up exactly. After the signature section only zero bytes may follow, for stacks that hand out a quote in a buffer
/// of fixed size (Azure does, 70 bytes); their number is kept in `padding`. Nothing is verified here.
public struct Quote: Sendable, Equatable {
    public var header: Header
    public var body: TDBody
    public var signature: QuoteSignature
    /// Zero bytes after the signature section.
    public var padding: Int

    /// The first 48 bytes: version u16 · attestation key type u16 · TEE type u32 · QE SVN u16 · PCE SVN u16 · QE vendor
    /// 16 · user data 20.
    public struct Header: Sendable, Equatable {
        /// 4 or 5.
        public var version: UInt16
        public var qeSVN: UInt16
        public var pceSVN: UInt16
        /// 20 bytes that the quoting enclave chooses.
        public var userData: [UInt8]

        public init(
            version: UInt16, qeSVN: UInt16 = 0, pceSVN: UInt16 = 0, userData: [UInt8] = .init(repeating: 0, count: 20)
        ) {
            self.version = version
            self.qeSVN = qeSVN
            self.pceSVN = pceSVN
            self.userData = userData
        }
    }

    /// ECDSA with P-256, the only attestation key type in use.
    static let keyTypeP256: UInt16 = 2
    static let teeTypeTDX: UInt32 = 0x81
    /// Intel's quoting enclave.
    static let vendorIntel: [UInt8] = [
        0x93, 0x9A, 0x72, 0x33, 0xF7, 0x9C, 0x4C, 0xA9, 0x94, 0x0A, 0x0D, 0xB3, 0x95, 0x7F, 0x06, 0x07,
    ]
    static let bodyType10: UInt16 = 2
    static let bodyType15: UInt16 = 3

    /// Longest quote that is looked at; genuine ones are about 5 KiB.
    public static let maximumSize = 1 << 15

    public init(header: Header, body: TDBody, signature: QuoteSignature, padding: Int = 0) {
        self.header = header
        self.body = body
        self.signature = signature
        self.padding = padding
    }

    /// Reads a whole quote.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        guard bytes.count <= Self.maximumSize else {
            throw ParseError(
                "length", field: "quote", offset: 0, "\(bytes.count) bytes, at most \(Self.maximumSize) are read")
        }
        var reader = ByteReader(bytes)
        header = try Header(parsing: &reader)
        var is15 = false
        if header.version == 5 { is15 = try Self.bodyDescriptor(&reader) }
        body = try TDBody(parsing: &reader, is15: is15)
        let size = try reader.le(UInt32.self, "signature.size")
        var section = try reader.sub(Int(size), "signature")
        signature = try QuoteSignature(parsing: &section)
        try section.end("signature")
        padding = reader.remaining
        try reader.zeros(padding, "padding after the signature")
    }

    /// Body type and size of version 5; `true` for TD report 1.5.
    private static func bodyDescriptor(_ reader: inout ByteReader) throws(ParseError) -> Bool {
        let offset = reader.offset
        let type = try reader.le(UInt16.self, "body.type")
        let size = try reader.le(UInt32.self, "body.size")
        switch (type, Int(size)) {
        case (bodyType10, TDBody.size10): return false
        case (bodyType15, TDBody.size15): return true
        case (bodyType10, _), (bodyType15, _):
            throw ParseError("length", field: "body.size", offset: offset + 2, "\(size) bytes for body type \(type)")
        default:
            throw ParseError(
                "body-type", field: "body.type", offset: offset, "must be 2 (TD 1.0) or 3 (TD 1.5), is \(type)")
        }
    }

    /// Header and body: what the attestation key signs.
    public var signedBytes: [UInt8] {
        var writer = ByteWriter()
        header.write(&writer)
        if header.version == 5 {
            writer.le(body.extended == nil ? Self.bodyType10 : Self.bodyType15)
            writer.le(UInt32(body.extended == nil ? TDBody.size10 : TDBody.size15))
        }
        writer.append(body.serialize())
        return writer.bytes
    }

    /// The quote as bytes; equal to those it was read from.
    public func serialize() -> [UInt8] {
        var writer = ByteWriter()
        writer.append(signedBytes)
        let section = signature.serialize()
        writer.le(UInt32(truncatingIfNeeded: section.count))
        writer.append(section)
        writer.zeros(padding)
        return writer.bytes
    }
}

extension Quote.Header {
    init(parsing reader: inout ByteReader) throws(ParseError) {
        version = try reader.le(UInt16.self, "header.version")
        guard version == 4 || version == 5 else {
            throw ParseError("version", field: "header.version", offset: 0, "must be 4 or 5, is \(version)")
        }
        let keyType = try reader.le(UInt16.self, "header.att_key_type")
        guard keyType == Quote.keyTypeP256 else {
            throw ParseError(
                "key-type", field: "header.att_key_type", offset: 2, "must be 2 (ECDSA P-256), is \(keyType)")
        }
        let teeType = try reader.le(UInt32.self, "header.tee_type")
        guard teeType == Quote.teeTypeTDX else {
            throw ParseError("tee-type", field: "header.tee_type", offset: 4, "must be 0x81 (TDX), is \(teeType)")
        }
        qeSVN = try reader.le(UInt16.self, "header.qe_svn")
        pceSVN = try reader.le(UInt16.self, "header.pce_svn")
        let vendor = try reader.take(16, "header.qe_vendor")
        guard vendor == Quote.vendorIntel else {
            throw ParseError(
                "qe-vendor", field: "header.qe_vendor", offset: 12, "not Intel's but \(Hex.encode(vendor))")
        }
        userData = try reader.take(20, "header.user_data")
    }

    func write(_ writer: inout ByteWriter) {
        writer.le(version)
        writer.le(Quote.keyTypeP256)
        writer.le(Quote.teeTypeTDX)
        writer.le(qeSVN)
        writer.le(pceSVN)
        writer.append(Quote.vendorIntel)
        writer.append(userData)
    }
}
