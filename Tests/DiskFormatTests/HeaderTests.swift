import Bytes
import Crypto
import TestKit
import Testing

@testable import DiskFormat

@Suite struct HeaderTests {
    @Test func whatNacreWritesIsRead() throws {
        let header = try DiskHeader(parsing: HeaderBuilder().bytes)
        #expect(header.sequence == 5)
        #expect(header.metadata.keyslots == [.init(id: 0, offset: 32768, size: 385_024)])
        let binding = try #require(header.metadata.bindings.first)
        #expect(binding.node == namedNode("control-plane-0"))
        #expect(binding.generation == 4)
    }

    @Test func twoKeyslotsWhileRekeying() throws {
        var builder = HeaderBuilder()
        builder = builder.setting("keyslots.1", HeaderBuilder.keyslot(1))
            .setting("digests.0.keyslots", ["0", "1"]).setting("tokens.1", HeaderBuilder.token(keyslot: 1))
        #expect(try DiskHeader(parsing: builder.bytes).metadata.keyslots.count == 2)
        // A token that only one of them has yet.
        #expect(try DiskHeader(parsing: builder.setting("tokens.1", nil).bytes).metadata.bindings.count == 1)
    }

    /// The attacks of CVE-2025-58356 and CVE-2025-59054 and their relatives: a value of the document, what it becomes.
    static let attacks: [(path: String, value: JSON?, reason: String)] = {
        let ciphers: [JSON] = [
            "cipher_null-ecb", "null", "aes-xts-plain", "aes-cbc-essiv:sha256", "aes-cbc-plain64",
            "serpent-xts-plain64",
            "twofish-xts-plain64", "capi:xts(aes)-plain64", "capi:ecb(cipher_null)-null", "aes-ecb", "AES-XTS-PLAIN64",
            "aes-xts-plain64 ", "", "aes-gcm-random", "aegis128-random", "aes-xts-random", "aes-xts-null",
            "aes-xts-benbi", "aes-xts-essiv:sha256", "chacha20-random",
        ]
        var list: [(String, JSON?, String)] = []
        for cipher in ciphers {
            list.append(("segments.0.encryption", cipher, "header-cipher"))
            list.append(("keyslots.0.area.encryption", cipher, "header-cipher"))
        }
        for size: JSON in ["0", "1", "4096", "16777215", "16777217", "32768", "-1", "16777216 ", "016777216", "x"] {
            list.append(("segments.0.offset", size, "header-offset"))
            list.append(("segments.0.size", size, "header-size"))
        }
        for size: JSON in [0, 512, 1024, 2048, 8192, -4096, 4097] {
            list.append(("segments.0.sector_size", size, "header-size"))
        }
        for size: JSON in [0, 16, 32, 64, 95, 97, 128, 256] {
            list.append(("keyslots.0.key_size", size, "header-keyslot"))
        }
        for size: JSON in [0, 16, 32, 63, 65, 96] { list.append(("keyslots.0.area.key_size", size, "header-cipher")) }
        for offset: JSON in ["0", "4096", "16384", "28672", "32769", "417793", "421888", "16777216", "9999999999999"] {
            list.append(("keyslots.0.area.offset", offset, "header-offset"))
        }
        for size: JSON in ["0", "4096", "385023", "389120", "258048"] {
            list.append(("keyslots.0.area.size", size, "header-size"))
        }
        for kind: JSON in ["linear", "crypt ", "zero", "reencrypt", ""] {
            list.append(("segments.0.type", kind, "header-segment"))
        }
        for kind: JSON in ["none", "hmac(sha1)", "hmac(sha512)", "crc32", "poly1305", "cmac(aes)", ""] {
            list.append(("segments.0.integrity.type", kind, "header-integrity"))
        }
        list.append(("segments.0.integrity", nil, "header-form"))
        for kind: JSON in ["argon2i", "argon2id", "none", "scrypt"] {
            list.append(("keyslots.0.kdf.type", kind, "header-kdf"))
            list.append(("digests.0.type", kind, "header-digest"))
        }
        for hash: JSON in ["sha1", "md5", "ripemd160", "sha512", "crc32", ""] {
            list.append(("keyslots.0.kdf.hash", hash, "header-kdf"))
            list.append(("keyslots.0.af.hash", hash, "header-keyslot"))
            list.append(("digests.0.hash", hash, "header-digest"))
        }
        for count: JSON in [0, 1, 999, -1, 10_000_001, 4_294_967_295] {
            list.append(("keyslots.0.kdf.iterations", count, "header-kdf"))
            list.append(("digests.0.iterations", count, "header-kdf"))
        }
        for stripes: JSON in [0, 1, 3999, 4001] { list.append(("keyslots.0.af.stripes", stripes, "header-keyslot")) }
        // A second segment, re-encryption, backup segments.
        let segment = HeaderBuilder.document()["segments"]?["0"]
        for id in 1...20 { list.append(("segments.\(id)", segment, "header-count")) }
        list.append(("segments.0.flags", ["backup-previous"], "header-form"))
        list.append(("segments", .object([:]), "header-count"))
        for flag: JSON in [
            ["mandatory": ["online-reencrypt"]], ["mandatory": ["online-reencrypt-v2"]], ["mandatory": []],
            ["mandatory": ["offline-reencrypt"]], [:],
        ] { list.append(("config.requirements", flag, "header-form")) }
        for flag: JSON in [["allow-discards"], ["no-journal"], ["same-cpu-crypt"], []] {
            list.append(("config.flags", flag, "header-form"))
        }
        for size: JSON in ["0", "4096", "12287", "16384", "1044480"] {
            list.append(("config.json_size", size, "header-size"))
            list.append(("config.keyslots_size", size, "header-size"))
        }
        // Fields that nobody knows, everywhere.
        for path in [
            "extra", "keyslots.0.extra", "keyslots.0.priority", "keyslots.0.af.extra", "keyslots.0.area.extra",
            "keyslots.0.area.hash", "keyslots.0.area.shift_size", "keyslots.0.kdf.cpus", "keyslots.0.kdf.memory",
            "keyslots.0.mode", "keyslots.0.direction", "segments.0.extra", "segments.0.integrity.extra",
            "segments.0.opal_segment_number", "digests.0.extra", "config.extra", "config.label", "tokens.0.extra",
            "tokens.0.keyring", "reencrypt",
        ] { list.append((path, "x", "header-form")) }
        // Keyslots and digests that do not belong together.
        list.append(("keyslots.0.type", "reencrypt", "header-keyslot"))
        list.append(("keyslots.1", HeaderBuilder.keyslot(1), "header-digest"))
        list.append(("keyslots", .object([:]), "header-count"))
        list.append(("digests", .object([:]), "header-count"))
        list.append(("digests.0.keyslots", [], "header-digest"))
        list.append(("digests.0.keyslots", ["1"], "header-digest"))
        list.append(("digests.0.segments", [], "header-digest"))
        list.append(("digests.0.segments", ["0", "1"], "header-digest"))
        list.append(("digests.0.digest", .base64([1, 2, 3]), "header-digest"))
        list.append(("digests.0.salt", .base64([1, 2, 3]), "header-kdf"))
        list.append(("digests.1", HeaderBuilder.document()["digests"]?["0"], "header-count"))
        list.append(("tokens.0.type", "luks2-keyring", "header-token"))
        list.append(("tokens.0.keyslots", ["5"], "header-token"))
        list.append(("tokens.0.keyslots", [], "header-token"))
        list.append(("tokens.1", HeaderBuilder.token(), "header-token"))
        list.append(("tokens.0.node", "", "header-token"))
        list.append(("tokens.0.generation", -1, "header-token"))
        list.append(("tokens.0.seal", "00", "header-form"))
        return list
    }()

