import Bytes
import Crypto
import HTTP
import SEVSNP
import TestKit
import VerityRoot

@testable import Attestation
@testable import GPT
@testable import Manifest
@testable import Measurement
@testable import TDX
@testable import TPM
@testable import UnifiedKernelImage

/// One parser of outside data: samples to start from, and what is done with each input.
///
/// An input may be refused in any way that throws. What must not happen is a trap, a hang, or an allocation above the
/// limit; and where a form can be written back, what was read must be what was there.
struct FuzzTarget: Sendable {
    /// Parsers of one family share a budget of runs.
    let family: String
    let seeds: @Sendable () -> [[UInt8]]
    /// Whether the input was accepted.
    let run: @Sendable ([UInt8]) -> Bool

    init(
        family: String, seeds: @escaping @Sendable () -> [[UInt8]], run: @escaping @Sendable ([UInt8]) -> Bool
    ) {
        self.family = family
        self.seeds = seeds
        self.run = run
    }

    /// - Parameter body: throws for whatever it refuses.
    static func parser(
        _ family: String, _ seeds: @escaping @Sendable @autoclosure () -> [[UInt8]],
        _ body: @escaping @Sendable ([UInt8]) throws -> Void
    ) -> FuzzTarget {
        FuzzTarget(family: family, seeds: seeds) { bytes in
            do { try body(bytes) } catch { return false }
            return true
        }
    }

    /// Ends the process, which libFuzzer reports with the input.
    static func mustHold(_ condition: Bool) { precondition(condition) }

    static let all: [String: FuzzTarget] = snp.merging(tdx) { one, _ in one }.merging(tpm) { one, _ in one }
        .merging(documents) { one, _ in one }.merging(images) { one, _ in one }.merging(cluster) { one, _ in one }

    private static let snp: [String: FuzzTarget] = [
        "snp-report": parser("snp", Seeds.reports) { bytes in
            mustHold(try AttestationReport(bytes).serialize() == bytes)
        },
        "snp-certtable": parser("snp", Seeds.certificateTables) { bytes in
            let table = try CertificateTable(bytes)
            let again = try CertificateTable(table.serialize())
            mustHold(again.entries.map(\.contents) == table.entries.map(\.contents))
        },
        "snp-endorsement": parser("snp", Seeds.endorsements) { bytes in _ = try EndorsementKey(bytes) },
    ]

    private static let tdx: [String: FuzzTarget] = [
        "tdx-quote": parser("tdx", Seeds.quotes) { bytes in
            let quote = try TDX.Quote(parsing: bytes)
            mustHold(bytes.starts(with: quote.serialize()))
            _ = try quote.collateralSource()
        },
        "tdx-report": parser("tdx", Seeds.tdReports) { bytes in
            let report = try TDReport(parsing: bytes)
            _ = report.matches(report.body)
        },
        "tdx-tcbinfo": parser("tdx", Seeds.tcbInfos) { bytes in _ = try TCBInfo(parsing: bytes) },
        "tdx-qeidentity": parser("tdx", Seeds.qeIdentities) { bytes in _ = try QEIdentity(parsing: bytes) },
        "tdx-collateral": parser("tdx", Seeds.collaterals) { bytes in
            let collateral = try Collateral(parsing: bytes)
            mustHold(try Collateral(collateral.json) == collateral)
        },
        "tdx-pckextension": parser("tdx", Seeds.pckExtensions) { bytes in _ = try PCKExtension(parsing: bytes) },
    ]

    private static let tpm: [String: FuzzTarget] = [
        "tpm-attest": parser("tpm", Seeds.attests) { bytes in
            mustHold(try Attest(parsing: bytes).encoded.count <= bytes.count)
        },
        "tpm-signature": parser("tpm", Seeds.signatures) { bytes in _ = try TPMSignature(parsing: bytes) },
        "tpm-public": parser("tpm", Seeds.publics) { bytes in
            let area = try TPMPublic(parsing: bytes)
            _ = area.name
            _ = try AttestationKey(area)
        },
        "tpm-akcert": parser("tpm", Seeds.certificates) { bytes in
            _ = try AttestationKeyCertificate(try Certificate(der: bytes))
        },
        "tpm-pcrs": parser("tpm", Seeds.registers) { bytes in _ = try PCRBank(parsing: bytes) },
        "log-firmware": parser("log", Seeds.eventLogs) { bytes in
            let log = try EventLog(parsing: bytes)
            _ = log.replay(userspace: nil)
            _ = log.explain()
            for event in log.events { _ = EventData(event) }
        },
        "log-ccel": parser("log", Seeds.ccEventLogs) { bytes in
            let log = try EventLog(parsing: bytes, registers: .confidentialComputing)
            _ = log.replay(userspace: nil)
            _ = log.explain()
        },
        "log-userspace": parser("log", Seeds.userspaceLogs) { bytes in
            _ = try UserspaceLog(parsing: bytes).explain()
        },
        "cloud-hcl": parser("cloud", Seeds.hclReports) { bytes in
            let report = try HCLReport(parsing: bytes)
            _ = report.expectedReportData
            _ = try report.decodeRuntimeData()
        },
        "cloud-nitro": parser("cloud", Seeds.nitroDocuments) { bytes in _ = try NitroTPMDocument(parsing: bytes) },
        "cloud-cbor": parser("cloud", Seeds.nitroDocuments) { bytes in
            let value = try CBOR(parsing: bytes)
            mustHold(try CBOR(parsing: value.encoded) == value)
        },
    ]

