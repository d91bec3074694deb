import ArgumentParser
import ImageBuild

struct ImageDiff: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Say what changed between two images and which registers move.",
        discussion: """
            Each side is an image directory of 'image build', a raw disk or UKI, a measurement document, or a manifest. \
            Two directories are also compared by package and by executable.
            """)

    @Argument(help: "The older side.")
    var old: String

    @Argument(help: "The newer side.")
    var new: String

    @OptionGroup var output: OutputOptions

    func run() async throws {
        let difference = ImageDifference(from: try await ComparedImage(old), to: try await ComparedImage(new))
        switch output.output {
        case .text:
            let lines = difference.lines
            print(lines.isEmpty ? "nothing that is measured differs" : lines.joined(separator: "\n"))
        case .json: print(difference.json.pretty, terminator: "")
        }
    }
}
