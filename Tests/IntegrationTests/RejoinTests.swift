import Bytes
import TestKit
import Testing

extension IntegrationTests {
    /// Two machines of the production image, a control plane and a worker, each with a state disk.
    @Suite(.serialized, Built.whole) struct RejoinTests {
        @Test func `blank, init, a power cut, unattended rejoin, all off, recover, and disks that are not this node's`()
            async throws
        {
            let folder = try TemporaryFolder()
            let words = try folder.file("passphrase", "correct horse battery\n")
            let cluster = try LocalNode(
                host: HostInputs(secondDisk: "second.img"),
                options: ["--workers", "1", "--passphrase-file", words, "--no-wait"])
            let story = ClusterStory(cluster: cluster, words: words)

            let first = try await cluster.up()
            try #require(first.status == 0, "\(first.errors)\(first.text)")
            for name in [ClusterStory.plane, ClusterStory.worker] { try await story.expectOpen(name, generation: 1) }

            try await story.stop(ClusterStory.worker, "--power-cut")
            try story.keep(ClusterStory.worker, as: "old.img")
            try await story.start(ClusterStory.worker)
            try await story.expectOpen(ClusterStory.worker, generation: 2)
            #expect(try cluster.console(of: ClusterStory.worker).contains("claimed by rejoin through 10.0.2.2:"))

            // An older copy of the disk: refused by the control plane, and by the node.
            try await story.stop(ClusterStory.worker)
            try story.keep(ClusterStory.worker, as: "current.img")
            try story.put("old.img", into: ClusterStory.worker)
            try await story.start(ClusterStory.worker)
            try await story.expectWaiting(ClusterStory.worker, "disk-rollback")

            // Nobody runs any more.
            try await story.stop(ClusterStory.worker, "--power-cut")
            try story.put("current.img", into: ClusterStory.worker)
            try await story.stop(ClusterStory.plane)
            try await story.start(ClusterStory.plane)
            try await story.start(ClusterStory.worker)
            try await story.expectWaiting(ClusterStory.plane, nil)
            try await story.command("recover")
            try await story.expectOpen(ClusterStory.plane, generation: 2)
            try await story.expectOpen(ClusterStory.worker, generation: 3)

            // Keys of the next epoch while the disks are in use; then one of them by a power cut and a rejoin.
            try await story.command("node", "rekey")
            try await story.expectOpen(ClusterStory.plane, generation: 3, epoch: 2)
            try await story.expectOpen(ClusterStory.worker, generation: 4, epoch: 2)
            try await story.stop(ClusterStory.worker, "--power-cut")
            try await story.start(ClusterStory.worker)
            try await story.expectOpen(ClusterStory.worker, generation: 5, epoch: 2)

            // The control plane's machine with two disks of ours, then with the worker's alone, then with others'.
            for name in [ClusterStory.worker, ClusterStory.plane] { try await story.stop(name, "--power-cut") }
            try story.keep(ClusterStory.plane, as: "plane.img")
            try story.copy("vm/worker-0/state.img", to: "vm/control-plane-0/second.img")
            try await story.start(ClusterStory.plane)
            try await story.expectWaiting(ClusterStory.plane, "disk-several")
            try await story.expectRefused("recover", "disk-several")
            try await story.stop(ClusterStory.plane, "--power-cut")
            try story.move("vm/control-plane-0/second.img", to: "vm/control-plane-0/state.img")
            try await story.start(ClusterStory.plane)
            try await story.expectWaiting(ClusterStory.plane, nil)
            try await story.expectRefused("recover", "disk-other-node")
            try await story.expectRefused("init", "disk-other-node")
            try await story.stop(ClusterStory.plane, "--power-cut")
            try story.blank(ClusterStory.plane, writing: Array("EFI PART".utf8), at: 512)
            try await story.start(ClusterStory.plane)
            try await story.expectWaiting(ClusterStory.plane, nil)
            try await story.expectRefused("recover", "disk-missing")
            try await story.expectRefused("init", "disk-")
            #expect(try cluster.console().contains("foreign: a GPT partition table"))
            // Unless the owner says so for this very disk.
            let erased = try await cluster.nacre(
                "init", "--dir", cluster.directory, "--passphrase-file", words, "--timeout", "1", "--no-wait",
                "--erase-disk", ClusterStory.plane, "-o", "json")
            let node = try JSON(parsing: erased.output)["nodes"]?.array?.first
            #expect(node?["result"]?.string == "member", "\(erased.errors)")
            try await story.expectOpen(ClusterStory.plane, generation: 4, epoch: 2)
        }
    }
}