    private static let documents: [String: FuzzTarget] = [
        "doc-json": parser("doc", Seeds.documents) { bytes in
            let json = try JSON(parsing: bytes)
            mustHold(try JSON(parsing: Array(json.compact.utf8)) == json)
        },
        "doc-evidence": parser("doc", Seeds.evidence) { bytes in
            let document = try EvidenceBundle.Document(parsing: bytes)
            mustHold(try Evidence(json: document.evidence.json) == document.evidence)
        },
        "doc-manifest": parser("doc", Seeds.manifests) { bytes in _ = try Manifest(parsing: bytes) },
        "doc-signature": parser("doc", Seeds.signatureBundles) { bytes in _ = try Bundle(parsing: bytes) },
        "doc-trustroot": parser("doc", Seeds.trustRoots) { bytes in _ = try TrustRoot(parsing: bytes) },
        "doc-policy": parser("doc", Seeds.policies) { bytes in
            let policy = try AppraisalPolicy(parsing: bytes)
            mustHold(try AppraisalPolicy(json: policy.json) == policy)
        },
        "doc-collateral": parser("doc", Seeds.collateralBundles) { bytes in
            let bundle = try CollateralBundle(parsing: bytes)
            mustHold(try CollateralBundle(parsing: Array(bundle.json.compact.utf8)) == bundle)
        },
        "doc-explain": parser("doc", Seeds.anything) { bytes in _ = try EvidenceExplanation(bytes).json },
        "http-request": parser("http", Seeds.requests) { bytes in
            let connection = HTTPConnection(ByteInput(bytes))
            while let request = try connection.readRequest(bodyLimit: 1 << 16) { _ = request.query }
        },
        "http-response": parser("http", Seeds.responses) { bytes in
            _ = try HTTPConnection(ByteInput(bytes)).readResponse(bodyLimit: 1 << 16)
        },
    ]

    private static let images: [String: FuzzTarget] = [
        "image-gpt": parser("image", Seeds.disks) { bytes in
            _ = try? GPT(Seeds.padded(bytes, to: 96 * 512))
            // The same with right checksums, behind which everything else lies.
            _ = try GPT(Seeds.padded(Seeds.repaired(disk: bytes), to: 96 * 512))
        },
        "image-pe": parser("image", Seeds.executables) { bytes in
            let image = try PEImage(ByteSource(bytes))
            _ = try image.authenticodeContents().readAll(limit: 1 << 20, "image")
            let kernel = try UnifiedKernelImage(ByteSource(bytes))
            var inputs = BootPrediction.Inputs()
            inputs.image = kernel
            _ = try BootPrediction(inputs).events.hashed([.sha256])
        },
        "image-fat": parser("image", Seeds.volumes) { bytes in
            let volume = try FATVolume(Seeds.padded(bytes, to: Seeds.volumeSize))
            for path in ["", "EFI", "EFI/BOOT", "loader/addons"] {
                for entry in try volume.entries(path) ?? [] where !entry.isDirectory {
                    _ = try volume.contents(of: entry).readAll(limit: 1 << 20, "file")
                }
            }
        },
        "image-verity": parser("image", Seeds.superblocks) { bytes in _ = try VeritySuperblock(parsing: bytes) },
        "firmware-volumes": parser("firmware", Seeds.firmware) { bytes in
            _ = try? FirmwareVolume(bytes, at: 0)
            _ = try FirmwareVolumes(bytes)
        },
        "firmware-launch": parser("firmware", Seeds.firmware) { bytes in
            _ = try? TrustDomainMeasurement.mrtd(bytes, order: .onePass)
            _ = try LaunchDigest.snp(firmware: bytes, LaunchDigest.Parameters())
        },
        "firmware-variables": parser("firmware", Seeds.variableStores) { bytes in _ = try VariableStore(bytes) },
        "firmware-lzma": parser("firmware", Seeds.packed) { bytes in
            _ = try LZMADecoder.decode(bytes, limit: 1 << 20)
        },
    ]
}

/// A stream of which all has arrived.
private final class ByteInput: ByteStream {
    struct Closed: Error {}
    private var rest: ArraySlice<UInt8>

    init(_ bytes: [UInt8]) { rest = bytes[...] }

    func read(max: Int) throws(Closed) -> [UInt8] {
        let bytes = Array(rest.prefix(max))
        rest = rest.dropFirst(bytes.count)
        return bytes
    }

    func write(_ bytes: [UInt8]) throws(Closed) { throw Closed() }
}
