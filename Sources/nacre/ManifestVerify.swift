import ArgumentParser
import Attestation
import Bytes
import Manifest

struct ManifestVerify: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check who signed a manifest, that it is whole, and that it is still valid.")

    @Option(help: ArgumentHelp("The manifest.", valueName: "file"))
    var manifest: String

    @Option(help: ArgumentHelp("Its signature, a Sigstore bundle.", valueName: "file"))
    var bundle: String

    @Option(help: ArgumentHelp("Keys that may sign it: nacre.trustroot.v1 or one PEM public key.", valueName: "file"))
    var trustRoot: String

    @Option(
        help: ArgumentHelp(
            "File that remembers the last accepted release. Not in this release: refused, never ignored.",
            valueName: "file"))
    var state: String?

    @OptionGroup var time: TimeOptions
    @OptionGroup var output: OutputOptions

    func validate() throws {
        guard state == nil else {
            throw ValidationError("--state: this release does not keep rollback state yet; leave the option out.")
        }
    }

    func run() throws {
        let bytes = try Input.read(manifest, limit: Manifest.maximumSize)
        let bundleBytes = try Input.read(bundle, limit: Bundle.maximumSize)
        let root = try Input.parse(trustRoot, limit: 1 << 20) { bytes in try TrustRoot(parsing: bytes) }
        let verified: VerifiedManifest
        do throws(Finding) {
            verified = try ManifestVerifier.verify(
                manifest: bytes, bundle: bundleBytes, trustRoot: root, at: time.instant)
        } catch {
            Report.verdict(.reject(error), output)
            throw error.family == "parse" ? Exit.unusable : Exit.rejected
        }
        Report.verdict(Self.accepted(verified), output)
    }

    private static func accepted(_ verified: VerifiedManifest) -> Verdict {
        let manifest = verified.manifest
        return .accept(
            claims: [
                "product": .string(manifest.product), "version": .string(manifest.version),
                "releaseCounter": .integer(Int128(manifest.releaseCounter)),
                "profile": .string(manifest.profile.rawValue), "imageDigest": .hex(manifest.imageDigest),
                "notAfter": .string(manifest.notAfter.description), "signer": .string(verified.signer),
                "role": .string(verified.role.rawValue),
            ], unchecked: verified.unchecked + ["transparency log inclusion", "rollback state"],
            marks: verified.role == .development ? ["development key"] : [])
    }
}
