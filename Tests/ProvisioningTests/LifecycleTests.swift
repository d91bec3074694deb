import Attestation
import Bytes
import Glibc
import Host
import TestKit
import Testing

@testable import Provisioning

/// The life of a cluster's directory, with stand-ins for QEMU and swtpm.
@Suite("A cluster's directory", .serialized)
struct LifecycleTests {
    let scratch: Scratch
    let environment: [String: String]
    /// Deeper than the 108 bytes that a socket's address can hold.
    var home: String { scratch.path + "/" + String(repeating: "deep", count: 40) }

    init() throws {
        scratch = try Scratch()
        environment = try FakeTools.environment(in: scratch)
    }

    private func cluster() throws -> LocalCluster {
        _ = unsafe mkdir(home, 0o755)
        return try LocalCluster(directory: home, host: Host(environment: environment), patience: .milliseconds(100))
    }

    private func request(_ change: (inout UpRequest) -> Void = { _ in }) -> UpRequest {
        var request = UpRequest(
            image: scratch.path + "/image.raw", manifest: scratch.path + "/manifest.json",
            firmware: scratch.path + "/firmware", limits: .init(time: .seconds(30), resets: 2), madeDirectory: true)
        change(&request)
        return request
    }

    private static func accept(_: ClusterDocument.Node, _: Duration) -> NodeAnswer {
        .judged(
            NodeVerdict(
                verdict: .accept(), protection: .noneLocalTPM, imageDigest: [1],
                stages: [BootStage(name: "kernel", milliseconds: 1500)]))
    }

    private func up(_ request: UpRequest? = nil) throws -> UpResult {
        try cluster().up(request ?? self.request(), judge: Self.accept, report: { _ in })
    }

    /// Every process that works below the test's directory.
    private func processes() -> [Int32] {
        ((try? HostFiles.names(in: "/proc")) ?? []).compactMap { Int32($0) }.filter { pid in
            HostFiles.linkTarget("/proc/\(pid)/cwd")?.hasPrefix(home) == true
                && ProcessIdentity(pid: pid)?.isAlive == true
        }
    }

    private func expectNothingLeft() {
        #expect(processes() == [])
        #expect(!HostFiles.exists(home))
    }

    @Test("cut short before anything was noted: down takes the directory away, up goes on with it")
    func cutShort() throws {
        let host = Host(environment: environment)
        // What is left of an `up` that was killed between making the directory and writing cluster.json.
        let left = try LocalCluster(making: home, host: host)
        try HostFiles.create(home + "/.lock", [])
        #expect(left.isOwnDirectory)
        #expect(try left.down(keepDisks: false, report: { _ in }) == [])
        expectNothingLeft()

        _ = try LocalCluster(making: home, host: host)
        let again = try LocalCluster(making: home, host: host)
        #expect(again.isOwnDirectory, "still the directory that up made")
        #expect(try up(request { $0.madeDirectory = again.isOwnDirectory }).isVerified)
        _ = try cluster().down(keepDisks: false, report: { _ in })
        expectNothingLeft()

        // Somebody else's stays.
        try HostFiles.makeDirectory(home)
        let other = try LocalCluster(making: home, host: host)
        #expect(!other.isOwnDirectory)
        _ = try other.down(keepDisks: false, report: { _ in })
        #expect(HostFiles.exists(home))
    }

    @Test("up, up again, down: verified, well, gone")
    func whole() throws {
        let first = try up()
        #expect(first.isVerified && !first.isRejected)
        #expect(processes().count == 2)
        let running = processes()
        let second = try up(UpRequest())
        #expect(second.isVerified)
        #expect(processes() == running)
        #expect(first.document.clusterID == second.document.clusterID)
        #expect(try cluster().down(keepDisks: false, report: { _ in }) == ["control-plane-0"])
        expectNothingLeft()
        #expect(try cluster().down(keepDisks: false, report: { _ in }) == [])
        #expect(try HostFiles.names(in: home) == [])
    }

