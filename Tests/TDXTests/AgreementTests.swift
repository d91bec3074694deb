import Bytes
import Glibc
import SimulatedTEE
import TestKit
import Testing

@testable import TDX

/// Agreement with an independent implementation, PyPI's dcap-qvl, on every sample and every own platform.
///
/// Reference §2.3 names where it differs; each difference that is met is stated here or in `PlatformCase`, and an
/// unstated one fails. dcap-qvl also applies policy inside `verify` (debug, SEPT_VE_DISABLE, Revoked): where this room
/// finds such a quote authentic, dcap-qvl must refuse it for that very reason.
@Suite struct AgreementTests {
    struct Sample {
        let name: String
        let quote: [UInt8]
        let collateral: [UInt8]
        let root: [UInt8]
        let time: Instant
        let divergence: String?
    }

    /// What one side makes of a sample.
    enum Outcome: Equatable { case status(String, [String]), refused(String) }

    static let script = """
        import sys, os, dcap_qvl
        top = sys.argv[1]
        for name in sorted(os.listdir(top), key=int):
            read = lambda f: open(os.path.join(top, name, f), 'rb').read()
            try:
                c = dcap_qvl.QuoteCollateralV3.from_json(read('collateral').decode())
                v = dcap_qvl.verify_with_root_ca(read('quote'), c, read('root'), int(read('time')))
                print(name, 'status', v.status, ','.join(sorted(set(v.advisory_ids))), sep='|')
            except Exception as e:
                print(name, 'refused', ' '.join(str(e).split()), '', sep='|')
        """

    static var python: String {
        guard let venv = unsafe getenv("NACRE_VENV") else { return "python3" }
        return unsafe String(cString: venv) + "/bin/python3"
    }

    static func lines(of words: [String]) -> [String] {
        ((try? Tool.run(words))?.text ?? "").split(separator: "\n").map(String.init)
    }

    static func samples() throws -> [Sample] {
        var samples = try Vectors.cases("tdx").map { vector in
            Sample(
                name: vector.id, quote: try vector.read("quote"), collateral: try vector.read("collateral"),
                root: try vector.read("root"), time: vector.time, divergence: nil)
        }
        for test in PlatformCase.all {
            var platform = try TDXPlatform()
            try test.change(&platform)
            samples.append(
                Sample(
                    name: test.name, quote: try platform.quote(), collateral: try platform.collateral(),
                    root: try platform.rootCertificate(), time: PlatformCase.time, divergence: test.divergence))
        }
        return samples
    }

    @Test func agreesWithDcapQvl() throws {
        guard Self.lines(of: [Self.python, "-c", "import dcap_qvl; print('here')"]) == ["here"] else {
            print("skipped: no dcap-qvl in \(Self.python); pip install dcap-qvl into a venv, set NACRE_VENV to it")
            return
        }
        let samples = try Self.samples()
        try withTemporaryFolder { try compare(samples, in: $0) }
        print("compared \(samples.count) samples with dcap-qvl")
    }

    private func compare(_ samples: [Sample], in directory: String) throws {
        for (index, sample) in samples.enumerated() {
            let folder = "\(directory)/\(index)"
            _ = unsafe mkdir(folder, 0o700)
            try writeFile("\(folder)/quote", sample.quote)
            try writeFile("\(folder)/collateral", sample.collateral)
            try writeFile("\(folder)/root", sample.root)
            try writeFile("\(folder)/time", Array("\(sample.time.seconds)".utf8))
        }
        let answers = Self.lines(of: [Self.python, "-c", Self.script, directory])
        #expect(answers.count == samples.count)
        for (sample, answer) in zip(samples, answers) {
            let parts = answer.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
            let theirs: Outcome =
                parts[1] == "status"
                ? .status(parts[2], parts[3].split(separator: ",").map(String.init)) : .refused(parts[2])
            compare(sample, ours: ours(sample), theirs: theirs)
        }
    }

    private func ours(_ sample: Sample) -> Outcome {
        do {
            let verified = try verify(sample.quote, sample.collateral, root: sample.root, at: sample.time)
            return .status(verified.tcb.status.rawValue, verified.tcb.advisories)
        } catch {
            return .refused(error.reason)
        }
    }

    private func compare(_ sample: Sample, ours: Outcome, theirs: Outcome) {
        switch (ours, theirs) {
        case (.refused, .refused):
            #expect(sample.divergence == nil, "\(sample.name): no longer differs")
        case (.status(let status, _), .refused(let why)):
            let policy = ["Debug mode is enabled", "SEPT_VE_DISABLE is not enabled", "TCB status is invalid: Revoked"]
            let isPolicy = policy.contains { why.contains($0) }
            #expect(isPolicy || sample.divergence != nil, "\(sample.name): \(status), dcap-qvl: \(why)")
        case (.status, .status):
            #expect(ours == theirs, "\(sample.name)")
        case (.refused(let why), .status(let status, _)):
            #expect(sample.divergence != nil, "\(sample.name): \(why), dcap-qvl: \(status)")
        }
    }
}
