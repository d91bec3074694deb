import Bytes
import CLinux
import DiskFormat
import Glibc
import TestKit
import Testing

@testable import StateDisk

/// A tree like /sys/class/block.
private struct Sysfs {
    let folder: TemporaryFolder

    init() throws {
        folder = try TemporaryFolder()
        try make("class/block")
    }

    private func make(_ path: String) throws {
        var whole = folder.path
        for part in path.split(separator: "/") {
            whole += "/\(part)"
            guard unsafe mkdir(whole, 0o755) == 0 || errno == EEXIST else {
                throw ParseError("missing", field: whole, offset: 0, "not made")
            }
        }
    }

    func disk(_ name: String, megabytes: Int, serial: String? = nil, isReadOnly: Bool = false) throws {
        try make("class/block/\(name)/holders")
        _ = try folder.file("class/block/\(name)/size", "\(megabytes * 2048)\n")
        _ = try folder.file("class/block/\(name)/ro", isReadOnly ? "1\n" : "0\n")
        if let serial { _ = try folder.file("class/block/\(name)/serial", serial + "\n") }
    }

    func partition(_ name: String, of disk: String, megabytes: Int, label: String? = nil, isHeld: Bool = false) throws {
        for place in ["class/block/\(disk)/\(name)", "class/block/\(name)"] {
            try make("\(place)/holders")
            if isHeld { try make("\(place)/holders/dm-0") }
            _ = try folder.file("\(place)/partition", "1\n")
            _ = try folder.file("\(place)/size", "\(megabytes * 2048)\n")
            _ = try folder.file("\(place)/ro", "0\n")
            _ = try folder.file(
                "\(place)/uevent", "MAJOR=254\nDEVNAME=\(name)\n" + (label.map { "PARTNAME=\($0)\n" } ?? ""))
        }
    }

    func choose(_ rule: DiskRule) -> Result<String, DiskError> {
        do throws(DiskError) {
            return .success(try rule.choose(among: try BlockDevice.all(sysfs: folder.path)).path)
        } catch { return .failure(error) }
    }

    func reason(_ rule: DiskRule) -> String? {
        if case .failure(let error) = choose(rule) { error.finding.reason } else { nil }
    }
}

@Suite struct SelectionTests {
    /// The system's disk, under dm-verity, beside whatever else a test attaches.
    private func machine() throws -> Sysfs {
        let sysfs = try Sysfs()
        try sysfs.disk("vda", megabytes: 2000, serial: "system")
        try sysfs.partition("vda1", of: "vda", megabytes: 100)
        try sysfs.partition("vda2", of: "vda", megabytes: 900, label: "root", isHeld: true)
        try sysfs.partition("vda3", of: "vda", megabytes: 900, label: "state")
        for name in ["loop0", "ram0", "dm-0", "zram0", "sr0", "nbd0", "md127"] { try sysfs.disk(name, megabytes: 5000) }
        return sysfs
    }

    @Test func theSystemsDiskIsNeverTaken() throws {
        let sysfs = try machine()
        #expect(sysfs.reason(.only) == "disk-none")
        #expect(sysfs.reason(.id("system")) == "disk-none")
        #expect(sysfs.reason(.label("state")) == "disk-none")
        #expect(sysfs.reason(.size(minimum: 0, maximum: .max)) == "disk-none")
    }

    @Test func theOnlyOtherOneIs() throws {
        let sysfs = try machine()
        try sysfs.disk("vdb", megabytes: 30_000, serial: "state-1")
        // Too small for a state: a disk of settings.
        try sysfs.disk("vdc", megabytes: 1)
        for rule: DiskRule in [
            .only, .id("state-1"), .id("virtio-state-1"), .size(minimum: 30_000 << 20, maximum: 30_000 << 20),
        ] {
            #expect(sysfs.choose(rule) == .success("/dev/vdb"), "\(rule)")
        }
        #expect(sysfs.reason(.id("state")) == "disk-none")
        #expect(sysfs.reason(.id("")) == "disk-none")
        #expect(sysfs.reason(.size(minimum: 0, maximum: (30_000 << 20) - 1)) == "disk-none")
    }

    @Test func twoAreAnErrorThatNamesThem() throws {
        let sysfs = try machine()
        try sysfs.disk("vdb", megabytes: 30_000, serial: "one")
        try sysfs.disk("sda", megabytes: 40_000, serial: "two")
        guard case .failure(let error) = sysfs.choose(.only) else {
            Issue.record("a disk was guessed")
            return
        }
        #expect(error.finding.reason == "disk-several")
        for word in ["vdb", "sda", "one", "two"] { #expect(error.finding.actual.contains(word)) }
        #expect(!error.finding.actual.contains("vda"))
        #expect(sysfs.choose(.id("two")) == .success("/dev/sda"))
        // Two of one serial number are no better.
        try sysfs.disk("vdc", megabytes: 30_000, serial: "one")
        #expect(sysfs.reason(.id("one")) == "disk-several")
    }

    @Test func labelsArePartitions() throws {
        let sysfs = try machine()
        try sysfs.disk("vdb", megabytes: 30_000)
        try sysfs.partition("vdb1", of: "vdb", megabytes: 20_000, label: "state")
        try sysfs.partition("vdb2", of: "vdb", megabytes: 9000)
        #expect(sysfs.choose(.label("state")) == .success("/dev/vdb1"))
        #expect(sysfs.reason(.label("")) == "disk-none")
        // Once any of its partitions is in use, none is taken.
        try sysfs.partition("vdb2", of: "vdb", megabytes: 9000, isHeld: true)
        #expect(sysfs.reason(.label("state")) == "disk-none")
    }

    @Test func readOnlyOnesAreNot() throws {
        let sysfs = try machine()
        try sysfs.disk("vdb", megabytes: 30_000, isReadOnly: true)
        guard case .failure(let error) = sysfs.choose(.only) else {
            Issue.record("a read-only disk was taken")
            return
        }
        #expect(error.finding.actual.contains("read-only"))
    }
}
