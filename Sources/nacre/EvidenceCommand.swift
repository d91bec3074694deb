import ArgumentParser

struct EvidenceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "evidence",
        abstract: "Collect, judge, explain and bundle evidence.",
        subcommands: [EvidenceCollect.self, EvidenceVerify.self, EvidenceExplain.self, EvidenceBundleCommand.self])
}
