import Bytes
import Glibc
import Host
import TestKit
import Testing

@testable import Provisioning

/// A folder of its own for one test, removed with it.
final class Scratch {
    let path: String

    init() throws {
        var template = Array("/tmp/nacre-local-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else { throw HostFiles.problem("making a folder in", "/tmp") }
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { try? HostFiles.remove(path) }
}

@Suite("Processes")
struct ProcessTests {
    private func sleeper(_ scratch: Scratch, marker: String = "none") throws -> Spawned {
        let child = try Command(
            program: "/bin/sleep", arguments: ["600"],
            environment: [MarkedProcesses.variable: marker], directory: scratch.path, log: "log"
        ).start()
        // The kernel lets the parent go on a moment before it has laid out the new program's environment.
        for _ in 0..<1000 {
            if try !HostFiles.read("/proc/\(child.identity.pid)/environ", limit: 1 << 20).isEmpty { break }
            usleep(10_000)
        }
        return child
    }

    @Test(
        "the start time stands 20 fields behind the name, whatever the name",
        arguments: ["sleep", "a b", "a) S 1 2 3", "((", ") R 0 0"])
    func stat(_ name: String) {
        let fields = (4...52).map(String.init).joined(separator: " ")
        let parsed = ProcessIdentity.parse(stat: "17 (\(name)) S \(fields)\n")
        #expect(parsed?.state == "S" && parsed?.startTime == 22)
        #expect(ProcessIdentity.parse(stat: "17 (\(name)") == nil)
        #expect(ProcessIdentity.parse(stat: "") == nil)
    }

    @Test("a number that belongs to another process now is never signalled")
    func recycled() throws {
        let scratch = try Scratch()
        let child = try sleeper(scratch)
        let real = child.identity
        let earlier = ProcessIdentity(pid: real.pid, startTime: real.startTime - 1, bootID: real.bootID)
        let otherBoot = ProcessIdentity(pid: real.pid, startTime: real.startTime, bootID: "another")
        #expect(!earlier.isAlive && !otherBoot.isAlive && real.isAlive)
        #expect(!earlier.signal(SIGKILL) && !otherBoot.signal(SIGKILL))
        #expect(real.isAlive)
        real.end(patience: .seconds(5))
        #expect(!real.isAlive)
    }

    @Test("a zombie is dead")
    func zombie() throws {
        let scratch = try Scratch()
        let child = try Command(
            program: "/bin/true", arguments: [], environment: [:], directory: scratch.path, log: "log"
        ).start()
        for _ in 0..<500 where child.identity.isAlive { usleep(10_000) }
        #expect(!child.identity.isAlive)
        #expect(child.status() == .exited(0))
    }

    @Test("a started program leads a session, has an empty input, and only the files it was given")
    func isolation() throws {
        let scratch = try Scratch()
        let leak = unsafe open("/dev/null", O_RDONLY)
        defer { close(leak) }
        let given = unsafe open("/dev/zero", O_RDONLY)
        defer { close(given) }
        let child = try Command(
            program: "/bin/sh", arguments: ["-c", "readlink /proc/$$/fd/0 /proc/$$/fd/3; ls /proc/$$/fd; env | sort"],
            environment: ["A": "1"], directory: scratch.path, log: "out"
        ).start(passing: [given])
        #expect(child.wait(for: .seconds(10)) == .exited(0))
        let said = String(decoding: try readFile(scratch.path + "/out"), as: UTF8.self)
        #expect(said.hasPrefix("/dev/null\n/dev/zero\n0\n1\n2\n3\nA=1\n"))
    }

    @Test("a program that is not there, and one that fails, say so")
    func failures() throws {
        let scratch = try Scratch()
        func command(_ program: String, _ arguments: [String]) -> Command {
            Command(program: program, arguments: arguments, environment: [:], directory: scratch.path, log: "log")
        }
        let missing = #expect(throws: Finding.self) { try command("/nonexistent", []).start() }
        #expect(missing?.reason == "local-spawn")
        let failing = #expect(throws: Finding.self) {
            try command("/bin/sh", ["-c", "echo why; exit 3"]).run(limit: .seconds(10))
        }
        #expect(failing?.actual == "exit code 3; it said: why")
        let endless = #expect(throws: Finding.self) { try command("/bin/sleep", ["600"]).run(limit: .milliseconds(50)) }
        #expect(endless?.reason == "local-command")
    }

    @Test("found by marker and place together, never by one alone")
    func marked() throws {
        let scratch = try Scratch()
        let other = try Scratch()
        let ours = try sleeper(scratch, marker: "m/1")
        let copied = try sleeper(other, marker: "m/1")
        let neighbour = try sleeper(scratch, marker: "m/10")
        defer { for child in [ours, copied, neighbour] { child.identity.end(patience: .seconds(1)) } }
        #expect(MarkedProcesses.find(marker: "m/1", below: scratch.path) == [ours.identity])
        #expect(MarkedProcesses.find(marker: "m/2", below: scratch.path) == [])
        try HostFiles.remove(scratch.path)
        #expect(MarkedProcesses.find(marker: "m/1", below: scratch.path) == [ours.identity])
    }
}

@Suite("Files and the directory's lock")
struct FilesTests {
    @Test("a file is replaced whole, and links are not followed on removal")
    func files() throws {
        let scratch = try Scratch()
        try HostFiles.write(scratch.path + "/f", [1, 2, 3])
        try HostFiles.write(scratch.path + "/f", [4])
        #expect(try HostFiles.read(scratch.path + "/f", limit: 10) == [4])
        #expect(throws: Finding.self) { try HostFiles.read(scratch.path + "/f", limit: 0) }
        #expect(try HostFiles.names(in: scratch.path) == ["f"])
        try HostFiles.makeDirectory(scratch.path + "/d")
        let links = unsafe [
            symlink(scratch.path + "/f", scratch.path + "/d/link"), symlink("/tmp", scratch.path + "/d/tmp"),
        ]
        #expect(links == [0, 0])
        try HostFiles.remove(scratch.path + "/d")
        #expect(HostFiles.exists(scratch.path + "/f") && !HostFiles.exists(scratch.path + "/d"))
        try HostFiles.remove(scratch.path + "/nothing")
    }

    @Test("the second process is told who holds the directory")
    func lock() throws {
        let scratch = try Scratch()
        let first = try DirectoryLock(directory: scratch.path, purpose: "nacre up", patience: .zero)
        var told = ""
        let refused = #expect(throws: Finding.self) {
            _ = try DirectoryLock(directory: scratch.path, purpose: "nacre down", patience: .milliseconds(50)) {
                told = $0
            }
        }
        #expect(refused?.reason == "local-lock")
        #expect(told.hasPrefix("pid \(getpid()), nacre up, since "))
        #expect(refused?.actual == "held by \(told)")
        first.keep()
    }

    @Test("a lock ends with its holder, and a removed lock file guards nothing")
    func release() throws {
        let scratch = try Scratch()
        do {
            let first = try DirectoryLock(directory: scratch.path, purpose: "one", patience: .zero)
            first.keep()
        }
        let second = try DirectoryLock(directory: scratch.path, purpose: "two", patience: .zero)
        second.removeFile()
        let third = try DirectoryLock(directory: scratch.path, purpose: "three", patience: .zero)
        third.keep()
        second.keep()
    }
}
