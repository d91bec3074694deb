import Bytes
import Crypto
import DiskFormat
import Glibc
import Linux
import StateDisk

/// The table of cases, in an order in which each finds the disks as the ones before left them.
struct Cases {
    static let cluster = [UInt8](repeating: 0xC1, count: 32)
    static func binding(_ node: NodeName = testNode, epoch: Int = 0, generation: Int = 0) -> DiskBinding {
        DiskBinding(clusterID: cluster, node: node, epoch: epoch, generation: generation)
    }

    /// Runs one case and says how it went; what `body` returns is printed with it.
    func noted(_ name: String, _ body: () throws -> String) {
        do {
            let note = try body()
            say("case \(name) ok\(note.isEmpty ? "" : " \(note)")")
        } catch {
            say(
                "case \(name) FAIL \(String(describing: error).split(whereSeparator: \.isNewline).joined(separator: " "))"
            )
        }
    }

    func run(_ name: String, _ body: () throws -> Void) {
        noted(name) {
            try body(); return ""
        }
    }

    /// Formats and closes again.
    func format(
        _ disk: Disk, key number: UInt8, binding: DiskBinding, allowForeign: Bool = false
    ) throws {
        let key = testKey(number)
        try StateDisk.format(disk.device, key: key, binding: binding, allowForeign: allowForeign).close()
    }

    func milliseconds(_ body: () throws -> Void) rethrows -> Int {
        let start = BootClock.milliseconds
        try body()
        return BootClock.milliseconds - start
    }

    func table() {
        selection()
        for name in ["small", "medium", "large"] { fromBlank(name) }
        data()
        binding()
        headers()
        superblocks()
        tornCopies()
        foreign()
        rekeying()
        ciphertext()
        olderSector()
        say("case all ok")
    }

    /// The times alone, the largest disk first: whatever the first one has to load counts against it.
    func blank() {
        for name in ["medium", "large", "small"] { fromBlank(name) }
        say("case all ok")
    }

    // MARK: Which disk

    func selection() {
        run("rule-several") { try expectRefusal("disk-several") { _ = try StateDisk.find(.only) } }
        run("rule-none") { try expectRefusal("disk-none") { _ = try StateDisk.find(.id("absent")) } }
        run("rule-no-label") { try expectRefusal("disk-none") { _ = try StateDisk.find(.label("state")) } }
        run("rule-size") {
            let found = try StateDisk.find(.size(minimum: 20 << 30, maximum: 40 << 30))
            try expect(found.ids.contains("medium"), "found \(found)")
        }
        run("rule-id") {
            try expect(try StateDisk.find(.id("virtio-small")) == StateDisk.find(.id("small")), "two disks")
        }
        run("rule-too-small") { try expectRefusal("disk-none") { _ = try StateDisk.find(.id("tiny")) } }
    }

    // MARK: Blank to mounted

    /// One figure for the whole way, as a node goes it.
    func fromBlank(_ name: String) {
        noted("blank-\(name)") {
            let disk = try Disk(name)
            try expect(try disk.state == .blank, "not blank: \(try disk.state)")
            let start = BootClock.milliseconds
            let key = testKey(1)
            let open = try StateDisk.format(disk.device, key: key, binding: Self.binding())
            let made = BootClock.milliseconds
            try open.mount(at: "/mnt")
            let mounted = BootClock.milliseconds
            try Content.write("/mnt/first", Content.bytes(1, 1 << 20))
            try open.unmount("/mnt")
            try open.close()
            var again = 0
            let reopening = BootClock.milliseconds
            let generation = try disk.mounted(key: 1) { _ in again = BootClock.milliseconds - reopening }
            try expect(generation == 1, "generation \(generation)")
            try disk.mounted(key: 1) { try Content.check("\($0)/first", Content.bytes(1, 1 << 20)) }
            try expect(Machine.untagged == 0, "the kernel met sectors without tags")
            return "blank to mounted \(mounted - start) ms (format \(made - start)), opened again \(again) ms"
        }
    }

