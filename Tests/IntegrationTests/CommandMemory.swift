import Bytes
import Crypto
import TestKit
import Testing

/// What a running command keeps in its memory, and leaves behind when it is killed.
struct CommandMemory {
    /// How often each needle stands in the process's memory.
    let found: [Int]
    /// Files with the process's memory that its end left.
    let cores: [String]
    /// Such files that the end of another program leaves here, for comparison; `nil` where this host pipes them away.
    let coresOfOthers: Int?

    /// Runs `command` until its standard error holds `word`, searches it, and ends it by SIGSEGV.
    ///
    /// - Parameter folder: where a core file would lie.
    static func search(
        _ command: [String], until word: String, for needles: [[UInt8]], in folder: TemporaryFolder
    ) throws -> CommandMemory {
        let script = """
            import json, os, resource, signal, subprocess, sys
            folder, word, needles, command = sys.argv[1], sys.argv[2], sys.argv[3].split(","), sys.argv[4:]
            needles = [bytes.fromhex(needle) for needle in needles]
            def unlimited():
                resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            def start(words):
                return subprocess.Popen(words, cwd=folder, preexec_fn=unlimited, stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": folder})
            def cores(process):
                process.send_signal(signal.SIGSEGV)
                process.wait(60)
                return [name for name in os.listdir(folder) if name.startswith("core")]
            process = start(command)
            said = b""
            for line in process.stderr:
                said += line
                if word.encode() in line: break
            else: sys.exit(said.decode(errors="replace"))
            found = [0] * len(needles)
            with open(f"/proc/{process.pid}/maps") as maps, open(f"/proc/{process.pid}/mem", "rb", 0) as memory:
                for line in maps:
                    span, rights = line.split()[:2]
                    if not rights.startswith("rw"): continue
                    first, last = (int(text, 16) for text in span.split("-"))
                    try:
                        memory.seek(first)
                        data = memory.read(last - first)
                    except OSError: continue
                    for index, needle in enumerate(needles): found[index] += data.count(needle)
            mine = cores(process)
            pattern = open("/proc/sys/kernel/core_pattern").read()
            others = None
            if "|" not in pattern and "/" not in pattern:
                others = len(cores(start(["sleep", "60"])))
            print(json.dumps({"found": found, "cores": mine, "others": others}))
            """
        let words = ["python3", "-c", script, folder.path, word, needles.map { Hex.encode($0) }.joined(separator: ",")]
        let result = try Tool.run(words + command)
        try #require(result.status == 0, "\(result.errors)")
        let json = try JSON(parsing: result.output)
        return CommandMemory(
            found: (json["found"]?.array ?? []).compactMap { $0.integer.map { Int($0) } },
            cores: (json["cores"]?.array ?? []).compactMap(\.string),
            coresOfOthers: json["others"]?.integer.map { Int($0) })
    }
}

extension IntegrationTests.OwnedClusterTests {
    /// `nacre init` after it has handed the keys over and waits for Kubernetes.
    func expectNoSecretsOfCommand(_ node: LocalNode, words: String) throws {
        let folder = try TemporaryFolder()
        let secrets = try Self.secrets(of: node, words: words)
        let control = Array(node.directory.utf8)
        let memory = try CommandMemory.search(
            [Built.nacre, "init", "--dir", node.directory, "--passphrase-file", words],
            until: "after its kernel started", for: [control] + secrets.map(\.bytes), in: folder)
        try #require(memory.found.count == secrets.count + 1)
        #expect(memory.found[0] > 0, "the command's memory was not searched")
        for (secret, count) in zip(secrets, memory.found.dropFirst()) {
            #expect(count == 0, "the \(secret.what) stayed in the command's memory \(count) times")
        }
        #expect(memory.cores.isEmpty, "\(memory.cores)")
        if let others = memory.coresOfOthers {
            #expect(others > 0, "no program leaves a core file here: nothing is shown")
        } else {
            print("skipped: core files: this host hands them to a program")
        }
    }
}
