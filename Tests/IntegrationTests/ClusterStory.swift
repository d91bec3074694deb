import Bytes
import DiskFormat
import Glibc
import TestKit
import Testing

/// Commands of the story, and what is to be seen after them.
struct ClusterStory: Sendable {
    static let plane = "control-plane-0"
    static let worker = "worker-0"

    let cluster: LocalNode
    let words: String

    func start(_ name: String) async throws {
        let result = try await cluster.nacre("node", "start", name, "--dir", cluster.directory)
        try #require(result.status == 0, "\(result.errors)")
    }

    /// An owner's command that has to succeed.
    func command(_ words: String...) async throws {
        let result = try await cluster.nacre(
            words + ["--dir", cluster.directory, "--passphrase-file", self.words, "-o", "json"])
        try #require(result.status == 0, "\(words): \(result.errors)")
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

    /// What the owner's commands say of the node, judged before anything is given to it.
    func expectJudged(_ name: String, _ reason: String) async throws {
        var last: JSON = .null
        for _ in 0..<LocalNode.patience {
            let result = try await cluster.nacre(
                "status", "--dir", cluster.directory, "--passphrase-file", words, "-o", "json")
            let nodes = (try? JSON(parsing: result.output))?["nodes"]?.array ?? []
            last = nodes.first { $0["name"]?.string == name } ?? .null
            if last["verified"]?["verdict"]?.string == "reject" { break }
            try await Task.sleep(for: .seconds(1))
        }
        #expect(last["verified"]?["verdict"]?.string == "reject", "\(name): \(last.compact)")
        #expect(last["verified"]?["reason"]?.string?.hasPrefix(reason) == true, "\(name): \(last.compact)")
    }

    /// Lines that the machine's console shows after `place`, until one of them holds all `words`.
    func expectConsole(_ name: String, after place: Int, _ words: String...) async throws {
        var text = ""
        for _ in 0..<LocalNode.patience {
            text = try String(cluster.console(of: name).dropFirst(place))
            let isThere = text.split(whereSeparator: \.isNewline).contains { line in
                words.allSatisfy { line.contains($0) }
            }
            if isThere { return }
            try await Task.sleep(for: .seconds(1))
        }
        Issue.record("\(name): no line with \(words) in \(text.suffix(3000))")
    }

    /// How much the machine's console holds.
    func consoleLength(_ name: String) throws -> Int { try cluster.console(of: name).count }

    // MARK: Disks

    /// Has the worker's machine start `image` instead of the cluster's; `nil` takes that back.
    func boot(_ image: String?, as name: String) throws {
        let link = path("vm/\(Self.worker)/\(name)")
        unsafe unlink(link)
        if let image { try #require(unsafe symlink(image, link) == 0) }
    }

    /// Writes beside the disk's header whom its node asks: one control plane on this host.
    func hint(_ port: UInt16, to name: String) throws {
        let bytes = try PeerHints.bytes([PeerEndpoint(host: "10.0.2.2", port: port)])
        let file = unsafe open(path("vm/\(name)/state.img"), O_RDWR | O_CLOEXEC)
        try #require(file >= 0)
        defer { close(file) }
        #expect(unsafe pwrite(file, bytes, bytes.count, off_t(DiskLayout.hintsOffset)) == bytes.count)
    }

    /// From the control plane's next start on, every write to its state disk goes to `log` too; `nil`: no longer.
    func record(_ log: String?) throws {
        let file = path("vm/\(Self.plane)/record")
        unsafe unlink(file)
        if let log { try writeFile(file, Array(log.utf8)) }
    }

    func document() throws -> [UInt8] { try readFile(path("cluster.json")) }

    func setDocument(_ bytes: [UInt8]) throws { try writeFile(path("cluster.json"), bytes) }

    /// As after an init that was cut off before it could remember what it had seen.
    func forgetGenerations() throws {
        var document = try #require(try JSON(parsing: document()).object)
        document["nodes"] = .array(
            (document["nodes"]?.array ?? []).map { node in
                .object((node.object ?? [:]).filter { $0.key != "generation" && $0.key != "epoch" })
            })
        try setDocument(Array(JSON.object(document).pretty.utf8))
    }

    func path(_ name: String) -> String { "\(cluster.directory)/\(name)" }

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
