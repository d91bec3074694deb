import Bytes
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// Two machines of the production image, a control plane and a worker, each with a state disk.
    @Suite(.serialized, Built.whole) struct RejoinTests {
        private static let plane = "control-plane-0"
        private static let worker = "worker-0"

        @Test func `blank, init, a power cut, unattended rejoin, all off, recover, and disks that are not this node's`()
            async throws
        {
            let folder = try TemporaryFolder()
            let words = try folder.file("passphrase", "correct horse battery\n")
            let cluster = try LocalNode(
                host: HostInputs(secondDisk: "second.img"),
                options: ["--workers", "1", "--passphrase-file", words, "--no-wait"])
            let story = Story(cluster: cluster, words: words)

            let first = try await cluster.up()
            try #require(first.status == 0, "\(first.errors)\(first.text)")
            for name in [Self.plane, Self.worker] { try await story.expectOpen(name, generation: 1) }

            try await story.stop(Self.worker, "--power-cut")
            try story.keep(Self.worker, as: "old.img")
            try await story.start(Self.worker)
            try await story.expectOpen(Self.worker, generation: 2)
            #expect(try cluster.console(of: Self.worker).contains("claimed by rejoin through 10.0.2.2:"))

            // An older copy of the disk: refused by the control plane, and by the node.
            try await story.stop(Self.worker)
            try story.keep(Self.worker, as: "current.img")
            try story.put("old.img", into: Self.worker)
            try await story.start(Self.worker)
            try await story.expectWaiting(Self.worker, "disk-rollback")

            // Nobody runs any more.
            try await story.stop(Self.worker, "--power-cut")
            try story.put("current.img", into: Self.worker)
            try await story.stop(Self.plane)
            try await story.start(Self.plane)
            try await story.start(Self.worker)
            try await story.expectWaiting(Self.plane, nil)
            let recovered = try await cluster.nacre(
                "recover", "--dir", cluster.directory, "--passphrase-file", words, "-o", "json")
            #expect(recovered.status == 0, "\(recovered.errors)\(recovered.text)")
            try await story.expectOpen(Self.plane, generation: 2)
            try await story.expectOpen(Self.worker, generation: 3)

            // Keys of the next epoch while the disks are in use; then one of them by a power cut and a rejoin.
            let exchanged = try await cluster.nacre(
                "node", "rekey", "--dir", cluster.directory, "--passphrase-file", words, "-o", "json")
            #expect(exchanged.status == 0, "\(exchanged.errors)\(exchanged.text)")
            try await story.expectOpen(Self.plane, generation: 3, epoch: 2)
            try await story.expectOpen(Self.worker, generation: 4, epoch: 2)
            try await story.stop(Self.worker, "--power-cut")
            try await story.start(Self.worker)
            try await story.expectOpen(Self.worker, generation: 5, epoch: 2)

            // The control plane's machine with two disks of ours, then with the worker's alone, then with others'.
            for name in [Self.worker, Self.plane] { try await story.stop(name, "--power-cut") }
            try story.keep(Self.plane, as: "plane.img")
            try story.copy("vm/worker-0/state.img", to: "vm/control-plane-0/second.img")
            try await story.start(Self.plane)
            try await story.expectWaiting(Self.plane, "disk-several")
            try await story.expectRefused("recover", "disk-several")
            try await story.stop(Self.plane, "--power-cut")
            try story.move("vm/control-plane-0/second.img", to: "vm/control-plane-0/state.img")
            try await story.start(Self.plane)
            try await story.expectWaiting(Self.plane, nil)
            try await story.expectRefused("recover", "disk-other-node")
            try await story.expectRefused("init", "disk-other-node")
            try await story.stop(Self.plane, "--power-cut")
            try story.blank(Self.plane, writing: Array("EFI PART".utf8), at: 512)
            try await story.start(Self.plane)
            try await story.expectWaiting(Self.plane, nil)
            try await story.expectRefused("recover", "disk-missing")
            try await story.expectRefused("init", "disk-")
            #expect(try cluster.console().contains("foreign: a GPT partition table"))
            // Unless the owner says so for this very disk.
            let erased = try await cluster.nacre(
                "init", "--dir", cluster.directory, "--passphrase-file", words, "--timeout", "1", "--no-wait",
                "--erase-disk", Self.plane, "-o", "json")
            let node = try JSON(parsing: erased.output)["nodes"]?.array?.first
            #expect(node?["result"]?.string == "member", "\(erased.errors)")
            try await story.expectOpen(Self.plane, generation: 4, epoch: 2)
        }
    }

    /// Commands of the story, and what is to be seen after them.
    private struct Story {
        let cluster: LocalNode
        let words: String

        func start(_ name: String) async throws {
            let result = try await cluster.nacre("node", "start", name, "--dir", cluster.directory)
            try #require(result.status == 0, "\(result.errors)")
        }

        func stop(_ name: String, _ options: String...) async throws {
            let result = try await cluster.nacre(["node", "stop", name, "--dir", cluster.directory] + options)
            try #require(result.status == 0, "\(result.errors)")
        }

        /// What a node says of itself, once `isSettled`.
        private func status(of name: String, until isSettled: (JSON) -> Bool) async throws -> JSON {
            var last: JSON = .null
            for _ in 0..<LocalNode.patience {
                let result = try await cluster.nacre(
                    "status", "--dir", cluster.directory, "--passphrase-file", words, "-o", "json")
                if let nodes = (try? JSON(parsing: result.output))?["nodes"]?.array,
                    let node = nodes.first(where: { $0["name"]?.string == name })
                {
                    last = node
                    if isSettled(node) { return node }
                }
                try await Task.sleep(for: .seconds(1))
            }
            Issue.record("\(name): \(last.compact)")
            return last
        }

        func expectOpen(_ name: String, generation: Int, epoch: Int = 1) async throws {
            let node = try await status(of: name) { $0["phase"]?.string == "run" }
            #expect(node["stateDisk"]?.string == "open: node \(name), epoch \(epoch), generation \(generation)")
            #expect(node["generation"]?.integer == generation)
        }

        /// The node waits, and says why where there is a reason.
        func expectWaiting(_ name: String, _ reason: String?) async throws {
            let node = try await status(of: name) { node in
                node["phase"]?.string == "wait"
                    && (reason == nil || node["failure"]?.string?.contains(reason ?? "") == true)
            }
            #expect(node["ready"]?.bool == false)
            if let reason { #expect(try cluster.console(of: name).contains(reason)) }
        }

        /// By the control plane; the worker's machine may be off.
        func expectRefused(_ command: String, _ reason: String) async throws {
            let result = try await cluster.nacre(
                [command, "--dir", cluster.directory, "--passphrase-file", words, "--timeout", "1", "-o", "json"]
                    + (command == "init" ? ["--no-wait"] : []))
            #expect(result.status != 0)
            let node = try JSON(parsing: result.output)["nodes"]?.array?.first
            #expect(node?["reason"]?.string?.hasPrefix(reason) == true, "\(command): \(node?.compact ?? "")")
        }

        // MARK: Disks

        private func path(_ name: String) -> String { "\(cluster.directory)/\(name)" }

        func copy(_ from: String, to target: String) throws {
            let result = try Tool.run(["cp", "--sparse=always", path(from), path(target)])
            try #require(result.status == 0, "\(result.errors)")
        }

        func move(_ from: String, to target: String) throws {
            let result = try Tool.run(["mv", "-f", path(from), path(target)])
            try #require(result.status == 0, "\(result.errors)")
        }

        func keep(_ name: String, as copy: String) throws {
            try self.copy("vm/\(name)/state.img", to: "vm/\(name)/\(copy)")
        }

        func put(_ copy: String, into name: String) throws {
            try self.copy("vm/\(name)/\(copy)", to: "vm/\(name)/state.img")
        }

        func blank(_ name: String, writing bytes: [UInt8], at offset: Int) throws {
            let file = unsafe open(path("vm/\(name)/state.img"), O_RDWR | O_TRUNC | O_CLOEXEC)
            try #require(file >= 0 && ftruncate(file, 30 << 30) == 0)
            defer { close(file) }
            #expect(unsafe pwrite(file, bytes, bytes.count, off_t(offset)) == bytes.count)
        }
    }
}