    @Test func everyChangedValueIsRefusedForItsReason() {
        for attack in Self.attacks {
            let found = refusal(HeaderBuilder().setting(attack.path, attack.value).bytes)
            #expect(found == attack.reason, "\(attack.path) = \(attack.value?.compact ?? "nothing")")
        }
        #expect(Self.attacks.count > 200)
    }

    @Test func overlappingKeyslots() {
        let builder = HeaderBuilder().setting("keyslots.1", HeaderBuilder.keyslot(0))
            .setting("digests.0.keyslots", ["0", "1"])
        #expect(refusal(builder.bytes) == "header-overlap")
    }

    @Test func damagedDocuments() {
        let text = Array(HeaderBuilder.document().compact.utf8)
        for index in stride(from: 0, to: text.count, by: 17) {
            var builder = HeaderBuilder()
            // Cut short with a NUL, and broken with a brace; the checksum is made anew.
            builder.before = [(4096 + index, [0])]
            #expect(refusal(builder.bytes) != nil)
            builder.before = [(4096 + index, Array("}".utf8))]
            #expect(refusal(builder.bytes) != nil || text[index] == UInt8(ascii: "}"))
        }
        var builder = HeaderBuilder()
        builder.before = [(16000, [1])]
        #expect(refusal(builder.bytes) == "header-form")
    }

