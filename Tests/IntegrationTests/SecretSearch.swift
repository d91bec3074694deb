import Bytes
import Cluster
import Crypto
import DiskFormat
import Glibc
import Provisioning
import TestKit
import Testing

extension IntegrationTests.OwnedClusterTests {
    /// The bytes of every secret of the cluster, searched for where they must not be: in the whole memory of the guest
    /// (kernel, bootstrapper, freed pages alike), on its disks and console, in every file on the host's side.
    func expectNoSecrets(_ node: LocalNode, words: String) throws {
        let machine = "\(node.directory)/vm/\(Self.machine)"
        let secrets = try Self.secrets(of: node, words: words)
        let dump = machine + "/memory"
        defer { unsafe unlink(dump) }
        try Self.saveMemory(of: machine, to: dump)
        let found = try secrets.map { try Self.count($0.bytes, in: dump) }
        // A control plane holds the cluster secret, in its locked memory and in what its kernel caches of its disk: that
        // the search finds it shows that it searches.
        #expect(found[0] > 0, "the guest's memory was not searched")
        #expect(found[1] == 0, "the disk's key stayed in the guest's memory \(found[1]) times")
        #expect(found[2] == 0, "the passphrase is in the guest's memory")

        unsafe unlink(dump)
        let files = try Tool.run(["find", node.directory, "-type", "f"]).text.split(separator: "\n").map { String($0) }
        #expect(files.contains { $0.hasSuffix("/console.log") } && files.contains { $0.hasSuffix("/state.img") })
        for file in files {
            for (what, bytes) in secrets where file != words {
                #expect(try Self.count(bytes, in: file) == 0, "\(what) in \(file)")
                let text = Array(Hex.encode(bytes).utf8)
                if what != "passphrase" { #expect(try Self.count(text, in: file) == 0, "\(what) in \(file), as text") }
            }
        }
    }

    private static let machine = "control-plane-0"

    /// Cluster secret, disk key, passphrase, in this order.
    static func secrets(of node: LocalNode, words: String) throws -> [(what: String, bytes: [UInt8])] {
        var line = try readFile(words)
        while line.last == 0x0A { line.removeLast() }
        let phrase = line
        let cluster = try LocalCluster(directory: node.directory, host: Host(environment: [:]))
        let secret = try cluster.clusterSecret(passphrase: Secret(wiping: &line))
        let packed = secret.packed.withBytes { bytes in bytes.indices.map { bytes[$0] } }
        let diskKey = secret.diskKey(node: try #require(NodeName(machine)), epoch: 1).withBytes { bytes in
            bytes.indices.map { bytes[$0] }
        }
        return [("cluster secret", Array(packed.prefix(32))), ("disk key", diskKey), ("passphrase", phrase)]
    }

    /// Through QEMU's monitor: the first two gigabytes of physical memory, which is all that the machine has.
    private static func saveMemory(of machine: String, to file: String) throws {
        let script = """
            import json, os, socket, sys
            os.chdir(sys.argv[1])
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(120)
            s.connect("qmp.sock")
            f = s.makefile("rw")
            f.readline()
            def ask(command, **arguments):
                f.write(json.dumps({"execute": command, "arguments": arguments}) + "\\n")
                f.flush()
                while True:
                    answer = json.loads(f.readline())
                    if "error" in answer: sys.exit(answer["error"]["desc"])
                    if "return" in answer: return answer["return"]
            ask("qmp_capabilities")
            size = ask("query-memory-size-summary")["base-memory"]
            ask("pmemsave", val=0, size=min(size, 2 << 30), filename=sys.argv[2])
            """
        let result = try Tool.run(["python3", "-c", script, machine, file])
        try #require(result.status == 0, "\(result.errors)")
    }

    /// How often `bytes` stand in a file; holes are skipped, and hold nothing.
    private static func count(_ bytes: [UInt8], in path: String) throws -> Int {
        let script = """
            import os, sys
            needle, piece, found, offset = bytes.fromhex(sys.argv[1]), 64 << 20, 0, 0
            file = os.open(sys.argv[2], os.O_RDONLY)
            while True:
                try: offset = os.lseek(file, offset, os.SEEK_DATA)
                except OSError: break
                data = os.pread(file, piece, offset)
                if not data: break
                found += data.count(needle)
                # Overlapping by less than the needle: nothing is cut in two, nothing is counted twice.
                offset += len(data) if len(data) < piece else piece - len(needle) + 1
            print(found)
            """
        let result = try Tool.run(["python3", "-c", script, Hex.encode(bytes), path])
        try #require(result.status == 0, "\(path): \(result.errors)")
        return try #require(Int(result.text.prefix { $0.isNumber }))
    }
}
