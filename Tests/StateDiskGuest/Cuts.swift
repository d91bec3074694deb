import Bytes
import Crypto
import Glibc
import Linux
import StateDisk

/// Power cuts. One run is recorded write by write (QEMU's blklogwrites); the host makes disks of it that end at any write,
/// with the unflushed ones before it lost or not; `check` boots on those.
///
/// After each step that a caller has been told is done, the disk itself says so in a place of the header that nothing
/// uses: what the step promised must hold from there on.
extension Cases {
    /// Behind the keyslots.
    static let notesOffset = 8 << 20
    static let steps = 12

    private func note(_ disk: Disk, _ step: Int) throws {
        try disk.write(Array("NACRE STEP \(step)\n".utf8) + [UInt8](repeating: 0, count: 400), at: Self.notesOffset)
    }

    func record() {
        noted("record") {
            let disk = try Disk("cut")
            try format(disk, key: 1, binding: Self.binding())
            try note(disk, 1)
            var epoch: UInt8 = 1
            for step in 2...Self.steps {
                var open = try disk.open(key: epoch)
                try open.mount(at: "/mnt")
                try Load.run("/mnt", step: step)
                try Content.write("/mnt/step\(step)", Content.bytes(UInt64(step), step * 10_000))
                try note(disk, step)
                if step.isMultiple(of: 3) {
                    let old = testKey(epoch)
                    let new = testKey(epoch + 1)
                    try open.rekey(from: old, to: new)
                    epoch += 1
                }
                try open.unmount("/mnt")
                try open.close()
            }
            return "epoch \(epoch)"
        }
    }

    /// Every attached disk called `cut…`: the next boot of a node, and one after it.
    func checkCuts() {
        for name in (0..<26).map({ "cut\($0)" }) {
            guard let disk = try? Disk(name) else { continue }
            noted(name) {
                let untagged = Machine.untagged
                let text = String(decoding: try disk.read(Self.notesOffset, 64), as: UTF8.self)
                let step = text.split(whereSeparator: \.isWhitespace).dropFirst(2).first.flatMap { Int($0) } ?? 0
                let state = try disk.state
                var how = "opened"
                switch state {
                case .blank, .unfinished:
                    try expect(step == 0, "\(state) after step \(step)")
                    try format(disk, key: 1, binding: Self.binding())
                    how = "formatted again"
                case .ours: break
                case .foreign, .damaged: throw Failure("after step \(step): \(state)")
                }
                // Whichever epoch the newest token names: between two, both keys work, and here is the newer one.
                let epoch = try disk.ours().binding.epoch
                try disk.mounted(key: UInt8(1 + epoch)) { folder in
                    for number in 2...Self.steps where number <= step {
                        try Content.check("\(folder)/step\(number)", Content.bytes(UInt64(number), number * 10_000))
                    }
                    try Load.check(folder, confirmed: step)
                    try Load.run(folder, step: Self.steps + 1)
                    try Content.write("\(folder)/after", Content.bytes(99, 50_000))
                }
                try disk.mounted(key: UInt8(1 + epoch)) { try Content.check("\($0)/after", Content.bytes(99, 50_000)) }
                try expect(try disk.ours().header.metadata.keyslots.count == 1, "two keyslots are left")
                try expect(Machine.untagged == untagged, "the kernel met sectors without tags")
                return "step \(step), epoch \(epoch), \(how)"
            }
        }
        say("case all ok")
    }
}
