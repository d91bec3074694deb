import Bytes
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// Whole nodes of the production image after power cuts: what a node wrote to its state disk in its first boot, an
    /// exchange of its key and a restart is recorded; machines are started on disks that end at any of these writes.
    @Suite(.serialized, Built.whole) struct NodeCutTests {
        /// `NACRE_NODE_CUTS`: how many, spread over both recordings, and `NACRE_SEED`.
        private static let cuts = unsafe getenv("NACRE_NODE_CUTS").flatMap { unsafe Int(String(cString: $0)) } ?? 4
        private static let diskSize = 800 << 20

        /// What was confirmed up to a place in a recording.
        private struct Confirmed {
            /// The first write after it.
            let entry: Int
            /// The owner's document then; `nil` before anything was confirmed.
            let document: [UInt8]?
            let generation: Int
            let epoch: Int
        }

        private struct Recording {
            let log: WriteLog
            /// What the disk held before; nothing for the first.
            let base: String?
            /// In ascending order.
            let confirmed: [Confirmed]
        }

        @Test func `after a power cut at any write the next boot finishes, or starts over where nothing was confirmed`()
            async throws
        {
            let folder = try TemporaryFolder()
            let words = try folder.file("passphrase", "correct horse battery\n")
            let cluster = try LocalNode(
                host: HostInputs(recordsWrites: "record"), options: ["--disk-size", "800M"])
            let story = ClusterStory(cluster: cluster, words: words)
            // Made without a recording: QEMU starts anew for each.
            let made = try await cluster.up()
            try #require(made.status == 0, "\(made.errors)\(made.text)")
            try await story.stop(ClusterStory.plane, "--power-cut")
            let recordings = [try await Self.first(story, folder), try await Self.second(story, folder)]
            try story.record(nil)

            var generator = SeededGenerator(seed: StateDiskTests.seed)
            for index in 0..<Self.cuts {
                let recording = recordings[index % recordings.count]
                let end = recording.log.cut(&generator)
                let disk = story.path("vm/\(ClusterStory.plane)/state.img")
                unsafe unlink(disk)
                if let base = recording.base { try story.copy(base, to: "vm/\(ClusterStory.plane)/state.img") }
                try recording.log.replay(upTo: end, onto: disk, size: Self.diskSize, &generator)
                let confirmed = recording.confirmed.last { $0.entry <= end }
                let what =
                    "cut \(index), \(index % recordings.count == 0 ? "first boot" : "restart"), before write \(end)"
                try await Self.expectWhole(after: confirmed, what, story)
            }
            try await cluster.endsWithoutTrace()
        }

        /// Blank disk, init, exchange of the key.
        private static func first(_ story: ClusterStory, _ folder: TemporaryFolder) async throws -> Recording {
            let log = folder.path + "/first.log"
            try story.record(log)
            try await story.start(ClusterStory.plane)
            try await story.command("init", "--no-wait")
            let member = try Self.confirmed(log, story, generation: 1, epoch: 1)
            try await story.command("node", "rekey")
            let rekeyed = try Self.confirmed(log, story, generation: 2, epoch: 2)
            try await Task.sleep(for: .seconds(5))
            try await story.stop(ClusterStory.plane, "--power-cut")
            return Recording(log: try WriteLog(log), base: nil, confirmed: [member, rekeyed])
        }

        /// The same disk opened again by its owner, and its key exchanged once more.
        private static func second(_ story: ClusterStory, _ folder: TemporaryFolder) async throws -> Recording {
            try story.keep(ClusterStory.plane, as: "base.img")
            let log = folder.path + "/second.log"
            try story.record(log)
            let before = Confirmed(entry: 0, document: try story.document(), generation: 2, epoch: 2)
            try await story.start(ClusterStory.plane)
            try await story.command("recover")
            let opened = try Self.confirmed(log, story, generation: 3, epoch: 2)
            try await story.command("node", "rekey")
            let rekeyed = try Self.confirmed(log, story, generation: 4, epoch: 3)
            try await Task.sleep(for: .seconds(5))
            try await story.stop(ClusterStory.plane, "--power-cut")
            return Recording(
                log: try WriteLog(log), base: "vm/\(ClusterStory.plane)/base.img", confirmed: [before, opened, rekeyed])
        }

        /// What was just said to be done: every write until now was asked for by then.
        private static func confirmed(
            _ log: String, _ story: ClusterStory, generation: Int, epoch: Int
        ) throws -> Confirmed {
            Confirmed(
                entry: try WriteLog(log).entries.count, document: try story.document(), generation: generation,
                epoch: epoch)
        }

        private static func expectWhole(
            after confirmed: Confirmed?, _ what: String, _ story: ClusterStory
        ) async throws {
            // The owner remembers what was confirmed, and nothing that came after the cut.
            if let document = confirmed?.document {
                try story.setDocument(document)
            } else {
                try story.forgetGenerations()
            }
            try await story.start(ClusterStory.plane)
            // Where nothing was confirmed, init is what the owner would repeat.
            let result = try await story.cluster.nacre(
                [
                    confirmed == nil ? "init" : "recover", "--dir", story.cluster.directory, "--passphrase-file",
                    story.words,
                ]
                    + ["--timeout", String(LocalNode.patience), "-o", "json"] + (confirmed == nil ? ["--no-wait"] : []))
            let node = try JSON(parsing: result.output)["nodes"]?.array?.first
            #expect(node?["result"]?.string == "member", "\(what): \(result.errors)")
            let words = (node?["stateDisk"]?.string ?? "").split { !$0.isNumber && !$0.isLetter && $0 != "-" }
            func number(_ name: String) -> Int? {
                words.firstIndex(of: Substring(name)).flatMap { words.dropFirst($0 + 1).first.flatMap { Int($0) } }
            }
            let (epoch, generation) = (number("epoch") ?? 0, number("generation") ?? 0)
            // An opening is one more than what was confirmed; a change that was under way may have come as far as the disk.
            if let confirmed {
                #expect((confirmed.epoch...confirmed.epoch + 1).contains(epoch), "\(what): epoch \(epoch)")
                #expect(
                    (confirmed.generation + 1...confirmed.generation + 3).contains(generation), "\(what): \(generation)"
                )
            } else {
                #expect(epoch == 1 && (1...2).contains(generation), "\(what): \(node?.compact ?? "")")
            }
            print("\(what): \(node?["stateDisk"]?.string ?? "nothing")")
            try await story.stop(ClusterStory.plane, "--power-cut")
        }
    }
}
