import Bytes

/// A TPM 2.0 bank of registers (TCG Algorithm Registry, table 3).
public struct RegisterBank: Equatable, Sendable {
    /// TPM_ALG_ID.
    public let algorithm: UInt16
    /// Digest length in bytes.
    public let size: Int
    /// As systemd's log writes it; `nil` for algorithms that logs do not carry, because nothing is judged by them.
    public let name: String?

    static let known = [
        RegisterBank(algorithm: 0x0004, size: 20, name: "sha1"),
        RegisterBank(algorithm: 0x000B, size: 32, name: "sha256"),
        RegisterBank(algorithm: 0x000C, size: 48, name: "sha384"),
        RegisterBank(algorithm: 0x000D, size: 64, name: "sha512"),
        RegisterBank(algorithm: 0x0012, size: 32, name: nil),
        RegisterBank(algorithm: 0x0027, size: 32, name: nil),
        RegisterBank(algorithm: 0x0028, size: 48, name: nil),
        RegisterBank(algorithm: 0x0029, size: 64, name: nil),
    ]

    init(algorithm: UInt16, size: Int, name: String?) {
        self.algorithm = algorithm
        self.size = size
        self.name = name
    }

    public init?(algorithm: UInt16) {
        guard let known = Self.known.first(where: { $0.algorithm == algorithm }) else { return nil }
        self = known
    }
}

/// What the TPM said when it refused a command.
public struct TPMRefusal: Error, Equatable, Sendable, CustomStringConvertible {
    public let command: String
    /// TPM_RC.
    public let code: UInt32
    public var description: String { "\(command): the TPM answers 0x\(String(code, radix: 16))" }
}

/// The two TPM commands that the initrd needs, as bytes (TCG TPM 2.0 Library, Part 3): no TSS, no crypto code.
public enum TPMCommand {
    /// TPM2_PCR_Event (§22.3): the TPM hashes `data` into every active bank of `register` by itself and answers with the
    /// digests. Authorised by the empty password, as registers 0 to 23 are.
    /// - Throws: `ParseError` when `data` is longer than the 1024 bytes of TPM2B_EVENT.
    public static func event(register: UInt8, data: [UInt8]) throws(ParseError) -> [UInt8] {
        guard register < 24, data.count <= 1024 else {
            throw ParseError("range", field: "TPM2_PCR_Event", offset: 0, "register or data too large")
        }
        var body = ByteWriter()
        body.be(UInt32(register))
        body.be(UInt32(9))  // size of the authorisation that follows
        body.be(UInt32(0x4000_0009))  // TPM_RS_PW
        body.be(UInt16(0))  // nonce
        body.u8(0)  // session attributes
        body.be(UInt16(0))  // empty password
        body.be(UInt16(data.count))
        body.append(data)
        return command(tag: 0x8002, code: 0x0000_013C, body: body.bytes)
    }

    /// TPM2_GetCapability (§30.2) for TPM_CAP_PCRS: which banks exist and which registers they hold.
    public static let registerBanks: [UInt8] = {
        var body = ByteWriter()
        for value: UInt32 in [5, 0, 1] { body.be(value) }
        return command(tag: 0x8001, code: 0x0000_017A, body: body.bytes)
    }()

    private static func command(tag: UInt16, code: UInt32, body: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.be(tag)
        writer.be(UInt32(10 + body.count))
        writer.be(code)
        writer.append(body)
        return writer.bytes
    }
}

/// Answers to `TPMCommand`.
public enum TPMAnswer {
    /// Any answer is smaller than this, bytes.
    public static let maximumSize = 4096

    /// The digests that TPM2_PCR_Event extended, one for each algorithm of the TPM, active bank or not.
    /// - Throws: `TPMRefusal` or `ParseError`.
    public static func eventDigests(_ answer: [UInt8]) throws -> [(bank: RegisterBank, digest: [UInt8])] {
        var reader = try body(of: answer, to: "TPM2_PCR_Event", tag: 0x8002)
        let size = Int(try reader.be(UInt32.self, "parameterSize"))
        var parameters = try reader.sub(size, "parameters")
        let count = try parameters.be(UInt32.self, "digests.count")
        guard count <= 16 else { throw ParseError("range", field: "digests.count", offset: 14, "\(count) digests") }
        var digests: [(RegisterBank, [UInt8])] = []
        for _ in 0..<count {
            let offset = parameters.offset
            let algorithm = try parameters.be(UInt16.self, "digest.hashAlg")
            guard let bank = RegisterBank(algorithm: algorithm) else {
                throw ParseError("range", field: "digest.hashAlg", offset: offset, "unknown algorithm \(algorithm)")
            }
            digests.append((bank, try parameters.take(bank.size, "digest")))
        }
        try parameters.end("parameters")
        // The authorisation of a password session: nonce, attributes, HMAC, all empty.
        try reader.zeros(2, "nonceTPM")
        _ = try reader.u8("sessionAttributes")
        try reader.zeros(2, "hmac")
        try reader.end("TPM2_PCR_Event")
        return digests
    }

    /// The algorithms whose bank holds `register`.
    /// - Throws: `TPMRefusal` or `ParseError`.
    public static func activeBanks(_ answer: [UInt8], holding register: UInt8) throws -> [RegisterBank] {
        var reader = try body(of: answer, to: "TPM2_GetCapability", tag: 0x8001)
        _ = try reader.u8("moreData")
        guard try reader.be(UInt32.self, "capability") == 5 else {
            throw ParseError("form", field: "capability", offset: 11, "not TPM_CAP_PCRS")
        }
        let count = try reader.be(UInt32.self, "selections")
        guard count <= 16 else { throw ParseError("range", field: "selections", offset: 15, "\(count) selections") }
        var banks: [RegisterBank] = []
        for _ in 0..<count {
            let offset = reader.offset
            let algorithm = try reader.be(UInt16.self, "selection.hash")
            let bitmap = try reader.take(Int(try reader.u8("selection.size")), "selection.bitmap")
            guard bitmap.indices.contains(Int(register / 8)), bitmap[Int(register / 8)] >> (register % 8) & 1 == 1
            else { continue }
            guard let bank = RegisterBank(algorithm: algorithm) else {
                throw ParseError("range", field: "selection.hash", offset: offset, "unknown algorithm \(algorithm)")
            }
            banks.append(bank)
        }
        try reader.end("TPM2_GetCapability")
        return banks
    }

    /// The bytes after the header, or why the command failed.
    private static func body(of answer: [UInt8], to command: String, tag: UInt16) throws -> ByteReader {
        var reader = ByteReader(answer)
        let found = try reader.be(UInt16.self, "tag")
        let size = try reader.be(UInt32.self, "size")
        let code = try reader.be(UInt32.self, "code")
        guard code == 0 else { throw TPMRefusal(command: command, code: code) }
        guard found == tag, Int(size) == answer.count else {
            throw ParseError("form", field: "answer", offset: 0, "wrong tag or size")
        }
        return reader
    }
}
