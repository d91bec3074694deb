import Bytes
import Cluster
import DiskFormat
import Kubernetes

/// `nacre.yaml`: what the owner wants of a cluster. Paths are relative to the directory that `nacre` runs in.
public struct ClusterConfig: Equatable, Sendable {
    public static let version = "v1"
    public static let file = "nacre.yaml"

    public var controlPlanes = 1
    public var workers = 0
    public var image = "build/image/nacre.raw"
    public var manifest = "build/image/manifest.json"
    public var bundle: String?
    public var trustRoot: String?
    public var policy: String?
    public var firmware: String?
    public var memoryMiB = UpRequest.defaultMemoryMiB
    public var processors = UpRequest.defaultProcessors
    public var diskMiB = UpRequest.defaultDiskMiB
    public var stateDisk = DiskRule.only
    /// Seconds for which a node's certificates hold.
    public var certificateLifetime = ClusterPolicy.standardLifetime
    public var podNetwork = PodNetwork.bridge

    public init() {}

    /// Every key, in the order of the file: what it takes, in words and as JSON Schema, and what it is for.
    private struct Key {
        let name: String
        let allowed: String
        let schema: JSON
        let purpose: String
        let sample: String
        let isRequired: Bool
        let read: (inout ClusterConfig, String) -> Bool
    }

    private static func count(_ range: ClosedRange<Int>, _ path: WritableKeyPath<ClusterConfig, Int>) -> (
        inout ClusterConfig, String
    ) -> Bool {
        { config, text in
            guard text.utf8.allSatisfy({ (0x30...0x39).contains($0) }), text == "0" || !text.hasPrefix("0"),
                let value = Int(text), range.contains(value)
            else { return false }
            config[keyPath: path] = value
            return true
        }
    }

    private static func integer(_ range: ClosedRange<Int>) -> JSON {
        [
            "type": "integer", "minimum": .integer(Int128(range.lowerBound)),
            "maximum": .integer(Int128(range.upperBound)),
        ]
    }

    private static let path: JSON = ["type": "string", "minLength": 1, "maxLength": 4096]
    private static func isPath(_ text: String) -> Bool { (1...4096).contains(text.utf8.count) }

