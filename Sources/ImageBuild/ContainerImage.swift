import Bytes
import Crypto

/// A container image of one layer, made from nothing: an OCI image layout (image-spec v1) in a tar archive that
/// containerd imports. The same contents give the same bytes.
struct ContainerImage {
    /// What it is found by, e.g. `node.local/pause:1`.
    var name: String
    var root: TarArchive
    var command: [String]
    var environment: [String] = ["PATH=/bin"]
    /// Nobody, whom the system's own files belong to never.
    var user = "65534:65534"

    private typealias Blob = (digest: String, bytes: [UInt8])

    private static func blob(_ bytes: [UInt8]) -> Blob {
        (Hex.encode(HashAlgorithm.sha256.hash(bytes)), bytes)
    }

    private static func descriptor(_ type: String, _ blob: Blob, _ more: [String: JSON] = [:]) -> JSON {
        .object(
            more.merging([
                "mediaType": .string("application/vnd.oci.image.\(type)"),
                "digest": .string("sha256:\(blob.digest)"), "size": .integer(Int128(blob.bytes.count)),
            ]) { $1 })
    }

    func archive() throws(Finding) -> [UInt8] {
        // Not compressed: the disk that holds it is, and the layer's digest is then the one of its files, too.
        let layer = Self.blob(try root.bytes())
        let configuration = Self.blob(
            Array(
                ([
                    "architecture": "amd64", "os": "linux",
                    "config": [
                        "Entrypoint": .array(command.map { .string($0) }),
                        "Env": .array(environment.map { .string($0) }),
                        "User": .string(user), "WorkingDir": "/",
                    ],
                    "rootfs": ["type": "layers", "diff_ids": [.string("sha256:\(layer.digest)")]],
                ] as JSON).compact.utf8))
        let manifest = Self.blob(
            Array(
                ([
                    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                    "config": Self.descriptor("config.v1+json", configuration),
                    "layers": [Self.descriptor("layer.v1.tar", layer)],
                ] as JSON).compact.utf8))
        let index: JSON = [
            "schemaVersion": 2,
            "manifests": [
                Self.descriptor(
                    "manifest.v1+json", manifest,
                    ["annotations": ["io.containerd.image.name": .string(name)]])
            ],
        ]
        var outer = TarArchive()
        outer["oci-layout"] = .file(mode: 0o644, Array(#"{"imageLayoutVersion":"1.0.0"}"#.utf8))
        outer["index.json"] = .file(mode: 0o644, Array(index.compact.utf8))
        outer["blobs"] = .directory(mode: 0o755)
        outer["blobs/sha256"] = .directory(mode: 0o755)
        for blob in [layer, configuration, manifest] {
            outer["blobs/sha256/\(blob.digest)"] = .file(mode: 0o644, blob.bytes)
        }
        return try outer.bytes()
    }

    /// Directories that every root has, and the one user.
    private static func empty() -> TarArchive {
        var root = TarArchive()
        for name in ["bin", "dev", "etc", "proc", "sys"] { root[name] = .directory(mode: 0o755) }
        root["tmp"] = .directory(mode: 0o1777)
        root["etc/passwd"] = .file(mode: 0o644, Array("nobody:x:65534:65534:nobody:/:/bin/sh\n".utf8))
        root["etc/group"] = .file(mode: 0o644, Array("nogroup:x:65534:\n".utf8))
        return root
    }

    /// Holds a pod's namespaces.
    static func pause(program: [UInt8]) -> ContainerImage {
        var root = empty()
        root["bin/pause"] = .file(mode: 0o755, program)
        return ContainerImage(name: "node.local/pause:1", root: root, command: ["/bin/pause"])
    }

    /// Something to run where no registry is reached: a web server on port 8080 that says where it runs, and a shell with
    /// a client and a resolver.
    static func app(busybox: [UInt8]) -> ContainerImage {
        var root = empty()
        root["bin/busybox"] = .file(mode: 0o755, busybox)
        for applet in [
            "cat", "date", "dd", "df", "env", "grep", "head", "hostname", "httpd", "id", "ip", "ls", "mkdir", "nc",
            "nslookup", "ping", "ps", "rm", "sh", "sleep", "sync", "tail", "test", "timeout", "touch", "uname", "wc",
            "wget",
        ] { root["bin/\(applet)"] = .link(to: "busybox") }
        root["www"] = .directory(mode: 0o755)
        root["www/cgi-bin"] = .directory(mode: 0o755)
        root["www/index.html"] = .file(mode: 0o644, Array("a Nacre node's own container\n".utf8))
        let page = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nhostname\n"
        root["www/cgi-bin/hostname"] = .file(mode: 0o755, Array(page.utf8))
        return ContainerImage(
            name: "node.local/app:1", root: root, command: ["/bin/httpd", "-f", "-p", "8080", "-h", "/www"])
    }
}
