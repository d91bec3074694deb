import ArgumentParser
import Bytes
import Manifest

struct ManifestCreate: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "create",
        abstract: "Write a manifest from an image's measurements and files.",
        discussion: "The manifest is not signed yet: use 'nacre manifest sign'.")

    @Option(help: ArgumentHelp("Measurement document of 'nacre image measure -o json'.", valueName: "file"))
    var measurements: String

    @Option(help: ArgumentHelp("The raw disk image.", valueName: "file"))
    var raw: String

    @Option(help: ArgumentHelp("The unified kernel image inside it.", valueName: "file"))
    var uki: String

    @Option(help: ArgumentHelp("The root file system's image, where it is released by itself.", valueName: "file"))
    var root: String?

    @Option(help: ArgumentHelp("dm-verity root hash.", valueName: "hex"))
    var rootHash: HexArgument

    @Option(help: ArgumentHelp("Lock that pins all inputs.", valueName: "file"))
    var lock: String

    @Option(help: "Profile of the image.")
    var profile: Manifest.Profile

    @Option(help: ArgumentHelp("Name of the product.", valueName: "name"))
    var product = "nacre"

    @Option(help: ArgumentHelp("Version of the release.", valueName: "version"))
    var release = "0.1.0"

    @Option(help: ArgumentHelp("Grows with every release.", valueName: "number"))
    var releaseCounter: Int

    @Option(help: ArgumentHelp("Smallest release counter accepted beside this one.", valueName: "number"))
    var minimumRelease = 0

    @Option(help: ArgumentHelp("Time after which the release is refused.", valueName: "time"))
    var notAfter: Instant

    @Option(
        help: ArgumentHelp(
            "Boot phase in which nodes answer; the last one measured, shutdown aside, by default.", valueName: "name"))
    var phase: String?

    @Option(help: ArgumentHelp("Source revision.", valueName: "commit"))
    var revision: String?

    @Option(name: .customLong("tool"), help: ArgumentHelp("A tool and its version; repeat.", valueName: "name=version"))
    var tools: [String] = []

    @Option(help: ArgumentHelp("Version of Kubernetes inside.", valueName: "version"))
    var kubernetes: String?

    @Option(help: ArgumentHelp("Bill of materials.", valueName: "file"))
    var sbom: String?

    @Option(help: ArgumentHelp("Where to write the manifest.", valueName: "file"))
    var out: String

    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard rootHash.bytes.count == 32 else { throw ValidationError("--root-hash must be 32 bytes.") }
        guard releaseCounter >= 0, minimumRelease >= 0, minimumRelease <= releaseCounter else {
            throw ValidationError("--minimum-release must be between 0 and --release-counter.")
        }
        guard Release.toolchain(tools) != nil else {
            throw ValidationError("--tool must be name=version.")
        }
    }

    func run() throws {
        let document = try Input.parse(measurements) { bytes in
            try Measurements(JSON(parsing: bytes, limit: Manifest.maximumSize))
        }
        let written = try Release(
            product: product, version: release, releaseCounter: releaseCounter, minimumRelease: minimumRelease,
            profile: profile, notAfter: notAfter, revision: revision, toolchain: Release.toolchain(tools) ?? [:],
            kubernetes: kubernetes, phase: phase
        ).manifest(
            measurements: document, rootHash: rootHash.bytes,
            paths: .init(raw: raw, uki: uki, root: root, lock: lock, sbom: sbom))
        try Input.write(written.bytes, to: out)
        output.note("\(out): \(written.product) \(written.version), image \(Hex.encode(written.imageDigest))")
        if output.output == .json {
            Report.out(
                JSON.fields([
                    "schema": .string("nacre.manifest-create.v1"), "manifest": .string(out),
                    "imageDigest": .hex(written.imageDigest),
                ]).compact + "\n")
        }
    }
}
