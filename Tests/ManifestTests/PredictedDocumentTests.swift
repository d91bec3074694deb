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

    /// A release publishes its launches from the disk and, where the firmware takes kernel hashes, with its own UKI.
    @Test(arguments: Vectors.cases("snp-measure").filter { $0.id == "snpm-suffix-qemu-3" })
    func launchesThatBootTheImageDirectlySayThatTheyCoverIt(_ vector: Vectors.Case) async throws {
        let folder = try TemporaryFolder()
        let image = try folder.file("uki.efi", PEBuilder.image([PEBuilder.Section(".cmdline", Array("quiet".utf8))]))
        let firmware = try folder.file("ovmf.fd", vector.read("ovmf"))
        let document = try await MeasurementRequest(
            launchFirmware: firmware, directKernel: image, vcpus: [1, 3]
        ).document()
        let read = try Measurements(try JSON(parsing: document.json.pretty))
        #expect(read.snp.map(\.vcpus) == [1, 1, 3, 3])
        #expect(read.snp.map(\.boot) == [.disk, .direct, .disk, .direct])
        #expect(.hex(try #require(read.snp.dropFirst(2).first).digest) == vector.expect["digest"])
        let direct = try await MeasurementRequest(launchFirmware: firmware, vcpus: [3], kernel: image).document()
        #expect(direct.launches.count == 1 && direct.launches.first == document.launches.last)
        var fields = try #require(document.json.object)
        fields["snp"] = [
            [
                "vmm": "qemu", "vcpus": 1, "vcpuType": "x", "launchDigest": .hex([UInt8](repeating: 0, count: 48)),
                "boot": "other",
            ]
        ]
        #expect(throws: Finding.self) { try Measurements(.object(fields)) }
    }
}
