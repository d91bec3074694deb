import ArgumentParser
import Bytes
import Crypto
import Manifest

struct ManifestSign: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "sign",
        abstract: "Sign a manifest; writes a Sigstore bundle that cosign can verify too.")

    @Option(help: ArgumentHelp("The manifest.", valueName: "file"))
    var manifest: String

    @Option(help: ArgumentHelp("Private key, PEM (PKCS #8).", valueName: "file"))
    var key: String

    @Option(help: ArgumentHelp("Where to write the bundle; beside the manifest by default.", valueName: "file"))
    var out: String?

    @OptionGroup var output: OutputOptions

    func run() throws {
        let bytes = try Input.read(manifest, limit: Manifest.maximumSize)
        let privateKey = try Input.parse(key, limit: 1 << 16) { pem in try PrivateKey(pem: pem) }
        let bundle = try ManifestVerifier.sign(bytes, name: Files.name(of: manifest), key: privateKey)
        let path = out ?? manifest + ".sigstore.json"
        try Input.write(bundle.bytes, to: path)
        output.note("\(path): signed by \(privateKey.publicKey.fingerprint)")
        if output.output == .json {
            Report.out(
                JSON.fields([
                    "schema": .string("nacre.manifest-sign.v1"), "bundle": .string(path),
                    "signer": .string(privateKey.publicKey.fingerprint),
                ]).compact + "\n")
        }
    }
}
