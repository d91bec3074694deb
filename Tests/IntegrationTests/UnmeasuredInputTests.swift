import Bytes
import Glibc
import TestKit
import Testing

/// What a host can put beside the image: either it changes nothing, or it is measured and the node refused.
extension IntegrationTests.ProductionTests {
    /// A drop-in that would keep the node from ever answering.
    private static let dropIn = "[Service]\nExecStartPre=/usr/bin/systemctl --force reboot\n"
    private static let dropInName = "systemd.unit-dropin.bootstrapper.service"

    /// Each of these alone would keep the node from coming up, were it obeyed.
    private static let ignored = HostInputs(
        systemdOptions: "systemd.unit=emergency.target systemd.debug_shell=ttyS0",
        oemStrings: [
            "io.systemd.credential.binary:\(dropInName)=\(Base64.encode(Array(dropIn.utf8)))",
            "io.systemd.credential:getty.ttys.container=ttyS0",
        ],
        // Names of fw_cfg have room for 55 bytes; these are words for systemd-sysctl.
        firmwareFiles: [("opt/io.systemd.credentials/sysctl.extra", "kernel.threads-max = 20\n")])

    @Test func `SystemdOptions, OEM strings and fw_cfg change nothing that the node does`() async throws {
        let node = try LocalNode(host: Self.ignored)
        let up = try await node.up()
        #expect(up.status == 0, "\(up.errors)\(up.text)")
        let console = try node.console()
        for sign in ["emergency", "sh-5", "login:", "debug-shell"] { #expect(!console.contains(sign), "\(sign)") }
        // The guest was given them: the variable is still in its store, the rest on QEMU's command line.
        let store = try readFile(node.directory + "/vm/control-plane-0/vars.fd")
        #expect(try HostInputs.systemdOptions(of: store) == Self.ignored.systemdOptions)
        let started = try node.processes().map { try readFile($0.dropLast("cwd".count) + "cmdline") }
        let words = started.map { String(decoding: $0, as: UTF8.self) }
        #expect(words.contains { $0.contains("type=11,value=io.systemd.credential") && $0.contains("sysctl.extra") })
        let (plain, other) = (try await Self.registers(of: ProductionBoot.node), try await Self.registers(of: node))
        for register in ["0", "2", "3", "4", "5", "6", "7", "9", "11", "12", "13", "14", "15"] {
            #expect(plain[register] == other[register], "register \(register)")
        }
        try await node.endsWithoutTrace()
    }

    /// The quoted values of the SHA-256 bank.
    private static func registers(of node: LocalNode) async throws -> [String: JSON] {
        let folder = try TemporaryFolder()
        let file = folder.path + "/evidence.json"
        let result = try await node.nacre(
            "evidence", "collect", "--endpoint", node.endpoint(), "--nonce", nonce, "--out", file)
        #expect(result.status == 0, "\(result.errors)")
        return try #require(try JSON(parsing: readFile(file))["tpm"]?["pcrs"]?["sha256"]?.object)
    }
}

extension IntegrationTests.ChangedImageTests {
    /// Files beside the UKI that systemd-stub takes along (systemd-stub(7), "Companion Files").
    enum Companion: CaseIterable, Sendable {
        case credential, globalCredential, systemExtension, configurationExtension

        var file: (path: String, contents: [UInt8]) {
            let contents = Array("of the host".utf8)
            return switch self {
            case .credential: ("EFI/BOOT/BOOTX64.EFI.extra.d/own.cred", contents)
            case .globalCredential: ("loader/credentials/global.cred", contents)
            case .systemExtension: ("EFI/BOOT/BOOTX64.EFI.extra.d/own.raw", contents)
            case .configurationExtension: ("EFI/BOOT/BOOTX64.EFI.extra.d/own.confext.raw", contents)
            }
        }

        /// The register that shows it.
        var register: String { self == .systemExtension ? "13" : "12" }
    }

    private static func rejected(
        with companions: [Companion], addons: [(path: String, contents: [UInt8])] = [], host: HostInputs = HostInputs()
    ) async throws -> JSON {
        let disk = try DiskCopy()
        try disk.add(companions.map(\.file) + addons)
        return try await rejected(disk, host: host)
    }

    /// The registers that the verdict explains, of one bank.
    private static func moved(_ verdict: JSON) -> [String] {
        let names = verdict["claims"]?["explanations"]?.array?.compactMap { $0["register"]?.string } ?? []
        return names.filter { $0.hasPrefix("tpm/sha256/") }.map { String($0.dropFirst("tpm/sha256/".count)) }
    }

    @Test func `credentials and extensions beside the UKI move PCR 12 and 13`() async throws {
        let verdict = try await Self.rejected(with: Companion.allCases)
        // The kernel measures all that it is given as initrd: PCR 9.
        #expect(Self.moved(verdict) == ["9", "12", "13"], "\(verdict.compact)")
    }

    @Test(Built.long, arguments: Companion.allCases)
    func `a companion of one kind moves the register of its kind`(_ companion: Companion) async throws {
        let verdict = try await Self.rejected(with: [companion])
        #expect(Self.moved(verdict) == ["9", companion.register], "\(verdict.compact)")
    }

    @Test(
        Built.long, arguments: ["loader/addons/other.addon.efi", "EFI/BOOT/BOOTX64.EFI.extra.d/other.addon.efi"])
    func `an addon to the command line is measured as image and as words`(path: String) async throws {
        guard let stub = ToolsTree.file("/usr/lib/systemd/boot/efi/addonx64.efi.stub") else { return }
        let folder = try TemporaryFolder()
        let file = folder.path + "/other.addon.efi"
        let words = try folder.file("cmdline", "nacre.harmless=1")
        // Behind the stub's own sections: ImageBase + SizeOfImage of its optional header.
        let bytes = try readFile(stub)
        func little(_ offset: Int, _ count: Int) -> Int {
            (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
        }
        let header = little(60, 4) + 24
        let address = little(header + 24, 8) + little(header + 56, 4)
        let copy = try Tool.run(
            [
                "objcopy", "--add-section", ".cmdline=\(words)", "--set-section-flags", ".cmdline=data,readonly",
                "--change-section-vma", ".cmdline=\(address)", stub, file,
            ])
        try #require(copy.status == 0, "\(copy.errors)")
        let verdict = try await Self.rejected(with: [], addons: [(path, try readFile(file))])
        #expect(Self.moved(verdict) == ["4", "9", "12"], "\(verdict.compact)")
    }

    @Test(Built.long) func `words for the command line in OEM strings are measured`() async throws {
        let verdict = try await Self.rejected(
            with: [], host: HostInputs(oemStrings: ["io.systemd.stub.kernel-cmdline-extra=nacre.harmless=1"]))
        #expect(Self.moved(verdict) == ["9", "12"], "\(verdict.compact)")
    }
}
