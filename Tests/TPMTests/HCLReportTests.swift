import Bytes
import Crypto
import TestKit
import Testing

@testable import TPM

/// Azure's HCL reports: genuine ones of SNP and TDX machines.
@Suite struct HCLReportTests {
    static let samples = Vectors.cases("azure").filter { $0.verdict == "accept" }

    @Test(arguments: samples)
    func bindsTheRuntimeData(_ vector: Vectors.Case) throws {
        let report = try HCLReport(parsing: vector.read("hcl"))
        #expect(report.reportData == report.expectedReportData)
        let runtime = try report.decodeRuntimeData()
        #expect(runtime.attestationKey.kind == .rsa(bits: 2048))
        #expect(runtime.configuration["tpm-enabled"]?.bool == true)
    }

    @Test(arguments: samples)
    func refusesEveryTruncationOfWhatCounts(_ vector: Vectors.Case) throws {
        let bytes = try vector.read("hcl")
        let end = 32 + 1184 + 20 + (try HCLReport(parsing: bytes)).runtimeData.count
        for count in 0..<end {
            #expect(throws: ParseError.self) { try HCLReport(parsing: Array(bytes.prefix(count))) }
        }
        // After the runtime data there is nothing but the NV index's zeros.
        #expect(try HCLReport(parsing: Array(bytes.prefix(end))) == HCLReport(parsing: bytes))
        #expect(throws: ParseError.self) { try HCLReport(parsing: bytes + [1]) }
    }

    @Test(arguments: [
        ("{}", "keys"), (#"{"keys":[]}"#, "keys"), (#"{"keys":[{"kid":"HCLAkPub","kty":"EC"}]}"#, "key"),
        (#"{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, "short"),
        (#"{"keys":[{"kid":"HCLAkPub","kty":"RSA","n":"!","e":"AQAB"}]}"#, "base64"),
    ])
    func refusesRuntimeDataWithoutAKey(_ text: String, _ why: String) throws {
        var writer = ByteWriter()
        let data = Array(text.utf8)
        writer.append(Array("HCLA".utf8))
        for value in [2, UInt32(32 + 1184 + 20 + data.count), 2, 0, 0, 0, 0] as [UInt32] { writer.le(value) }
        writer.zeros(1184)
        for value in [UInt32(20 + data.count), 1, 2, 1, UInt32(data.count)] as [UInt32] { writer.le(value) }
        writer.append(data)
        let report = try HCLReport(parsing: writer.bytes)
        #expect(throws: ParseError.self) { try report.decodeRuntimeData() }
    }
}
