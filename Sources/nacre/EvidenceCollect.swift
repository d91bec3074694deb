import ArgumentParser
import Attestation
import Bytes

struct EvidenceCollect: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "collect", abstract: "Fetch a node's evidence for a nonce and save it unjudged.")

    @Option(help: ArgumentHelp("The node.", valueName: "host:port"))
    var endpoint: EvidenceClient.Endpoint

    @Option(help: ArgumentHelp("16 to 32 bytes; fresh random ones by default.", valueName: "hex"))
    var nonce: HexArgument?

    @Option(help: ArgumentHelp("Seconds to wait for the node.", valueName: "seconds"))
    var timeout = EvidenceClient.timeout

    @Option(help: ArgumentHelp("Where to write the evidence.", valueName: "file"))
    var out: String

    @OptionGroup var output: OutputOptions

    func validate() throws {
        if nonce != nil { _ = try EvidenceClient.nonce(nonce) }
    }

    func run() throws {
        let nonce = try EvidenceClient.nonce(nonce)
        let (bytes, evidence) = try EvidenceClient.fetch(endpoint, nonce: nonce, timeout: timeout)
        try Input.write(bytes, to: out)
        output.note("\(out): \(evidence.platform.rawValue) evidence for nonce \(Hex.encode(nonce)), not judged")
        if output.output == .json {
            Report.out(
                JSON.fields([
                    "schema": .string("nacre.evidence-collect.v1"),
                    "evidence": .string(out), "platform": .string(evidence.platform.rawValue), "nonce": .hex(nonce),
                ]).compact + "\n")
        }
    }
}
