import Bytes
import Cluster
import TestKit
import Testing

@testable import Provisioning

@Suite("nacre.yaml")
struct ConfigTests {
    static func parse(_ text: String) throws(Finding) -> ClusterConfig {
        try ClusterConfig(parsing: Array(text.utf8), file: "nacre.yaml")
    }

    static let head = "version: v1\nprovider: qemu\n"

    @Test("what config generate writes is valid and means the defaults")
    func sample() throws {
        #expect(try Self.parse(ClusterConfig.sample) == ClusterConfig())
        // Every optional key of the file, once its comment sign is gone.
        let full = ClusterConfig.sample.replacing("#bundle:", with: "bundle: b")
            .replacing("#trustRoot:", with: "trustRoot: \"t # 1\"").replacing("#firmware:", with: "firmware: f")
            .replacing("#policy:", with: "policy: p")
        let config = try Self.parse(full)
        #expect(config.bundle == "b" && config.trustRoot == "t # 1" && config.firmware == "f")
        #expect(config.policy == "p")
    }

    @Test("values reach their places")
    func values() throws {
        let config = try Self.parse(
            Self.head + """
                controlPlanes: 3
                workers: 2   # two
                memory: 4G
                cpus: 8
                stateDisk:
                  minimumSize: 20G

                """)
        #expect(config.controlPlanes == 3 && config.workers == 2 && config.memoryMiB == 4096 && config.processors == 8)
        #expect(config.stateDisk == .size(minimum: 20 << 30, maximum: Int.max))
        #expect(try Self.parse(Self.head + "stateDisk:\n  id: virtio-state\n").stateDisk == .id("virtio-state"))
        #expect(try Self.parse(Self.head + "stateDisk:\n  label: \"nacre\"\n").stateDisk == .label("nacre"))
    }

    @Test(
        "errors name line, key and what is allowed",
        arguments: [
            ("workers: many\n", "line 3: workers", "0 to 15"), ("workers: 01\n", "line 3: workers", "0 to 15"),
            ("cpus:\n", "line 3: cpus", "1 to 256"), ("colour: red\n", "line 3: colour", "controlPlanes"),
            ("memory: 2T\n", "line 3: memory", "such as 2G"), ("stateDisk: any\n", "line 3: stateDisk", "minimumSize"),
            ("stateDisk:\n  name: x\n", "line 4: stateDisk.name", "label"),
            ("stateDisk:\n  minimumSize: big\n", "line 4: stateDisk.minimumSize", "20G"),
            ("\n# c\n\tworkers: 1\n", "line 5", "two spaces"), ("  workers: 1\n", "line 3", "no indentation"),
            ("workers: 1\nworkers: 2\n", "line 4", "each key once"), ("workers: [1]\n", "line 3", "plain word"),
            ("workers:1\n", "line 3", "space after the colon"), ("workers: &a 1\n", "line 3", "plain word"),
            ("- workers\n", "line 3", "key"), ("image: \"a\n", "line 3", "double quotes"),
            ("bundle: b\n", "bundle", "both"),
            ("controlPlanes: 9\nworkers: 9\n", "workers", "16 together"),
            ("stateDisk:\n  id: a\n  label: b\n", "stateDisk", "one of"), ("stateDisk:\n  id: ../a\n", "stateDisk", ""),
        ])
    func errors(_ text: String, _ place: String, _ allowed: String) {
        let error = #expect(throws: Finding.self) { try Self.parse(Self.head + text) }
        #expect(error?.family == "parse")
        #expect(error?.claim.contains(place) == true, "\(error.map { "\($0)" } ?? "")")
        #expect(allowed.isEmpty || error?.expected.contains(allowed) == true, "\(error.map { "\($0)" } ?? "")")
    }

    @Test("what must be there must be there")
    func required() {
        for text in ["", "version: v1\n", "provider: qemu\n", "version: v2\nprovider: qemu\n", "--- \n"] {
            #expect(throws: Finding.self) { try Self.parse(text) }
        }
    }

    @Test("damaged files are refused or read, never a crash")
    func damage() {
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<3000 {
            if let config = try? ClusterConfig(
                parsing: mutate(Array(ClusterConfig.sample.utf8), with: &generator), file: "f")
            {
                #expect((1...16).contains(config.controlPlanes) && (1...256).contains(config.processors))
            }
        }
    }

    @Test("the schema knows every key of the sample")
    func schema() throws {
        let properties = try #require(ClusterConfig.schema["properties"]?.object)
        for line in ClusterConfig.sample.split(separator: "\n") where !line.hasPrefix("# ") {
            let key = String(line.drop { $0 == "#" }.prefix { $0 != ":" })
            #expect(properties[key] != nil, "\(key)")
        }
    }
}