    func data() {
        noted("data-again-after-closing") {
            let disk = try Disk("small")
            let bytes = Content.bytes(7, 64 << 20)
            let time = try milliseconds { try disk.mounted(key: 1) { try Content.write("\($0)/large", bytes) } }
            try disk.mounted(key: 1) { try Content.check("\($0)/large", bytes) }
            return "64 MiB written in \(time) ms"
        }
        run("many-files") {
            let disk = try Disk("small")
            try disk.mounted(key: 1) { folder in
                for index in 0..<2000 {
                    let file = try File("\(folder)/f\(index)", O_CREAT | O_WRONLY, mode: 0o600)
                    try file.write(Content.bytes(UInt64(index), 100 + index))
                }
            }
            try disk.mounted(key: 1) { folder in
                for index in 0..<2000 {
                    try Content.check("\(folder)/f\(index)", Content.bytes(UInt64(index), 100 + index))
                }
            }
            try expect(Machine.untagged == 0, "the kernel met sectors without tags")
        }
        run("unwritten-sector-is-an-error") {
            let disk = try Disk("small")
            let open = try disk.open(key: 1)
            // In the middle of the free space.
            let result = Result { try ByteSource(file: OpenDisk.mapped).read(at: 900 << 20, count: 4096, "mapped") }
            try open.close()
            guard case .failure = result else { throw Failure("bytes that nobody wrote") }
        }
    }

    // MARK: Whose disk, and how old

    func binding() {
        run("other-cluster") {
            let other = DiskBinding(
                clusterID: [UInt8](repeating: 2, count: 32), node: testNode, epoch: 0, generation: 0)
            try expectUnopened("disk-other-cluster") { try Disk("small").open(key: 1, expecting: other) }
        }
        run("other-node") {
            try expectUnopened("disk-other-node") {
                try Disk("small").open(key: 1, expecting: Self.binding(namedNode("worker-1")))
            }
        }
        run("other-epoch") {
            try expectUnopened("disk-epoch") { try Disk("small").open(key: 1, expecting: Self.binding(epoch: 3)) }
        }
        run("other-key") { try expectUnopened("header-seal") { try Disk("small").open(key: 2) } }
        run("older-copy") {
            let disk = try Disk("small")
            try disk.restoring {
                let old = try disk.header()
                var generation = 0
                for _ in 0..<2 { generation = try disk.mounted(key: 1) { _ in } }
                try disk.write(old, at: 0)
                try expectUnopened("disk-rollback") {
                    try disk.open(key: 1, expecting: Self.binding(generation: generation))
                }
            }
        }
        run("never-formatted-again") {
            try expectRefusal("disk-ours") {
                try format(try Disk("small"), key: 1, binding: Self.binding(), allowForeign: true)
            }
        }
    }

    // MARK: Power cuts leave one copy

    func tornCopies() {
        for (name, start) in [("first", 0), ("second", 16384)] {
            run("torn-\(name)-copy") {
                let disk = try Disk("small")
                try disk.write([UInt8](repeating: 0xFF, count: 512), at: start + 4096)
                let before = try disk.ours().binding.generation
                let after = try disk.mounted(key: 1) { try Content.check("\($0)/first", Content.bytes(1, 1 << 20)) }
                try expect(after == before + 1, "generation \(before), then \(after)")
                // Both are whole again.
                try disk.write([UInt8](repeating: 0, count: 512), at: 16384 - start)
                try expect(try disk.ours().binding.generation == after, "the repaired copy is another")
                _ = try disk.mounted(key: 1) { _ in }
            }
        }
        run("both-copies-torn") {
            let disk = try Disk("small")
            try disk.restoring {
                for start in [0, 16384] { try disk.write([UInt8](repeating: 0xFF, count: 512), at: start + 8192) }
                guard case .damaged = try disk.state else { throw Failure("\(try disk.state)") }
                try expectRefusal("header-checksum") {
                    try format(disk, key: 1, binding: Self.binding(), allowForeign: true)
                }
            }
        }
    }

