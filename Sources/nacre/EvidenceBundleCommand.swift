import ArgumentParser
import Attestation
import Bytes
import Manifest

struct EvidenceBundleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bundle",
        abstract: "Put evidence, collateral and the signed manifest into one file that verifies with no network.",
        discussion: """
            The verifier brings the trust root: nacre evidence verify --evidence BUNDLE --trust-root F
            Collateral is what the evidence brings, what is given here as files, and with --fetch or \
            --collateral-cache what AMD's and Intel's servers publish.
            """)

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

    @Option(
        help: ArgumentHelp("Intel's collateral for a TDX quote, or nacre.collateral.v1, JSON.", valueName: "file"))
    var collateral: String?

    @Option(help: ArgumentHelp("Where to write the bundle.", valueName: "file"))
    var out: String

    @OptionGroup(title: "Collateral") var sources: CollateralOptions
    @OptionGroup var time: TimeOptions
    @OptionGroup var output: OutputOptions

    func run() throws {
        var document = try Input.parse(evidence, limit: Evidence.maximumSize) { bytes in try Evidence(parsing: bytes) }
        let manifestBytes = try Input.read(manifest, limit: Manifest.maximumSize)
        let signature = try Input.read(bundle ?? manifest + ".sigstore.json", limit: Bundle.maximumSize)
        // A file that nobody could verify later is not written.
        _ = try Manifest(parsing: manifestBytes)
        try ManifestVerifier.checkSubject(manifest: manifestBytes, bundle: signature)
        let files = [("vek", vek), ("chain", chain), ("crl", crl), ("collateral", collateral)]
        if files.contains(where: { $0.1 != nil }) {
            guard let tee = document.tee else {
                throw ValidationError("This evidence has no hardware report that collateral could be for.")
            }
            var held = CollateralBundle()
            if let json = document.collateral { held = try CollateralBundle(json: json) }
            for (name, path) in files {
                if let path {
                    let bytes = try Input.read(path, limit: 8 << 20)
                    try held.add(name, bytes, for: tee)
                }
            }
            document.collateral = held.json
        }
        document = try sources.complete(document, at: time.instant, output)
        let result = EvidenceBundle(evidence: document, manifest: manifestBytes, signature: signature)
        try Input.write(Array(result.json.pretty.utf8), to: out)
        let items = try document.collateral.map { try CollateralBundle(json: $0).items.keys.sorted() } ?? []
        output.note(
            "\(out): \(document.platform.rawValue) evidence, manifest, "
                + (items.isEmpty ? "no collateral" : items.joined(separator: ", ")))
        if output.output == .json {
            Report.out(
                JSON.fields(["schema": .string("nacre.evidence-bundle.v1"), "bundle": .string(out)]).compact + "\n")
        }
    }
}