    @Test func binaryHeaders() {
        let changes: [(Int, [UInt8], String)] = [
            (0, [0x4D], "header-magic"), (7, [1], "header-version"), (7, [3], "header-version"),
            (8, [1], "header-size"), (14, [0x80], "header-size"), (24, [0x41], "header-reserved"),
            (72, Array("sha1\0\0".utf8), "header-checksum"), (78, [1], "header-checksum"),
            (208, Array("system".utf8), "header-reserved"), (263, [1], "header-offset"), (300, [1], "header-reserved"),
            (600, [1], "header-reserved"), (168, Array("G".utf8), "header-form"),
        ]
        for (offset, bytes, reason) in changes {
            var builder = HeaderBuilder()
            builder.before = [(offset, bytes)]
            #expect(
                refusal(builder.bytes)?.hasPrefix(reason) ?? false, "offset \(offset): \(refusal(builder.bytes) ?? "-")"
            )
        }
        var builder = HeaderBuilder()
        builder.after = [(470, [1])]
        #expect(refusal(builder.bytes) == "header-checksum")
        builder.after = [(500, [1])]
        #expect(refusal(builder.bytes) == "header-checksum")
    }

    /// A copy that a power cut damaged does not matter; two that contradict each other do.
    @Test func twoCopies() throws {
        let good = HeaderBuilder().bytes
        for start in [0, BinaryHeader.size] {
            var torn = good
            for index in start + 4100..<start + 4400 { torn[index] = 0xFF }
            #expect(refusal(torn) == nil)
            for index in 0..<2 * BinaryHeader.size where !index.isMultiple(of: 64) { torn[index] = 0xFF }
            #expect(refusal(torn) != nil)
        }
        var newer = HeaderBuilder().setting("tokens.0.generation", 5)
        newer.sequence = (6, 6)
        let half = newer.copy(.primary) + Array(good[BinaryHeader.size...])
        #expect(try DiskHeader(parsing: half).metadata.bindings.first?.generation == 5)
        let otherHalf = Array(good[..<BinaryHeader.size]) + newer.copy(.secondary) + good[(2 * BinaryHeader.size)...]
        #expect(try DiskHeader(parsing: otherHalf).metadata.bindings.first?.generation == 5)
        newer.sequence = (5, 5)
        let contradiction = newer.copy(.primary) + Array(good[BinaryHeader.size...])
        #expect(refusal(contradiction) == "header-copies")
        var other = HeaderBuilder()
        other.uuid = "1e9c1c67-6c5b-4a4c-9d0e-6e6163726531"
        #expect(refusal(other.copy(.primary) + Array(good[BinaryHeader.size...])) == "header-copies")
        // Swapped: each in the other's place.
        let swapped =
            Array(good[BinaryHeader.size..<2 * BinaryHeader.size]) + Array(good[..<BinaryHeader.size])
            + good[(2 * BinaryHeader.size)...]
        #expect(refusal(swapped) == "header-magic")
    }

    @Test func sizes() {
        let good = HeaderBuilder().bytes
        for count in [0, 1, 4096, 16384, 32768, good.count - 1] {
            #expect(refusal(Array(good.prefix(count))) == "header-truncated")
        }
        #expect(refusal(good + [0]) == "header-truncated")
        #expect(DiskHeader.isBlank([UInt8](repeating: 0, count: 1 << 20)))
        #expect(!DiskHeader.isBlank(good))
    }

    /// No bit of the headers can change without the change being refused or the other copy counting.
    @Test func bitFlips() throws {
        var generator = SeededGenerator(seed: 5)
        let good = HeaderBuilder().copy(.primary)
        for _ in 0..<500 {
            var bytes = good
            let index = Int.random(in: 0..<bytes.count, using: &generator)
            bytes[index] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
            #expect(throws: HeaderError.self) { try BinaryHeader(parsing: bytes, copy: .primary) }
        }
    }

    /// cryptsetup's own headers are read up to the first thing that a state disk must not have.
    @Test func cryptsetupWithoutIntegrityIsRefusedForIt() throws {
        guard let cryptsetup = Tool.find("cryptsetup") else {
            print("skipped: cryptsetup is missing")
            return
        }
        let folder = try TemporaryFolder()
        let disk = "\(folder.path)/disk"
        _ = try Tool.run(["/usr/bin/truncate", "-s", "20M", disk])
        let made = try Tool.run(
            [
                cryptsetup, "luksFormat", "-q", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512",
                "--sector-size", "4096", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha256",
                "--luks2-metadata-size", "16k", "--luks2-keyslots-size", "770048", "--key-file", "-", disk,
            ], input: [UInt8](repeating: 0x41, count: 32))
        guard made.status == 0 else {
            print("skipped: cryptsetup cannot format a file here: \(made.errors)")
            return
        }
        let bytes = Array(try Files.read(disk, limit: 64 << 20).prefix(DiskLayout.headerSize))
        // Both binary headers are as this parser wants them.
        #expect(try BinaryHeader(parsing: Array(bytes.prefix(BinaryHeader.size)), copy: .primary).sequence > 0)
        // The key of 64 bytes has no room for the HMAC's.
        #expect(refusal(bytes) == "header-keyslot")
    }
}