    // MARK: Data of others

    func foreign() {
        let others: [(String, Int, [UInt8], String)] = [
            ("gpt", 512, Array("EFI PART".utf8), "a GPT partition table"),
            ("ext4", 1080, [0x53, 0xEF], "an ext2, ext3 or ext4 file system"),
            ("luks", 0, Array("LUKS".utf8) + [0xBA, 0xBE, 0, 2], "an encrypted disk (LUKS2) of others"),
            ("unknown", 70_000, [1], "unknown data from byte 70000 on"),
            ("backup-table", (1 << 30) - 512, Array("EFI PART".utf8), "data at the disk's end"),
        ]
        for (name, offset, bytes, what) in others {
            run("foreign-\(name)") {
                let disk = try Disk("foreign")
                try disk.write(bytes, at: offset)
                let found = try disk.state
                let result = Result {
                    try expectRefusal("disk-foreign") {
                        try format(disk, key: 1, binding: Self.binding())
                    }
                    try expect(try disk.read(offset, bytes.count) == bytes, "it was written to")
                }
                try disk.write([UInt8](repeating: 0, count: bytes.count), at: offset)
                try result.get()
                try expect(found == .foreign(what), "\(found)")
            }
        }
        run("foreign-with-leave") {
            let disk = try Disk("foreign")
            try disk.write(Array("EFI PART".utf8), at: 512)
            try format(disk, key: 3, binding: Self.binding(namedNode("worker-0")), allowForeign: true)
            try disk.mounted(key: 3) { try Content.write("\($0)/x", [1]) }
        }
        run("another-nodes-header") {
            // Its first 16 MiB, before the data of this disk.
            let disk = try Disk("small")
            try disk.restoring {
                try disk.write(try Disk("foreign").header(), at: 0)
                try expectUnopened("disk-other-node") { try disk.open(key: 1, expecting: Self.binding()) }
            }
        }
        run("unfinished-format") {
            let disk = try Disk("foreign")
            try disk.write(DiskState.marker + [UInt8](repeating: 0, count: 1 << 20), at: 0)
            try expect(try disk.state == .unfinished, "\(try disk.state)")
            try format(disk, key: 1, binding: Self.binding())
            try disk.mounted(key: 1) { try Content.write("\($0)/x", [1]) }
        }
    }

    // MARK: Another key

    func rekeying() {
        noted("rekey-while-mounted") {
            let disk = try Disk("small")
            var open = try disk.open(key: 1)
            try open.mount(at: "/mnt")
            let time = try milliseconds {
                let old = testKey(1)
                let new = testKey(9)
                try open.rekey(from: old, to: new)
            }
            try Content.write("/mnt/rekeyed", Content.bytes(9, 5000))
            try expect(open.binding.epoch == 1, "epoch \(open.binding.epoch)")
            try open.unmount("/mnt")
            try open.close()
            try expectUnopened("header-seal") { try disk.open(key: 1) }
            try disk.mounted(key: 9) { folder in
                try Content.check("\(folder)/rekeyed", Content.bytes(9, 5000))
                try Content.check("\(folder)/first", Content.bytes(1, 1 << 20))
            }
            try expect(try disk.ours().header.metadata.keyslots.count == 1, "more than one keyslot is left")
            try expect(try disk.read(32768, 385_024).allSatisfy { $0 == 0 }, "the old keyslot is still on the disk")
            return "\(time) ms"
        }
        run("rekey-back") {
            let disk = try Disk("small")
            var open = try disk.open(key: 9)
            let old = testKey(9)
            let new = testKey(1)
            try open.rekey(from: old, to: new)
            try open.close()
            try disk.mounted(key: 1) { try Content.check("\($0)/first", Content.bytes(1, 1 << 20)) }
        }
    }
}
