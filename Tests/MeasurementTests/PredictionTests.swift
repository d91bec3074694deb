import Bytes
import Crypto
import GPT
import TestKit
import Testing
import UnifiedKernelImage

@testable import Measurement

@Suite struct PredictionTests {
    /// A UKI with a kernel that is a PE image and claims to be Linux.
    static func uki(_ more: [PEBuilder.Section] = [], certificates: [UInt8] = []) throws -> UnifiedKernelImage {
        var kernel = PEBuilder.image([PEBuilder.Section(".text", [1, 2, 3])])
        kernel.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
        return try UnifiedKernelImage(
            ByteSource(
                PEBuilder.image(
                    [
                        PEBuilder.Section(".osrel", Array("ID=test\n".utf8)),
                        PEBuilder.Section(".cmdline", Array(" quiet\tro=1 \n".utf8)),
                        PEBuilder.Section(".initrd", [7, 7, 7]), PEBuilder.Section(".linux", kernel),
                    ] + more, certificates: certificates)))
    }

    static func inputs(_ image: UnifiedKernelImage? = nil) -> BootPrediction.Inputs {
        var inputs = BootPrediction.Inputs()
        inputs.image = image
        return inputs
    }

    @Test func kernelGetsATrimmedLineAndACombinedInitrd() throws {
        let stub = try StubEvents(sections: try Self.uki().contents(profile: 0))
        #expect(stub.loadOptions == littleEndian(Array("quiet ro=1".utf16)) + [0, 0])
        let initrd = try stub.initrd.readAll(limit: 1 << 20, "initrd")
        #expect(Array(initrd[..<10]) == [7, 7, 7, 0] + Array("070701".utf8))
        #expect(initrd.count.isMultiple(of: 4))
    }

    @Test func missingInputsAreNamed() throws {
        let prediction = try BootPrediction(Self.inputs(try Self.uki()))
        #expect(prediction.unpredicted[.tpm(0)] == "firmware image (--firmware)")
        #expect(prediction.unpredicted[.tpm(7)] == "variable store (--vars)")
        #expect(prediction.unpredicted[.tpm(5)] != nil)
        #expect(prediction.predicted == [.tpm(4), .tpm(9), .tpm(11), .tpm(12), .tpm(13), .tpm(15)])
        #expect(prediction.predicted.isDisjoint(with: prediction.unpredicted.keys))
    }

    @Test func secureBootLeavesOutTheInnerKernel() throws {
        var inputs = Self.inputs(try Self.uki())
        let without = try BootPrediction(inputs).events.filter { $0.register == .tpm(4) }
        inputs.secureBoot = SecureBootState(
            secureBoot: [1], platformKey: [1], keyExchangeKeys: [], allowed: [], forbidden: [])
        let prediction = try BootPrediction(inputs)
        #expect(prediction.events.filter { $0.register == .tpm(4) }.count == without.count - 1)
        #expect(prediction.unpredicted[.tpm(7)] == "a signature of the UKI by a certificate in db")
    }

    @Test func otherProfilesLeaveATrace() throws {
        let image = try Self.uki([
            PEBuilder.Section(".profile", [1]), PEBuilder.Section(".profile", [2]),
            PEBuilder.Section(".cmdline", Array("debug".utf8)),
        ])
        var inputs = Self.inputs(image)
        let zero = try BootPrediction(inputs)
        #expect(!zero.events.contains { $0.register == .tpm(12) })
        inputs.profile = 1
        let first = try #require(try BootPrediction(inputs).events.first { $0.register == .tpm(12) })
        #expect(try first.hashed([.sha256]).digests[.sha256] == HashAlgorithm.sha256.hash([0x31, 0, 0, 0]))
    }

    @Test func documentIsNamedByItsCanonicalForm() throws {
        let prediction = try BootPrediction(Self.inputs(try Self.uki()))
        let banks: [HashAlgorithm] = [.sha256, .sha384]
        let document = MeasurementDocument(
            prediction, events: try prediction.events.hashed(banks), banks: banks, launches: [], mrtd: nil, missing: [:]
        )
        var fields = try #require(document.json.object)
        #expect(fields.removeValue(forKey: "imageDigest") == .hex(document.imageDigest))
        #expect(HashAlgorithm.sha256.hash(try #require(JSON.object(fields).canonical)) == document.imageDigest)
        #expect(Set(fields.keys) == ["schema", "tpm", "snp", "tdx", "events", "unpredicted"])
        #expect(document.json["tpm"]?["sha384"]?["12"] == .hex([UInt8](repeating: 0, count: 48)))
        #expect(document.json["tpm"]?["sha256"]?["11"]?.object?.count == BootPrediction.defaultPhases.count)
        #expect(document.json["unpredicted"]?["tdx/rtmr1"] == "disk: the partition table is measured")
        #expect(document.tdx["rtmr2"] != nil)
    }

    /// Whoever holds the document can check each value against the events.
    @Test func everyRegisterIsTheReplayOfItsEvents() throws {
        let prediction = try BootPrediction(Self.inputs(try Self.uki()))
        let document = MeasurementDocument(
            prediction, events: try prediction.events.hashed([.sha384]), banks: [.sha384], launches: [], mrtd: nil,
            missing: [:])
        for (index, values) in document.tpm[.sha384] ?? [:] {
            let own = document.events.filter { $0.register == .tpm(index) }.compactMap { $0.digests[.sha384] }
            #expect(replay(own, .sha384) == values.last?.value)
        }
        for index in 2...3 {
            let runtime = document.events.filter { $0.register == .rtmr(index) }.compactMap { $0.digests[.sha384] }
            #expect(replay(runtime, .sha384) == document.tdx["rtmr\(index)"])
        }
        // The phases that the bootstrapper measures; the initrd's are in a TPM only.
        var register = [UInt8](repeating: 0, count: 48)
        for phase in ["sysinit", "ready", "nacre-attestable"] {
            register = HashAlgorithm.sha384.hash(register + HashAlgorithm.sha384.hash(Array(phase.utf8)))
        }
        #expect(document.tdx["rtmr3"] == register)
    }

    @Test func hashingConcurrentlyGivesTheSame() async throws {
        let events = try BootPrediction(Self.inputs(try Self.uki())).events
        #expect(try await events.hashedConcurrently([.sha256, .sha512]) == (try events.hashed([.sha256, .sha512])))
    }

    @Test func aFileThatIsGoneIsAFindingOfParse() async {
        let request = MeasurementRequest(image: "/nonexistent/disk.raw")
        let finding = await #expect(throws: Finding.self) { try await request.document() }
        #expect(finding?.family == "parse")
    }
}
