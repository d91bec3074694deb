import Bytes
import Crypto
import Measurement
import TestKit
import Testing

@testable import Manifest

/// What `nacre image measure` writes is what manifests read.
@Suite struct PredictedDocumentTests {
    @Test func documentsOfPredictionsAreReadWhole() async throws {
        var kernel = PEBuilder.image([PEBuilder.Section(".text", [1])])
        kernel.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
        let folder = try TemporaryFolder()
        let image = try folder.file(
            "uki.efi",
            PEBuilder.image([PEBuilder.Section(".linux", kernel), PEBuilder.Section(".cmdline", Array("quiet".utf8))]))
        let document = try await MeasurementRequest(image: image).document()
        let read = try Measurements(try JSON(parsing: document.json.pretty))
        #expect(read.imageDigest == document.imageDigest)
        #expect(read.phases == BootPrediction.defaultPhases)
        #expect(read.answeringPhase == BootPrediction.defaultPhases.last)
        #expect(read.tpm.keys.sorted { $0.rawValue < $1.rawValue } == [.sha256, .sha384])
        #expect(read.expected(.sha384, 15, phase: nil) == [UInt8](repeating: 0, count: 48))
        #expect(read.events.count == document.events.count)
        #expect(read.tdx["rtmr2"] == document.tdx["rtmr2"])
    }
}
