import Bytes
import DiskFormat
import Glibc
import TestKit
import Testing

extension IntegrationTests {
    /// A member's machine and disk with something else booted on it, or the right image among the wrong people: no key, and
    /// both ends say why.
    @Suite(.serialized, Built.whole) struct OtherImageTests {
        private static let other = "other.raw"

        @Test func `another image, an image that the owner took back, a debug image, another cluster: no key`()
            async throws
        {
            let folder = try TemporaryFolder()
            let words = try folder.file("passphrase", "correct horse battery\n")
            let cluster = try LocalNode(
                host: HostInputs(otherImage: Self.other),
                options: ["--workers", "1", "--passphrase-file", words, "--no-wait"])
            let story = ClusterStory(cluster: cluster, words: words)
            let first = try await cluster.up()
            try #require(first.status == 0, "\(first.errors)\(first.text)")
            for name in [ClusterStory.plane, ClusterStory.worker] { try await story.expectOpen(name, generation: 1) }

            // Another image, which the policy does not have.
            let disk = try DiskCopy()
            try disk.replace("panic=10", with: "panic=11", in: .cmdline)
            let release = try disk.release(in: folder)
            try await story.stop(ClusterStory.worker, "--power-cut")
            try story.boot(disk.path, as: Self.other)
            try await Self.expectNoKey(story, "register-mismatch")

            // The owner accepts it beside the first: it comes in by itself.
            let manifests = try [Built.manifest, release[1]].map { JSON.base64(try readFile($0)) }
            let refused = try story.consoleLength(ClusterStory.worker)
            try await Self.apply(manifests, story, folder)
            try await story.expectConsole(ClusterStory.worker, after: refused, "claimed by rejoin")
            try await story.expectConsole(ClusterStory.worker, after: refused, "in cluster")

            // The owner takes it back: not again.
            try await story.stop(ClusterStory.worker, "--power-cut")
            try await Self.apply(Array(manifests.prefix(1)), story, folder)
            try await Self.expectNoKey(story, "register-mismatch")

            // The profile for developers, with a shell on its console.
            if unsafe access(Built.debugImage + "/nacre.raw", R_OK) == 0 {
                try await story.stop(ClusterStory.worker, "--power-cut")
                try story.boot(Built.debugImage + "/nacre.raw", as: Self.other)
                try await Self.expectNoKey(story, "register-mismatch")
            }

            // The right image again, sent to the control plane of another cluster by whoever can write to the disk.
            for name in [ClusterStory.worker, ClusterStory.plane] { try await story.stop(name, "--power-cut") }
            try story.boot(nil, as: Self.other)
            let strangers = try LocalNode(
                host: HostInputs(), options: ["--passphrase-file", words, "--no-wait"])
            let theirs = try await strangers.up()
            try #require(theirs.status == 0, "\(theirs.errors)\(theirs.text)")
            try story.hint(try strangers.channelPort(), to: ClusterStory.worker)
            let place = try story.consoleLength(ClusterStory.worker)
            try await story.start(ClusterStory.worker)
            try await story.expectConsole(ClusterStory.worker, after: place, "rejoin through", "cluster-other")
            let stranger = ClusterStory(cluster: strangers, words: words)
            try await stranger.expectConsole(ClusterStory.plane, after: 0, "rejoin", "cluster-other")
            try await strangers.endsWithoutTrace()
            try await cluster.endsWithoutTrace()
        }

        /// The worker starts, and neither a control plane nor the owner gives it its disk's key.
        private static func expectNoKey(_ story: ClusterStory, _ reason: String) async throws {
            let (plane, worker) = (
                try story.consoleLength(ClusterStory.plane), try story.consoleLength(ClusterStory.worker)
            )
            try await story.start(ClusterStory.worker)
            try await story.expectConsole(ClusterStory.worker, after: worker, "rejoin through", reason)
            try await story.expectConsole(ClusterStory.plane, after: plane, "rejoin", reason)
            try await story.expectJudged(ClusterStory.worker, reason)
            let recover = try await story.cluster.nacre(
                "recover", "--dir", story.cluster.directory, "--passphrase-file", story.words, "--timeout", "1", "-o",
                "json")
            #expect(recover.status == 3, "\(recover.errors)")
            let results = try JSON(parsing: recover.output)["nodes"]?.array ?? []
            #expect(results.first { $0["name"]?.string == ClusterStory.worker }?["reason"]?.string == reason)
            let console = try story.cluster.console(of: ClusterStory.worker).dropFirst(worker)
            #expect(!console.contains("claimed by") && !console.contains("in cluster"))
        }

        /// The present policy with other images, signed and given to whoever answers.
        private static func apply(_ images: [JSON], _ story: ClusterStory, _ folder: TemporaryFolder) async throws {
            let directory = ["--dir", story.cluster.directory]
            let owner = directory + ["--passphrase-file", story.words]
            let shown = try await story.cluster.nacre(["policy", "show", "--cluster", "-o", "json"] + directory)
            var policy = try #require(try JSON(parsing: shown.output).object)
            policy["images"] = .array(images)
            policy["version"] = .integer(Int128(policy["version"]?.integer ?? 0) + 1)
            let file = try folder.file("policy-\(images.count).json", JSON.object(policy).pretty)
            let signed = try await story.cluster.nacre(["policy", "sign", file] + owner)
            try #require(signed.status == 0, "\(signed.errors)")
            // The worker is off, or not of this directory's image.
            let applied = try await story.cluster.nacre(
                ["policy", "apply", "--timeout", "1", "-o", "json"] + owner)
            let results = try JSON(parsing: applied.output)["nodes"]?.array ?? []
            #expect(
                results.first { $0["name"]?.string == ClusterStory.plane }?["result"]?.string == "member",
                "\(applied.errors)")
        }
    }
}
