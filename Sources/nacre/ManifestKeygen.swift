import ArgumentParser
import Bytes
import Crypto
import Host
import Manifest

struct ManifestKeygen: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "keygen",
        abstract: "Make a development signing key (P-256).",
        discussion: """
            Writes the private key (mode 0600, never overwritten), the public key beside it with '.pub', and a trust root \
            that gives it the role 'development' with '.trustroot.json'. Production policies refuse that role.
            """)

    @Option(help: ArgumentHelp("Where to write the private key.", valueName: "file"))
    var out: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let key = try PrivateKey(generating: .p256)
        let root = try TrustRoot(keys: [TrustRoot.Key(key: key.publicKey, role: .development)])
        if HostFiles.exists(out) {
            throw Finding(
                "write-failed", claim: out, expected: "no file of that name", actual: "one is there",
                next: "a key is never overwritten: choose another name, or move the old one away")
        }
        try Input.write(Array(key.publicKey.pem.utf8), to: out + ".pub")
        try Input.write(Array(root.json.pretty.utf8), to: out + ".trustroot.json")
        // The private key last: where it stands, the files that belong to it do too, whenever this was killed.
        try Input.write(try key.pem(), to: out, mode: 0o600, replacing: false)
        output.note("\(out): development key \(key.publicKey.fingerprint)")
        if output.output == .json {
            Report.out(
                JSON.fields([
                    "schema": "nacre.manifest-keygen.v1", "key": .string(out),
                    "signer": .string(key.publicKey.fingerprint),
                ]).compact + "\n")
        }
    }
}
