import Bytes
import Crypto
import DiskFormat
import Glibc
import Linux
import StateDisk

/// What a host can write: headers with valid checksums, superblocks, sectors.
extension Cases {
    /// The header of the disk with the value at `path` replaced, written with valid checksums in both copies.
    private func write(_ disk: Disk, _ path: String, _ value: JSON?) throws {
        let header = try disk.ours().header
        let document = Self.replace(header.document, path.split(separator: ".").map(String.init)[...], value)
        for copy in BinaryHeader.Copy.allCases {
            let bytes = try BinaryHeader.bytes(
                copy, sequence: header.sequence + 1, uuid: header.uuid, document: document)
            try disk.write(bytes, at: copy.offset)
        }
    }

    private static func replace(_ json: JSON, _ path: ArraySlice<String>, _ value: JSON?) -> JSON {
        guard let name = path.first, var object = json.object else { return json }
        object[name] = path.count == 1 ? value : replace(object[name] ?? .object([:]), path.dropFirst(), value)
        return .object(object)
    }

    func headers() {
        let attacks: [(String, JSON?, String)] = [
            ("segments.0.encryption", "cipher_null-ecb", "header-cipher"),
            ("keyslots.0.area.encryption", "cipher_null-ecb", "header-cipher"),
            ("segments.0.encryption", "aes-cbc-plain64", "header-cipher"),
            ("segments.0.sector_size", 512, "header-size"), ("segments.0.offset", "33554432", "header-offset"),
            ("segments.0.integrity", nil, "header-form"), ("segments.0.integrity.type", "none", "header-integrity"),
            ("segments.1", ["type": "linear"], "header-count"),
            ("config.requirements", ["mandatory": ["online-reencrypt-v2"]], "header-form"),
            ("keyslots.0.kdf.type", "argon2id", "header-kdf"), ("digests.0.hash", "sha1", "header-digest"),
            ("digests.0.iterations", 1, "header-kdf"), ("keyslots.0.extra", "x", "header-form"),
            ("tokens.0.seal", "00", "header-form"), ("extra", "x", "header-form"),
        ]
        for (index, attack) in attacks.enumerated() {
            run("header-\(index)-\(attack.0)") {
                let disk = try Disk("small")
                try disk.restoring {
                    try write(disk, attack.0, attack.1)
                    guard case .damaged(let error) = try disk.state else { throw Failure("\(try disk.state)") }
                    try expect(error.finding.reason == attack.2, "\(error.finding)")
                }
            }
        }
        // Well-formed, but nothing that the key's owner wrote.
        for (path, value) in [
            ("tokens.0.generation", 900), ("digests.0.iterations", 2000), ("keyslots.0.kdf.iterations", 2000),
        ] as [(String, JSON)] {
            run("seal-\(path)") {
                let disk = try Disk("small")
                try disk.restoring {
                    try write(disk, path, value)
                    try expectUnopened("header-seal") { try disk.open(key: 1) }
                }
            }
        }
        for offset in [32768, 32768 + 385_023, 200_000] {
            run("seal-keyslot-byte-\(offset)") {
                let disk = try Disk("small")
                try disk.restoring {
                    try disk.write([try disk.read(offset, 1)[0] ^ 0x40], at: offset)
                    try expectUnopened("header-seal") { try disk.open(key: 1) }
                }
            }
        }
        run("seal-swapped-areas") {
            let (disk, other) = (try Disk("small"), try Disk("medium"))
            try disk.restoring {
                try disk.write(try other.read(32768, 385_024), at: 32768)
                try expectUnopened("header-seal") { try disk.open(key: 1) }
            }
        }
        run("seal-swapped-headers") {
            // Same key, node and cluster: another disk's header alone is valid, its superblock is not this one's.
            let (disk, other) = (try Disk("small"), try Disk("medium"))
            try disk.restoring {
                try disk.write(try other.header(), at: 0)
                try expectUnopened("header-seal") { try disk.open(key: 1) }
            }
        }
    }

    func superblocks() {
        let changes: [(String, Int, [UInt8])] = [
            ("magic", 0, [0x4A]), ("version", 8, [1]), ("interleave", 9, [10]), ("tag-size", 10, [4]),
            ("journal", 12, [0, 0, 0, 0]), ("journal-large", 12, [0xFF, 0xFF, 0xFF, 0x7F]),
            ("data-sectors", 16, [0, 0, 0, 0, 0, 0, 0, 0x10]), ("flags-mac", 24, [9]), ("flags-recalculate", 24, [0xA]),
            ("flags-bitmap", 24, [0xC]), ("flags-none", 24, [0]), ("flags-inline", 24, [0x28]), ("block", 28, [0]),
            ("salt", 48, [1]), ("padding", 30, [1]), ("recalculation", 32, [8]),
        ]
        for (name, offset, bytes) in changes {
            run("superblock-\(name)") {
                let disk = try Disk("small")
                try disk.restoring {
                    try disk.write(bytes, at: DiskLayout.dataOffset + offset)
                    let reason = ["salt", "padding"].contains(name) ? "header-reserved" : "header-superblock"
                    try expectUnopened(reason) { try disk.open(key: 1) }
                }
            }
        }
        run("superblock-fewer-sectors") {
            // Well-formed; the seal knows the other one.
            let disk = try Disk("small")
            try disk.restoring {
                try disk.write([0], at: DiskLayout.dataOffset + 17)
                try expectUnopened("header-seal") { try disk.open(key: 1) }
            }
        }
    }