    private static var keys: [Key] {
        func key(
            _ name: String, _ sample: String, _ allowed: String, _ schema: JSON, _ purpose: String,
            required: Bool = false, _ read: @escaping (inout ClusterConfig, String) -> Bool
        ) -> Key {
            Key(
                name: name, allowed: allowed, schema: schema, purpose: purpose, sample: sample, isRequired: required,
                read: read)
        }
        let words = PodNetwork.allCases.map(\.rawValue).joined(separator: " or ")
        let planes = 1...LocalCluster.maximumNodes
        let workers = 0...LocalCluster.maximumNodes - 1
        return [
            key("version", version, version, ["const": .string(version)], "form of this file", required: true) {
                $1 == version
            },
            key("provider", "qemu", "qemu", ["const": "qemu"], "where the machines are", required: true) {
                $1 == "qemu"
            },
            key(
                "controlPlanes", "1", "\(planes.lowerBound) to \(planes.upperBound)", integer(planes),
                "machines that hold the cluster's keys", count(planes, \.controlPlanes)),
            key(
                "workers", "0", "\(workers.lowerBound) to \(workers.upperBound)", integer(workers), "other machines",
                count(workers, \.workers)),
            key("image", "build/image/nacre.raw", "a path", path, "raw disk image of the nodes") { config, text in
                config.image = text
                return isPath(text)
            },
            key("manifest", "build/image/manifest.json", "a path", path, "what the nodes are judged by") {
                config, text in
                config.manifest = text
                return isPath(text)
            },
            key("bundle", "", "a path", path, "the manifest's signature; goes with trustRoot") { config, text in
                config.bundle = text
                return isPath(text)
            },
            key("trustRoot", "", "a path", path, "keys that may sign the manifest; goes with bundle") { config, text in
                config.trustRoot = text
                return isPath(text)
            },
            key(
                "policy", "", "a path", path,
                "what evidence must be (nacre.policy.v1; default: a local machine's own TPM)"
            ) {
                config, text in
                config.policy = text
                return isPath(text)
            },
            key("firmware", "", "a path", path, "folder with OVMF (default: beside the image)") { config, text in
                config.firmware = text
                return isPath(text)
            },
            key(
                "memory", "2G", "a size from 128M to 1024G, such as 2G", ["type": "string", "pattern": "^[0-9]+[MG]$"],
                "of each machine"
            ) { config, text in
                guard let size = MemorySize.mebibytes(text) else { return false }
                config.memoryMiB = size
                return true
            },
            key(
                "diskSize", "30G", "a size from 768M to 1024G, such as 30G",
                ["type": "string", "pattern": "^[0-9]+[MG]$"],
                "of each machine's state disk; it takes the room that is used"
            ) { config, text in
                guard let size = MemorySize.mebibytes(text), size >= UpRequest.minimumDiskMiB else { return false }
                config.diskMiB = size
                return true
            },
            key("cpus", "2", "1 to 256", integer(1...256), "of each machine", count(1...256, \.processors)),
            key(
                "certificateLifetime", "24h", "30s to 720h, such as 24h, 90m or 60s",
                ["type": "string", "pattern": "^[1-9][0-9]*[smh]$"],
                "of a node's certificates, renewed at two thirds of it; in the first policy"
            ) { config, text in
                guard let seconds = seconds(text) else { return false }
                config.certificateLifetime = seconds
                return true
            },
            key(
                "cni", "bridge", words, ["enum": .array(PodNetwork.allCases.map { .string($0.rawValue) })],
                "who gives pods their network; in the first policy"
            ) { config, text in
                guard let network = PodNetwork(rawValue: text) else { return false }
                config.podNetwork = network
                return true
            },
        ]
    }

    /// A number and s, m or h, within what a certificate may have.
    private static func seconds(_ text: String) -> Int? {
        guard let unit = ["s": 1, "m": 60, "h": 3600][text.suffix(1)], text.utf8.count <= 8, !text.hasPrefix("0"),
            text.dropLast().utf8.allSatisfy({ (0x30...0x39).contains($0) }), let count = Int(text.dropLast()),
            ClusterPolicy.certificateLifetimes.contains(count * unit)
        else { return nil }
        return count * unit
    }

    private static let diskKeys = ["id", "label", "minimumSize", "maximumSize"]

    /// - Parameter file: its name, for errors: line, key, what is allowed.
    public init(parsing bytes: [UInt8], file: String = Self.file) throws(Finding) {
        let document = try PlainYAML(parsing: bytes, file: file)
        self.init()
        let keys = Self.keys
        var disk: [String: PlainYAML.Entry] = [:]
        for entry in document.entries {
            let place = "\(file) line \(entry.line): \(entry.key)"
            if entry.key == "stateDisk" {
                guard ["", "only"].contains(entry.value) else {
                    throw Finding(
                        "parse-form", claim: place,
                        expected: "only, or below it \(Self.diskKeys.joined(separator: ", "))",
                        actual: entry.value)
                }
                continue
            }
            if entry.key.hasPrefix("stateDisk.") {
                let name = String(entry.key.dropFirst("stateDisk.".count))
                guard Self.diskKeys.contains(name) else {
                    throw Finding(
                        "parse-form", claim: place, expected: Self.diskKeys.joined(separator: ", "), actual: name)
                }
                disk[name] = entry
                continue
            }
            guard let key = keys.first(where: { $0.name == entry.key }) else {
                throw Finding(
                    "parse-form", claim: place, expected: (keys.map(\.name) + ["stateDisk"]).joined(separator: ", "),
                    actual: "an unknown key")
            }
            guard key.read(&self, entry.value) else {
                throw Finding(
                    "parse-form", claim: place, expected: key.allowed,
                    actual: entry.value.isEmpty ? "no value" : entry.value)
            }
        }
        for key in keys where key.isRequired && !document.entries.contains(where: { $0.key == key.name }) {
            throw Finding("parse-form", claim: "\(file): \(key.name)", expected: key.allowed, actual: "missing")
        }
        guard (bundle == nil) == (trustRoot == nil) else {
            throw Finding(
                "parse-form", claim: "\(file): bundle, trustRoot", expected: "both or neither", actual: "one of them")
        }
        guard controlPlanes + workers <= LocalCluster.maximumNodes else {
            throw Finding(
                "parse-range", claim: "\(file): controlPlanes, workers",
                expected: "at most \(LocalCluster.maximumNodes) together", actual: "\(controlPlanes + workers)")
        }
        stateDisk = try Self.disk(disk, file)
    }

