import Bytes
import Glibc
import Host
import TestKit
import Testing

@testable import Provisioning

/// The real QEMU, swtpm and OVMF, with a disk that holds nothing to boot.
@Suite("Firmware in a real machine")
struct FirmwareTests {
    /// A folder with OVMF: `NACRE_FIRMWARE`, the image's own, or Debian's package.
    private static let firmware: String? = {
        let named = unsafe getenv("NACRE_FIRMWARE").map { unsafe String(cString: $0) }
        return ([named].compactMap(\.self) + ["build/firmware", Firmware.installed]).first {
            HostFiles.isReadable("\($0)/\(Firmware.codeName)")
                && HostFiles.isReadable("\($0)/\(Firmware.variablesName)")
        }
    }()

    @Test("firmware and TPM come up, the console says so, down leaves nothing")
    func boots() throws {
        let scratch = try Scratch()
        let home = "\(scratch.path)/cluster"
        try HostFiles.makeDirectory(home)
        let host = Host(environment: ["PATH": "/usr/bin:/bin", "HOME": scratch.path])
        guard let firmware = Self.firmware, let tools = try? LocalTools(host: host) else {
            print("skipped: QEMU 10, swtpm or OVMF is not here (tools/setup; NACRE_FIRMWARE=folder)")
            return
        }
        let disk = scratch.path + "/empty.raw"
        try HostFiles.create(disk, [UInt8](repeating: 0, count: 1 << 20))
        let before = try HostFiles.read(disk, limit: 2 << 20)
        let cluster = try LocalCluster(directory: home, host: host)
        let result = try cluster.up(
            UpRequest(image: disk, firmware: firmware, memoryMiB: 512, limits: .init(time: .seconds(180))),
            judge: { _, _ in .silent("no system") }, report: { _ in })
        let node = try #require(result.nodes.first)
        guard case .failed(let finding) = node.outcome else {
            Issue.record("an empty disk was verified")
            return
        }
        #expect(finding.reason == "local-boot")
        #expect(try cluster.consoleTail(node.node.name, lines: 50).contains { $0.contains("BdsDxe") })
        let record = try #require(cluster.machine(node.node.name, of: result.document).running)
        #expect(record.qemu.isAlive && record.swtpm.isAlive)
        #expect(try HostFiles.read(disk, limit: 2 << 20) == before)

        #expect(try cluster.down(keepDisks: false, report: { _ in }) == [node.node.name])
        #expect(!record.qemu.isAlive && !record.swtpm.isAlive)
        #expect(try HostFiles.names(in: home) == [])
        #expect(tools.qemuVersion.major >= LocalTools.wanted)
    }
}
