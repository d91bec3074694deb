import ArgumentParser
import Attestation
import Bytes
import Manifest

struct EvidenceBundleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle",
        abstract: "Put evidence, collateral and the signed manifest into one file that verifies with no network.",
        discussion: "The verifier brings the trust root: nacre evidence verify --evidence BUNDLE --trust-root F")

    @Option(help: ArgumentHelp("A node's evidence.", valueName: "file"))
    var evidence: String

    @Option(help: ArgumentHelp("The manifest to judge it by.", valueName: "file"))
    var manifest: String

    @Option(help: ArgumentHelp("The manifest's Sigstore bundle; beside the manifest by default.", valueName: "file"))
    var bundle: String?

    @Option(help: ArgumentHelp("VCEK or VLEK for an SEV-SNP report, DER.", valueName: "file"))
    var vek: String?

    @Option(help: ArgumentHelp("Certificates between it and AMD's root, PEM.", valueName: "file"))
    var chain: String?

    @Option(help: ArgumentHelp("AMD's revocation list, DER.", valueName: "file"))
    var crl: String?

    @Option(help: ArgumentHelp("Intel's collateral for a TDX quote, JSON.", valueName: "file"))
    var collateral: String?

    @Option(help: ArgumentHelp("Where to write the bundle.", valueName: "file"))
    var out: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        var document = try Input.parse(evidence, limit: Evidence.maximumSize) { bytes in try Evidence(parsing: bytes) }
        let manifestBytes = try Input.read(manifest, limit: Manifest.maximumSize)
        let signature = try Input.read(bundle ?? manifest + ".sigstore.json", limit: Bundle.maximumSize)
        // A file that nobody could verify later is not written.
        _ = try Manifest(parsing: manifestBytes)
        do { _ = try Bundle(parsing: signature) } catch { throw error.finding }
        var inputs: [String: [String: [UInt8]]] = [:]
        if let json = document.collateral {
            do { inputs = try EvidenceCollateral(json: json).inputs } catch { throw error.finding }
        }
        for (kind, name, path) in [
            ("snp", "vek", vek), ("snp", "chain", chain), ("snp", "crl", crl), ("tdx", "collateral", collateral),
        ] {
            if let path { inputs[kind, default: [:]][name] = try Input.read(path) }
        }
        if !inputs.isEmpty { document.collateral = EvidenceCollateral(inputs: inputs).json }
        let result = EvidenceBundle(evidence: document, manifest: manifestBytes, signature: signature)
        try Input.write(Array(result.json.pretty.utf8), to: out)
        output.note("\(out): \(document.platform.rawValue) evidence, collateral for \(inputs.keys.sorted()), manifest")
        if output.output == .json {
            Report.out(JSON.fields(["bundle": .string(out)]).compact + "\n")
        }
    }
}
