import ArgumentParser

struct Image: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "image",
        abstract: "Build images and predict what they measure.",
        subcommands: [ImageBuildCommand.self, ImageLockCommand.self, ImageMeasure.self, ImageDiff.self])
}