    @Test("nacre.up.v1 names every node with verdict, protection and stages")
    func json() throws {
        let json = try up(request { $0.workers = 1 }).json
        #expect(json["schema"]?.string == "nacre.up.v1")
        #expect(json["clusterID"]?.string?.count == 64)
        #expect(Set(json.object?.keys ?? [:].keys) == ["schema", "clusterID", "kubeconfig", "nodes"])
        let nodes = try #require(json["nodes"]?.array)
        #expect(nodes.compactMap { $0["name"]?.string } == ["control-plane-0", "worker-0"])
        for node in nodes {
            #expect(
                Set(node.object?.keys ?? [:].keys) == ["name", "role", "endpoint", "verdict", "protection", "stages"])
            #expect(node["verdict"]?.string == "accept")
            #expect(node["protection"]?.string == "none-local-tpm")
            #expect(node["endpoint"]?.string?.hasPrefix("https://127.0.0.1:") == true)
            #expect(node["stages"]?.array?.first == ["name": "kernel", "seconds": .double(1.5)])
        }
        let status = try cluster().status()
        #expect(status["schema"]?.string == "nacre.status.v1")
        let node = try #require(status["nodes"]?.array?.first)
        #expect(node["phase"]?.string == "running")
        #expect(node["verified"]?["verdict"]?.string == "accept")
        _ = try cluster().down(keepDisks: false, report: { _ in })
        expectNothingLeft()
    }

    @Test("a rejected node is a rejection, and keeps running for a closer look")
    func rejected() throws {
        let result = try cluster().up(
            request(),
            judge: { _, _ in
                .judged(
                    NodeVerdict(
                        verdict: .reject(Finding("register", claim: "tpm/sha256/4")), protection: .noneLocalTPM,
                        imageDigest: nil, stages: []))
            }, report: { _ in })
        #expect(result.isRejected && !result.isVerified)
        #expect(result.json["nodes"]?.array?.first?["verdict"]?.string == "reject")
        #expect(processes().count == 2)
        _ = try cluster().down(keepDisks: false, report: { _ in })
    }

    @Test("disks are kept when asked, and up continues with them")
    func keepDisks() throws {
        let first = try up()
        let state = home + "/vm/control-plane-0/tpm/tpm2-00.permall"
        try HostFiles.create(state, Array("used".utf8))
        #expect(try cluster().down(keepDisks: true, report: { _ in }) == ["control-plane-0"])
        #expect(processes() == [])
        #expect(try HostFiles.read(state, limit: 100) == Array("used".utf8))
        let names = try HostFiles.names(in: home + "/vm/control-plane-0")
        #expect(!names.contains(MachineFile.monitor) && !names.contains(MachineFile.processes))
        let second = try up(UpRequest())
        #expect(second.isVerified && second.document.clusterID == first.document.clusterID)
        #expect(try HostFiles.read(state, limit: 100) == Array("used".utf8))
        _ = try cluster().down(keepDisks: false, report: { _ in })
        expectNothingLeft()
    }

    @Test("an option that differs from the directory's cluster is refused, and names both values")
    func differs() throws {
        _ = try up()
        for change in [
            { $0.workers = 2 }, { $0.memoryMiB = 4096 }, { $0.processors = 1 }, { $0.image = "/dev/null" },
        ] as [(inout UpRequest) -> Void] {
            let error = #expect(throws: Finding.self) { try up(request(change)) }
            #expect(error?.reason == "local-differs")
        }
        try HostFiles.create(scratch.path + "/manifest.json", Array("{}".utf8))
        let manifest = #expect(throws: Finding.self) { try up(UpRequest()) }
        #expect(manifest?.reason == "local-differs")
        #expect(processes().count == 2)
        _ = try cluster().down(keepDisks: false, report: { _ in })
    }

    @Test("one node stops and starts alone, orderly, deaf or by power cut")
    func singleNode() throws {
        _ = try up()
        let node = "control-plane-0"
        let cluster = try cluster()
        func stop(powerCut: Bool) throws -> String {
            try cluster.stop(node, powerCut: powerCut, patience: .milliseconds(500), report: { _ in })
        }
        #expect(try stop(powerCut: false) == "shut down")
        #expect(processes() == [])
        #expect(try stop(powerCut: false) == "was not running")
        #expect(try cluster.start(node, report: { _ in }) != nil)
        #expect(try cluster.start(node, report: { _ in }) == nil)
        #expect(try stop(powerCut: true) == "power cut")
        #expect(processes() == [])
        try HostFiles.create(home + "/vm/\(node)/deaf", [])
        #expect(try cluster.start(node, report: { _ in }) != nil)
        #expect(try stop(powerCut: false).hasSuffix("was switched off"))
        #expect(processes() == [])
        let unknown = #expect(throws: Finding.self) { try cluster.start("worker-9", report: { _ in }) }
        #expect(unknown?.actual == "worker-9")
        _ = try cluster.down(keepDisks: false, report: { _ in })
        expectNothingLeft()
    }

    @Test("a node that resets for ever is given up")
    func resets() throws {
        _ = try up()
        let cluster = try cluster()
        _ = try cluster.stop("control-plane-0", powerCut: true, report: { _ in })
        try HostFiles.create(home + "/vm/control-plane-0/resets", Array("3".utf8))
        let result = try cluster.up(UpRequest(), judge: { _, _ in .silent("reset") }, report: { _ in })
        #expect(result.json["nodes"]?.array?.first?["reason"]?.string == "local-reboots")
        // It would burn a processor until somebody looks.
        #expect(processes() == [])
        _ = try cluster.down(keepDisks: false, report: { _ in })
        expectNothingLeft()
    }

    @Test("a machine that is killed meanwhile is started again by the next up")
    func killedMachine() throws {
        _ = try up()
        let killed = processes().compactMap { ProcessIdentity(pid: $0) }
        for process in killed { process.signal(SIGKILL) }
        for process in killed { #expect(process.waitForEnd(.seconds(10))) }
        #expect(try cluster().status()["nodes"]?.array?.first?["phase"]?.string == "stopped")
        #expect(try up().isVerified)
        _ = try cluster().down(keepDisks: false, report: { _ in })
        expectNothingLeft()
    }

    @Test("QEMU that does not start says why, and leaves no process")
    func refusedStart() throws {
        try HostFiles.move(scratch.path + "/image.raw", to: scratch.path + "/refuse.raw")
        let error = #expect(throws: Finding.self) { try up(request { $0.image = scratch.path + "/refuse.raw" }) }
        #expect(error?.actual == "exit code 1; it said: refused")
        #expect(processes() == [])
        _ = try cluster().down(keepDisks: false, report: { _ in })
        expectNothingLeft()
    }

    @Test("what is missing is named before anything is made")
    func missing() throws {
        let image = #expect(throws: Finding.self) { try up(request { $0.image = "/nonexistent.raw" }) }
        #expect(image?.reason == "parse-missing" && image?.claim == "/nonexistent.raw")
        #expect(!HostFiles.exists(home))
        let firmware = #expect(throws: Finding.self) { try up(request { $0.firmware = "/nonexistent" }) }
        #expect(firmware?.reason == "local-firmware")
        #expect(!HostFiles.exists(home))
        let many = #expect(throws: Finding.self) { try up(request { $0.workers = 1000 }) }
        #expect(many?.reason == "parse-range")
        #expect(!HostFiles.exists(home))
        try HostFiles.remove(scratch.path + "/bin/swtpm")
        // The stand-in hid the real one; a search path with neither is refused.
        var bare = environment
        bare["PATH"] = scratch.path + "/bin"
        _ = unsafe mkdir(home, 0o755)
        let tool = #expect(throws: Finding.self) {
            try LocalCluster(directory: home, host: Host(environment: bare)).up(
                request(), judge: Self.accept, report: { _ in })
        }
        #expect(tool?.reason == "local-tool" && tool?.claim == "swtpm")
    }

    @Test("a port taken by another program is replaced")
    func takenPort() throws {
        let first = try up()
        let port = try #require(first.document.nodes.first?.port)
        _ = try cluster().stop("control-plane-0", powerCut: true, report: { _ in })
        let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(socket) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let code = unsafe withUnsafePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(socket, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        #expect(code == 0 && listen(socket, 1) == 0)
        let second = try up()
        #expect(second.isVerified && second.document.nodes.first?.port != port)
        #expect(try cluster().document() == second.document)
        _ = try cluster().down(keepDisks: false, report: { _ in })
    }

    @Test("a whole nacre killed at any moment: down leaves nothing, up continues", arguments: [UInt64(1), 2])
    func killedCommand(_ seed: UInt64) throws {
        let folder = HostFiles.parent(of: try #require(HostFiles.linkTarget("/proc/self/exe")))
        let places = [CommandLine.arguments.first.map(HostFiles.parent(of:)) ?? "", folder, ".build/debug"]
        guard let program = places.lazy.compactMap({ HostFiles.resolved($0 + "/nacre") }).first else {
            print("skipped: the nacre executable is not built")
            return
        }
        func nacre(_ arguments: [String]) throws -> Spawned {
            try Command(
                program: program, arguments: arguments, environment: environment, directory: scratch.path, log: "log"
            ).start()
        }
        var generator = SeededGenerator(seed: seed)
        var reached = 0
        for round in 0..<8 {
            let command = try nacre([
                "up", "--dir", home, "--image", scratch.path + "/image.raw", "--manifest",
                scratch.path + "/manifest.json", "--firmware", scratch.path + "/firmware", "--workers", "1",
            ])
            usleep(UInt32.random(in: 0...900_000, using: &generator))
            reached += processes().count > 1 ? 1 : 0
            command.identity.signal(SIGKILL)
            _ = command.wait(for: .seconds(5))
            if round.isMultiple(of: 2) {
                // Asked for by another cluster: none of its files is taken for a whole one.
                let present = (try? cluster().document()) ?? nil
                let result = try up(present == nil ? request { $0.workers = 1 } : UpRequest())
                #expect(result.isVerified && result.nodes.count == 2)
                #expect(processes().count == 4)
                let down = try nacre(["down", "--dir", home])
                usleep(UInt32.random(in: 0...200_000, using: &generator))
                down.identity.signal(SIGKILL)
                _ = down.wait(for: .seconds(5))
            }
            _ = try cluster().down(keepDisks: false, report: { _ in })
            #expect(processes() == [])
            try HostFiles.remove(home)
        }
        // Some were killed while they had machines.
        #expect(reached > 0)
    }
}
