import Bytes
import TestKit
import Testing

@testable import TDX

/// TDREPORT_STRUCT, 1024 bytes.
@Suite struct TDReportTests {
    static let azure = ["azure/tdx-spr-v1", "azure/tdx-emr-ak"]

    /// Azure's HCL report carries the TDREPORT that its TD quote was made from, behind 32 bytes of header.
    @Test(arguments: azure)
    func genuineReportMatchesItsQuote(_ folder: String) throws {
        guard Vectors.root != nil else { return }
        let bytes = Array(try Vectors.read("\(folder)/hcl.bin").dropFirst(32).prefix(TDReport.size))
        let report = try TDReport(parsing: bytes)
        #expect(report.serialize() == bytes)
        let quote = try Quote(parsing: Vectors.read("\(folder)/td_quote.bin"))
        #expect(report.matches(quote.body))
        var other = quote.body
        other.rtmrs[3][0] ^= 1
        #expect(!report.matches(other))
    }

    private func sample(extended: Bool) -> TDReport {
        var body = TDBody(
            extended: extended
                ? .init(teeTCBSVN2: Array(16..<32), mrServiceTD: [UInt8](repeating: 9, count: 48)) : nil)
        body.mrTD = [UInt8](repeating: 7, count: 48)
        body.reportData = Array(0..<64)
        return TDReport(
            version: extended ? 1 : 0, cpuSVN: Array(0..<16), mac: [UInt8](repeating: 3, count: 32), body: body)
    }

    @Test(arguments: [false, true])
    func readsWhatItWrites(_ extended: Bool) throws {
        let report = sample(extended: extended)
        #expect(try TDReport(parsing: report.serialize()) == report)
        #expect(report.serialize().count == TDReport.size)
    }

    @Test func refusesTruncationAndDamage() throws {
        let bytes = sample(extended: true).serialize()
        for count in 0..<bytes.count {
            #expect(throws: ParseError.self) { try TDReport(parsing: Array(bytes.prefix(count))) }
        }
        #expect(throws: ParseError.self) { try TDReport(parsing: bytes + [0]) }
        // CPUSVN, REPORTDATA and MAC are covered by the MAC alone; everything else by type, zeros or hashes.
        let free = Set(Array(16..<32) + Array(128..<192) + Array(224..<256))
        for offset in bytes.indices where !free.contains(offset) && offset != 2 {
            var damaged = bytes
            damaged[offset] ^= 0x10
            #expect(throws: ParseError.self, "\(offset)") { try TDReport(parsing: damaged) }
        }
    }
}
