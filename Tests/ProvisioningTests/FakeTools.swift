import Bytes
import Host
import Manifest

@testable import Provisioning

/// Stand-ins for QEMU and swtpm that behave like them as far as processes, files and sockets go, so that the life of
/// machines can be tested in milliseconds. Tests with the real programs are beside them.
enum FakeTools {
    /// Makes the programs in a folder of `scratch` and returns the environment that finds them first.
    static func environment(in scratch: Scratch) throws -> [String: String] {
        let folder = scratch.path + "/bin"
        try HostFiles.makeDirectory(folder)
        for (name, text) in [("qemu-system-x86_64", qemu), ("swtpm", swtpm), ("swtpm_setup", setup)] {
            try HostFiles.create("\(folder)/\(name)", Array(text.utf8), mode: 0o755)
        }
        try HostFiles.makeDirectory(scratch.path + "/firmware")
        for name in [Firmware.codeName, Firmware.variablesName] {
            try HostFiles.create("\(scratch.path)/firmware/\(name)", [1, 2, 3])
        }
        try HostFiles.create(scratch.path + "/image.raw", [UInt8](repeating: 0, count: 512))
        try HostFiles.create(scratch.path + "/manifest.json", try manifest().bytes)
        return ["PATH": folder + ":/usr/bin:/bin", "HOME": scratch.path]
    }

    /// A manifest that can be read and matches nothing.
    private static func manifest() throws -> Manifest {
        var document: JSON = [
            "schema": "nacre.measurements.v1", "tpm": ["sha256": ["4": .hex([UInt8](repeating: 4, count: 32))]],
            "snp": [], "tdx": [:], "events": [],
        ]
        let digest = try Measurements.digest(of: document)
        if case .object(var fields) = document {
            fields["imageDigest"] = .hex(digest)
            document = .object(fields)
        }
        let file = Manifest.File(name: "image.raw", size: 512, sha256: [UInt8](repeating: 0, count: 32))
        let manifest = Manifest(
            product: "test", version: "1", releaseCounter: 1, profile: .production,
            files: .init(raw: file, uki: file, root: nil, rootHash: [UInt8](repeating: 0, count: 32)),
            inputs: .init(lock: [UInt8](repeating: 0, count: 32), revision: nil, toolchain: [:]),
            measurements: try Measurements(document), phase: nil, kubernetes: nil, sbom: nil,
            notAfter: Instant(seconds: 4_000_000_000), minimumRelease: 0)
        return try Manifest(parsing: manifest.bytes)
    }

    /// Answers on its monitor, resets itself as often as the file `resets` says, ends at the power button unless there
    /// is a file `deaf`.
    private static let qemu = """
        #!/usr/bin/env python3
        import os, socket, sys
        if "--version" in sys.argv:
            print("QEMU emulator version 10.0.2 (fake)")
            sys.exit(0)
        if any("refuse" in word for word in sys.argv):
            print("refused")
            sys.exit(1)
        open("console.log", "a").write("BdsDxe: starting Boot0001\\nnacre: stages kernel=1s attestable=2s\\n")
        server = socket.socket(socket.AF_UNIX)
        server.bind("qmp.sock")
        server.listen()
        while True:
            client, _ = server.accept()
            try:
                client.sendall(b'{"QMP": {}}\\r\\n')
                lines = client.makefile("rb")
                for line in lines:
                    if b"system_powerdown" in line and not os.path.exists("deaf"):
                        client.sendall(b'{"return": {}}\\r\\n')
                        sys.exit(0)
                    client.sendall(b'{"return": {}}\\r\\n')
                    for _ in range(int(open("resets").read()) if os.path.exists("resets") else 0):
                        client.sendall(b'{"event": "RESET", "data": {"guest": true}}\\r\\n')
            except OSError:
                pass

        """

    /// Ends with its peer, as `--terminate` asks.
    private static let swtpm = """
        #!/bin/sh
        exec cat <&3

        """

    private static let setup = """
        #!/bin/sh
        sleep 0.1
        echo state > tpm/tpm2-00.permall

        """
}