    private static func disk(_ entries: [String: PlainYAML.Entry], _ file: String) throws(Finding) -> DiskRule {
        func refuse(_ expected: String, _ actual: String) -> Finding {
            Finding("parse-form", claim: "\(file): stateDisk", expected: expected, actual: actual)
        }
        func size(_ key: String) throws(Finding) -> UInt64? {
            guard let entry = entries[key] else { return nil }
            guard let size = MemorySize.mebibytes(entry.value) else {
                throw Finding(
                    "parse-form", claim: "\(file) line \(entry.line): stateDisk.\(key)",
                    expected: "a size from 128M to 1024G, such as 20G", actual: entry.value)
            }
            return UInt64(size) << 20
        }
        let (minimum, maximum) = (try size("minimumSize"), try size("maximumSize"))
        let named = entries.keys.filter { $0 == "id" || $0 == "label" }
        guard named.count + (minimum == nil && maximum == nil ? 0 : 1) <= 1 else {
            throw refuse("one of id, label, sizes", "\(entries.keys.sorted().joined(separator: ", "))")
        }
        let json: JSON
        if let id = entries["id"] {
            json = ["id": .string(id.value)]
        } else if let label = entries["label"] {
            json = ["label": .string(label.value)]
        } else if minimum != nil || maximum != nil {
            json = [
                "minimum": .integer(Int128(minimum ?? 0)), "maximum": .integer(Int128(maximum ?? UInt64(Int.max))),
            ]
        } else {
            return .only
        }
        do { return try DiskRule(json: json, path: "\(file): stateDisk") } catch { throw error.finding }
    }

    /// A commented file with the defaults.
    public static var sample: String {
        var text = "# What this cluster is made of; nacre config validate checks it, nacre create builds it.\n"
        for key in keys {
            text += "\n# \(key.purpose): \(key.allowed)\n"
            text += key.sample.isEmpty ? "#\(key.name):\n" : "\(key.name): \(key.sample)\n"
        }
        return text + """

            # The state disk of each node: the only disk beside the one that was booted; or one of
            #   id: NAME          below /dev/disk/by-id
            #   label: NAME       of a GPT partition
            #   minimumSize: 20G  and maximumSize
            stateDisk: only

            """
    }

    /// JSON Schema (2020-12), for editors.
    public static var schema: JSON {
        var properties: [String: JSON] = [:]
        for key in keys {
            properties[key.name] = .object(
                (key.schema.object ?? [:]).merging(["description": .string(key.purpose)]) { $1 })
        }
        let name: JSON = ["type": "string", "pattern": "^[!-.0-~]{1,255}$"]
        let size: JSON = ["type": "string", "pattern": "^[0-9]+[MG]$"]
        properties["stateDisk"] = [
            "oneOf": [
                ["const": "only"],
                [
                    "type": "object", "additionalProperties": false,
                    "properties": ["id": name, "label": name, "minimumSize": size, "maximumSize": size],
                ],
            ]
        ]
        return [
            "$schema": "https://json-schema.org/draft/2020-12/schema", "title": "nacre.yaml", "type": "object",
            "additionalProperties": false, "required": .array(keys.filter(\.isRequired).map { .string($0.name) }),
            "properties": .object(properties),
        ]
    }
}
