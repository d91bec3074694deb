import Bytes
import Crypto

@testable import DiskFormat

/// A header as libcryptsetup writes it for `DiskLayout`, every part open to change.
struct HeaderBuilder {
    var sequence: (UInt64, UInt64) = (5, 5)
    var uuid = "0e9c1c67-6c5b-4a4c-9d0e-6e6163726531"
    var json: JSON = Self.document()
    /// Raw changes of a copy before its checksum is made (offset in the copy, bytes), and after.
    var before: [(Int, [UInt8])] = []
    var after: [(Int, [UInt8])] = []

    static let salt = JSON.base64([UInt8](repeating: 3, count: 32))

    static func keyslot(_ index: Int = 0) -> JSON {
        [
            "type": "luks2", "key_size": 96,
            "af": ["type": "luks1", "stripes": 4000, "hash": "sha256"],
            "area": [
                "type": "raw", "offset": .string("\(32768 + index * 385_024)"), "size": "385024",
                "encryption": "aes-xts-plain64", "key_size": 64,
            ],
            "kdf": ["type": "pbkdf2", "hash": "sha256", "iterations": 1000, "salt": salt],
        ]
    }

    static func token(keyslot: Int = 0) -> JSON {
        [
            "type": "nacre", "keyslots": [.string("\(keyslot)")], "cluster": .hex([UInt8](repeating: 7, count: 32)),
            "node": "control-plane-0", "epoch": 1, "generation": 4, "seal": .hex([UInt8](repeating: 9, count: 32)),
        ]
    }

    static func document() -> JSON {
        [
            "keyslots": ["0": keyslot()],
            "tokens": ["0": token()],
            "segments": [
                "0": [
                    "type": "crypt", "offset": "16777216", "size": "dynamic", "iv_tweak": "0",
                    "encryption": "aes-xts-plain64", "sector_size": 4096,
                    "integrity": [
                        "type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none",
                    ],
                ]
            ],
            "digests": [
                "0": [
                    "type": "pbkdf2", "keyslots": ["0"], "segments": ["0"], "hash": "sha256", "iterations": 1000,
                    "salt": salt, "digest": salt,
                ]
            ],
            "config": ["json_size": "12288", "keyslots_size": "770048"],
        ]
    }

    /// The document with the value at `path` replaced, or removed.
    func setting(_ path: String, _ value: JSON?) -> HeaderBuilder {
        var copy = self
        copy.json = Self.replace(json, path.split(separator: ".").map(String.init)[...], value)
        return copy
    }

    private static func replace(_ json: JSON, _ path: ArraySlice<String>, _ value: JSON?) -> JSON {
        guard let key = path.first, var object = json.object else { return json }
        if path.count == 1 {
            object[key] = value
        } else {
            object[key] = replace(object[key] ?? .object([:]), path.dropFirst(), value)
        }
        return .object(object)
    }

    func copy(_ copy: BinaryHeader.Copy) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(copy.magic)
        writer.be(UInt16(2))
        writer.be(UInt64(BinaryHeader.size))
        writer.be(copy == .primary ? sequence.0 : sequence.1)
        writer.zeros(48)
        writer.append(Array("sha256".utf8))
        writer.zeros(26)
        writer.append([UInt8](repeating: 0x55, count: 64))
        writer.append(Array(uuid.utf8))
        writer.zeros(4)
        writer.zeros(48)
        writer.be(copy == .primary ? UInt64(0) : UInt64(BinaryHeader.size))
        writer.zeros(184 + 64 + 7 * 512)
        var bytes = writer.bytes + Array(json.compact.utf8)
        bytes += [UInt8](repeating: 0, count: max(0, BinaryHeader.size - bytes.count))
        for (offset, change) in before { bytes.replaceSubrange(offset..<offset + change.count, with: change) }
        bytes.replaceSubrange(448..<512, with: [UInt8](repeating: 0, count: 64))
        bytes.replaceSubrange(448..<480, with: HashAlgorithm.sha256.hash(bytes))
        for (offset, change) in after { bytes.replaceSubrange(offset..<offset + change.count, with: change) }
        return bytes
    }

    var bytes: [UInt8] {
        let headers = copy(.primary) + copy(.secondary)
        return headers + [UInt8](repeating: 0xA5, count: DiskLayout.headerSize - headers.count)
    }
}

/// The reason a header is refused with; `nil` when it is accepted.
func refusal(_ bytes: [UInt8]) -> String? {
    do throws(HeaderError) {
        _ = try DiskHeader(parsing: bytes)
        return nil
    } catch { return error.finding.reason }
}

/// A name that is one.
func namedNode(_ name: String) -> NodeName {
    guard let node = NodeName(name) else { preconditionFailure("\(name) is no node's name") }
    return node
}
