import Bytes
import Crypto

/// PCR values by bank and index (TPM 2.0 Part 1 §17).
///
/// JSON form: `{"sha256": {"0": "<hex>", …}, …}`.
public struct PCRBank: Equatable, Sendable {
    /// Bank → index → digest of the bank's length.
    public private(set) var values: [HashAlgorithm: [Int: [UInt8]]]

    /// PCRs of a PC Client TPM: 0…23.
    public static let indices = 0..<24

    public init() { values = [:] }

    /// - Throws: `ParseError` for an index beyond 23 or a digest of another length than its bank's.
    public init(values: [HashAlgorithm: [Int: [UInt8]]], path: String = "pcrs") throws(ParseError) {
        self.init()
        for (hash, registers) in values {
            self.values[hash] = [:]
            for (index, digest) in registers {
                guard Self.indices.contains(index), digest.count == hash.size else {
                    throw ParseError(
                        "range", field: "\(path).\(hash.rawValue).\(index)", offset: 0, "\(digest.count) bytes")
                }
                self[hash, index] = digest
            }
        }
    }

    /// - Throws: `ParseError` for an unknown bank, an index beyond 23 or not canonical, a digest of another length.
    public init(json: JSON, path: String = "pcrs") throws(ParseError) {
        self.init()
        guard let banks = json.object else {
            throw ParseError("form", field: path, offset: 0, "must be an object of banks")
        }
        for (name, bank) in banks {
            guard let hash = HashAlgorithm(rawValue: name) else {
                throw ParseError("form", field: "\(path).\(name)", offset: 0, "not a bank known here")
            }
            guard let registers = bank.object else {
                throw ParseError("form", field: "\(path).\(name)", offset: 0, "must be an object of indices")
            }
            values[hash] = [:]
            for (key, value) in registers {
                guard let index = Int(key), Self.indices.contains(index), String(index) == key else {
                    throw ParseError("form", field: "\(path).\(name)", offset: 0, "\"\(key)\" is no PCR index")
                }
                self[hash, index] = try JSONFields.hex(value, path: "\(path).\(name).\(key)", count: hash.size)
            }
        }
    }

    /// Reads the JSON form from a file's bytes, at most 1 MiB.
    public init(parsing bytes: [UInt8]) throws(ParseError) {
        try self.init(json: try JSON(parsing: bytes, limit: 1 << 20))
    }

    public subscript(hash: HashAlgorithm, index: Int) -> [UInt8]? {
        get { values[hash]?[index] }
        set { values[hash, default: [:]][index] = newValue }
    }

    /// Banks present, shortest digest first.
    public var banks: [HashAlgorithm] { values.keys.sorted { $0.order < $1.order } }

    /// Every value in order of bank and index.
    public var sorted: [(hash: HashAlgorithm, index: Int, digest: [UInt8])] {
        banks.flatMap { hash in
            (values[hash] ?? [:]).sorted { $0.key < $1.key }.map { (hash, $0.key, $0.value) }
        }
    }

    public var json: JSON {
        .object(
            Dictionary(
                uniqueKeysWithValues: values.map { hash, registers in
                    let fields = registers.map { (String($0.key), JSON.hex($0.value)) }
                    return (hash.rawValue, JSON.object(Dictionary(uniqueKeysWithValues: fields)))
                }))
    }

    /// The value of a PCR that nobody has extended: zeros, but ones in the D-RTM registers 17–22 (PC Client PTP §4.6).
    public static func start(_ hash: HashAlgorithm, _ index: Int) -> [UInt8] {
        [UInt8](repeating: (17...22).contains(index) ? 0xFF : 0, count: hash.size)
    }

    /// `tpm/<bank>/<index>`, the claim name of one register.
    public static func claim(_ hash: HashAlgorithm, _ index: Int) -> String { "tpm/\(hash.rawValue)/\(index)" }
}

/// One TPMS_PCR_SELECTION (TPM 2.0 Part 2 §10.6.2): a bank and the indices chosen in it.
public struct PCRSelection: Equatable, Sendable {
    public let hash: HashAlgorithm
    /// Ascending.
    public let indices: [Int]

    public init(hash: HashAlgorithm, indices: [Int]) {
        self.hash = hash
        self.indices = indices.sorted()
    }

    /// A TPML_PCR_SELECTION. Each bank at most once, no index beyond 23.
    static func list(_ reader: inout ByteReader, _ field: String) throws(ParseError) -> [PCRSelection] {
        let start = reader.offset
        let count = try reader.be(UInt32.self, "\(field).count")
        guard count <= 16 else {
            throw ParseError("range", field: "\(field).count", offset: start, "\(count) selections, at most 16")
        }
        var selections: [PCRSelection] = []
        for _ in 0..<count {
            let offset = reader.offset
            let hash = try reader.hash("\(field).hash")
            let size = try reader.u8("\(field).sizeofSelect")
            guard (1...4).contains(size) else {
                throw ParseError("range", field: "\(field).sizeofSelect", offset: offset + 2, "\(size) bytes")
            }
            let bitmap = try reader.take(Int(size), "\(field).pcrSelect")
            guard !selections.contains(where: { $0.hash == hash }) else {
                throw ParseError("form", field: "\(field).hash", offset: offset, "bank \(hash.rawValue) stands twice")
            }
            var indices: [Int] = []
            for (byte, bits) in bitmap.enumerated() {
                for bit in 0..<8 where bits & (1 << UInt8(bit)) != 0 { indices.append(byte * 8 + bit) }
            }
            if let last = indices.last, !PCRBank.indices.contains(last) {
                throw ParseError("range", field: "\(field).pcrSelect", offset: offset + 3, "PCR \(last) selected")
            }
            selections.append(PCRSelection(hash: hash, indices: indices))
        }
        return selections
    }

    /// The TPML_PCR_SELECTION of `selections`, three bytes per bitmap as PC Client TPMs write it.
    static func write(_ selections: [PCRSelection], into writer: inout ByteWriter) {
        writer.be(UInt32(selections.count))
        for selection in selections {
            writer.be(selection.hash.tpmIdentifier)
            writer.u8(3)
            var bitmap: [UInt8] = [0, 0, 0]
            for index in selection.indices where PCRBank.indices.contains(index) {
                bitmap[index / 8] |= 1 << UInt8(index % 8)
            }
            writer.append(bitmap)
        }
    }
}
