import Bytes
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// The state disk on the image's own kernel: `make test-faults` for all power cuts, a sample otherwise.
    @Suite(.serialized, .enabled("no image or no state-disk-test: see `make test-faults`") { StateDiskMachine.isBuilt })
    struct StateDiskTests {
        /// `NACRE_CUTS`: how many, and from which seed on.
        static let cuts = unsafe getenv("NACRE_CUTS").flatMap { unsafe Int(String(cString: $0)) } ?? 8
        static let seed = unsafe getenv("NACRE_SEED").flatMap { unsafe UInt64(String(cString: $0)) } ?? 1

        private func raw(_ path: String) -> String { "driver=raw,file.driver=file,file.filename=\(path)" }

        @Test func `every case of the table`() throws {
            let machine = try StateDiskMachine()
            let disks = try [
                ("small", 1 << 30), ("medium", 30 << 30), ("large", 100 << 30), ("foreign", 1 << 30),
                ("tiny", 64 << 20),
            ].map { (serial: $0.0, device: raw(try machine.disk($0.0, size: $0.1))) }
            let cases = try machine.run("table", disks, seconds: 900)
            for found in cases {
                #expect(found.result.hasPrefix("ok"), "\(found.name): \(found.result)")
                if found.name.hasPrefix("blank-") || found.name.hasPrefix("rekey") {
                    print("\(found.name): \(found.result)")
                }
            }
            #expect(cases.last?.name == "all")
            #expect(cases.count > 70, "the table has its cases")
        }

        @Test func `after a power cut at any moment the next boot finds what was confirmed`() throws {
            let size = 800 << 20
            let machine = try StateDiskMachine()
            let log = try machine.disk("log", size: 0)
            let disk = try machine.disk("cut", size: size)
            let recorded = try machine.run(
                "record",
                [
                    (
                        "cut",
                        "driver=blklogwrites,log-sector-size=512,file.driver=file,file.filename=\(disk),"
                            + "log.driver=file,log.filename=\(log)"
                    )
                ], seconds: 600)
            #expect(recorded.first?.result.hasPrefix("ok") == true, "\(recorded)")
            unsafe unlink(disk)
            let writes = try WriteLog(log)
            print("power cuts: \(writes.entries.count) writes recorded, \(Self.cuts) cuts from seed \(Self.seed)")
            var names: [String: String] = [:]
            var generator = SeededGenerator(seed: Self.seed)
            for group in stride(from: 0, to: Self.cuts, by: 12) {
                var disks: [(serial: String, device: String)] = []
                for index in group..<min(group + 12, Self.cuts) {
                    let end = writes.cut(&generator)
                    let name = "cut\(index - group)"
                    let path = "\(machine.folder.path)/\(name).img"
                    unsafe unlink(path)
                    try writes.replay(upTo: end, onto: path, size: size, &generator)
                    names[name] = "cut \(index), before write \(end)"
                    disks.append((name, raw(path)))
                }
                let cases = try machine.run("check", disks, seconds: 900)
                for found in cases where found.name != "all" {
                    #expect(found.result.hasPrefix("ok"), "\(names[found.name] ?? ""): \(found.result)")
                    print("\(names[found.name] ?? found.name): \(found.result)")
                }
                #expect(cases.count == disks.count + 1)
                for disk in disks { unsafe unlink("\(machine.folder.path)/\(disk.serial).img") }
            }
        }
    }
}
