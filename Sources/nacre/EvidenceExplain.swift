import ArgumentParser
import Attestation
import Bytes

struct EvidenceExplain: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "explain",
        abstract: "Print what any input says, without judging it.",
        discussion: """
            Takes an SEV-SNP report, TDX quote or TDREPORT, certificate table, event log, TPM quote, key or signature, \
            HCL report, NitroTPM document, certificate, revocation list, collateral, register values, evidence, bundle, \
            manifest, its signature, measurements, trust root or policy. ✓ is proved by the input itself, – is a claim, \
            ✗ contradicts another part.
            """)

    @Argument(help: ArgumentHelp("The input.", valueName: "file"))
    var file: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let explanation = try Input.parse(file) { bytes in try EvidenceExplanation(bytes) }
        switch output.output {
        case .json: Report.out(explanation.json.compact + "\n")
        case .text: Report.out(explanation.kind + "\n" + Report.table(explanation.rows))
        }
    }
}