    /// Digests of a disk's sectors behind the header, to find the one that a write has changed.
    private func sectors(_ disk: Disk) throws -> [UInt64] {
        let source = try ByteSource(file: disk.device.path)
        var sums: [UInt64] = []
        var offset = DiskLayout.dataOffset
        while offset < source.count {
            let piece = try source.read(at: offset, count: min(4 << 20, source.count - offset), "disk")
            unsafe piece.withUnsafeBytes { bytes in
                for start in stride(from: 0, to: bytes.count - 4095, by: 4096) {
                    var sum: UInt64 = 0
                    for word in stride(from: start, to: start + 4096, by: 8) {
                        sum = unsafe (sum &* 31) &+ bytes.load(fromByteOffset: word, as: UInt64.self)
                    }
                    sums.append(sum)
                }
            }
            offset += piece.count
        }
        return sums
    }

    /// Writes to the open disk itself, below any file system.
    private func writeMapped(_ bytes: [UInt8], at offset: Int) throws {
        let file = try File(OpenDisk.mapped, O_RDWR)
        let put = unsafe bytes.withUnsafeBytes { unsafe pwrite(file.descriptor, $0.baseAddress, $0.count, offset) }
        guard put == bytes.count, fsync(file.descriptor) == 0 else { throw SystemError.last("write mapped") }
    }

    func ciphertext() {
        let offset = 850 << 20
        let written = Content.bytes(77, 4096)
        run("flipped-bits-are-errors") {
            let disk = try Disk("small")
            func use(_ body: () throws -> Void) throws {
                let open = try disk.open(key: 1)
                let result = Result(catching: body)
                try open.close()
                try result.get()
            }
            try use { try writeMapped(Content.bytes(76, 4096), at: offset) }
            let before = try sectors(disk)
            try use { try writeMapped(written, at: offset) }
            let after = try sectors(disk)
            // The journal and the tags come first on the disk; the last changed sector is the data.
            guard let sector = before.indices.last(where: { before[$0] != after[$0] }) else {
                throw Failure("nothing changed")
            }
            let place = DiskLayout.dataOffset + sector * 4096
            let good = try disk.read(place, 4096)
            for bit in [0, 1, 7, 100, 4095 * 8 + 7, 2048 * 8] {
                var bad = good
                bad[bit / 8] ^= 1 << UInt8(bit % 8)
                try disk.write(bad, at: place)
                try use {
                    guard (try? ByteSource(file: OpenDisk.mapped).read(at: offset, count: 4096, "mapped")) == nil else {
                        throw Failure("bit \(bit): bytes instead of an error")
                    }
                }
            }
            // An older ciphertext of the same place is refused as well, since its tag is no longer there.
            try expect(Machine.untagged > 0, "the kernel reported nothing")
            try disk.write(good, at: place)
            try use {
                let found = try ByteSource(file: OpenDisk.mapped).read(at: offset, count: 4096, "mapped")
                try expect(found == written, "other bytes after the repair")
            }
            // And two good sectors exchanged.
            let other = try disk.read(place - 4096, 4096)
            try disk.write(good, at: place - 4096)
            try use {
                let found = try? ByteSource(file: OpenDisk.mapped).read(at: offset - 4096, count: 4096, "mapped")
                try expect(found == nil, "a sector of another place was accepted")
            }
            try disk.write(other, at: place - 4096)
        }
        run("files-are-untouched-by-all-of-this") {
            try Disk("small").mounted(key: 1) { folder in
                try Content.check("\(folder)/first", Content.bytes(1, 1 << 20))
                try Content.check("\(folder)/large", Content.bytes(7, 64 << 20))
            }
        }
    }

    /// A sector of a file with other bytes and a right tag, as an older one is that the host puts back with its own: the
    /// integrity layer accepts it, the file system's checksum does not.
    func olderSector() {
        run("older-sector-of-a-file-is-an-error") {
            let disk = try Disk("foreign")
            let content = Content.bytes(78, 1 << 16)
            try disk.mounted(key: 1) { try Content.write("\($0)/file", content) }
            let sector = Array(content.prefix(4096))
            func put(_ bytes: [UInt8], at offset: Int) throws {
                let open = try disk.open(key: 1)
                let result = Result { try writeMapped(bytes, at: offset) }
                try open.close()
                try result.get()
            }
            let open = try disk.open(key: 1)
            // Where the first data of a file system of this size lies; most of what is in between was never written.
            let place = Result {
                let mapped = try ByteSource(file: OpenDisk.mapped)
                return stride(from: 0, to: 256 << 20, by: 4096).first { offset in
                    (try? mapped.read(at: offset, count: 4096, "mapped")) == sector
                }
            }
            try open.close()
            guard let offset = try place.get() else { throw Failure("the file's first sector is not on the disk") }
            try put(Content.bytes(79, 4096), at: offset)
            try disk.mounted(key: 1) { folder in
                let found = try? File.contents("\(folder)/file", limit: 1 << 20)
                try expect(found == nil, "an older sector was handed out")
                try Content.check("\(folder)/x", [1])
            }
            try put(sector, at: offset)
            try disk.mounted(key: 1) { try Content.check("\($0)/file", content) }
        }
    }
}
