import ArgumentParser

struct ManifestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "manifest",
        abstract: "Make, sign and verify the manifest of a release.",
        subcommands: [
            ManifestCreate.self, ManifestSign.self, ManifestVerify.self, ManifestShow.self, ManifestKeygen.self,
        ])
}
