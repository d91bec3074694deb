import Attestation
import Bytes
import Crypto
import Glibc
import Linux
import SEVSNP
import SimulatedTEE
import TestKit
import Testing

/// The files behave as the kernel's do, so that what runs against them runs against a TEE.
@Suite(MountedTEE.possible) struct ReportTreeTests {
    let keys: SimulatedKeys
    init() throws { keys = try #require(MountedTEE.keys) }

    private func code(_ body: () throws(SystemError) -> Void) -> Int32 {
        do throws(SystemError) {
            try body()
            return 0
        } catch { return error.code }
    }

    @Test func `requests are directories whose attributes depend on the provider`() throws {
        let snp = try MountedTEE(SimulatedSNP(keys))
        let directory = ConfigFS(root: snp.reports)
        try directory.create("a")
        #expect(code { () throws(SystemError) in try directory.create("a") } == EEXIST)
        #expect(
            try File.names(in: "\(snp.reports)/a") == [
                "auxblob", "generation", "inblob", "outblob", "privlevel", "privlevel_floor", "provider",
            ])
        #expect(try directory.read("a", "provider") == Array("sev_guest\n".utf8))
        #expect(code { () throws(SystemError) in _ = try directory.read("a", "service_guid") } == ENOENT)
        directory.remove("a")
        #expect(try File.names(in: snp.reports).isEmpty)
        #expect(code { () throws(SystemError) in _ = try directory.read("a", "provider") } == ENOENT)

        let tdx = try MountedTEE(SimulatedTDX(keys))
        try ConfigFS(root: tdx.reports).create("b")
        #expect(try File.names(in: "\(tdx.reports)/b") == ["generation", "inblob", "outblob", "provider"])
        var services = SimulatedSNP(keys)
        services.hasServices = true
        let svsm = try MountedTEE(services)
        try ConfigFS(root: svsm.reports).create("c")
        #expect(try File.names(in: "\(svsm.reports)/c").count == 11)
    }

    @Test func `every write moves the generation, and blobs answer the last one`() throws {
        let mounted = try MountedTEE(SimulatedSNP(keys))
        let directory = ConfigFS(root: mounted.reports)
        try directory.create("a")
        func generation() throws -> String { String(decoding: try directory.read("a", "generation"), as: UTF8.self) }
        #expect(try generation() == "0\n")
        #expect(code { () throws(SystemError) in _ = try directory.read("a", "outblob") } == EINVAL, "nothing asked")
        try directory.write("a", "privlevel", Array("2\n".utf8))
        try directory.write("a", "inblob", [UInt8](repeating: 7, count: 64))
        #expect(try generation() == "2\n")
        let first = try AttestationReport(directory.read("a", "outblob"))
        #expect(first.vmpl == 2)
        #expect(first.reportData == [UInt8](repeating: 7, count: 64))
        #expect(try AttestationReport(directory.read("a", "outblob")) == first, "no new report without a write")
        try directory.write("a", "inblob", [UInt8](repeating: 8, count: 64))
        #expect(try AttestationReport(directory.read("a", "outblob")).reportData == [UInt8](repeating: 8, count: 64))
        #expect(try CertificateTable(directory.read("a", "auxblob"))[.vcek] != nil)
    }

    @Test func `what the kernel refuses is refused alike`() throws {
        let mounted = try MountedTEE(SimulatedSNP(keys))
        let directory = ConfigFS(root: mounted.reports)
        try directory.create("a")
        func write(_ attribute: String, _ bytes: [UInt8]) -> Int32 {
            code { () throws(SystemError) in try directory.write("a", attribute, bytes) }
        }
        #expect(write("privlevel", Array("4".utf8)) == EINVAL)
        #expect(write("privlevel", Array("x".utf8)) == EINVAL)
        #expect(write("inblob", [UInt8](repeating: 0, count: 65)) == EFBIG)
        #expect(write("outblob", [1]) == EACCES)
        #expect(code { () throws(SystemError) in _ = try directory.read("a", "inblob") } == EACCES)
        #expect(write("inblob", [1, 2, 3]) == 0)
        #expect(code { () throws(SystemError) in _ = try directory.read("a", "outblob") } == EINVAL, "64 bytes or none")
        #expect(
            code { () throws(SystemError) in _ = try File("\(mounted.reports)/a/new", O_WRONLY | O_CREAT) } == EPERM)
        #expect(unsafe mkdir("\(mounted.reports)/a/b", 0o700) != 0 && errno == EPERM)
        #expect(unsafe unlink("\(mounted.reports)/a/inblob") != 0 && errno == EPERM)
    }

    @Test func `an SVSM's services are attested with their manifest`() throws {
        var machine = SimulatedSNP(keys)
        machine.hasServices = true
        let mounted = try MountedTEE(machine)
        let data = [UInt8](repeating: 3, count: 64)
        let service = TSMIssuer.Service(guid: "c476f1eb-0123-45a5-9641-b4e7dde5bfe3")
        let report = try mounted.issuer.report(data: data, service: service)
        #expect(!report.manifest.isEmpty)
        let expected = HashAlgorithm.sha512.hash(data + report.manifest)
        #expect(try AttestationReport(report.report).reportData == expected)
        #expect(throws: TSMError.self) {
            try mounted.issuer.report(data: data, service: .init(provider: "acme", guid: service.guid))
        }
    }
}
