import ArgumentParser
import Bytes
import Crypto
import Manifest

struct ManifestShow: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "Print what a manifest says. Checks its form, not who made it.")

    @Argument(help: ArgumentHelp("The manifest.", valueName: "file"))
    var manifest: String

    @OptionGroup var output: OutputOptions

    func run() throws {
        let read = try Input.parse(manifest, limit: Manifest.maximumSize) { bytes in try Manifest(parsing: bytes) }
        guard output.output == .text else {
            Report.out(read.json.compact + "\n")
            return
        }
        func file(_ file: Manifest.File) -> String { "\(file.name), \(file.size) bytes, \(Hex.encode(file.sha256))" }
        var lines: [(String, String)] = [
            ("product", "\(read.product) \(read.version), release \(read.releaseCounter), \(read.profile.rawValue)"),
            ("image digest", Hex.encode(read.imageDigest)),
            ("not after", read.notAfter.description),
            ("accepts nodes of", "release \(read.minimumRelease) and later"),
            ("raw", file(read.files.raw)), ("uki", file(read.files.uki)),
            ("root hash", Hex.encode(read.files.rootHash)),
            ("kubernetes", read.kubernetes ?? "none"),
            ("lock", Hex.encode(read.inputs.lock)), ("revision", read.inputs.revision ?? "unknown"),
        ]
        if let root = read.files.root { lines.append(("root", file(root))) }
        if let sbom = read.sbom { lines.append(("sbom", Hex.encode(sbom))) }
        for (tool, version) in read.inputs.toolchain.sorted(by: { $0.key < $1.key }) {
            lines.append(("tool", "\(tool) \(version)"))
        }
        for (bank, registers) in read.measurements.tpm.sorted(by: { $0.key.size < $1.key.size }) {
            for index in registers.keys.sorted() {
                guard let value = read.measurements.expected(bank, index, phase: read.phase) else { continue }
                let phase = if case .phases? = registers[index] { " after \(read.phase ?? "")" } else { "" }
                lines.append(("tpm \(bank.rawValue) \(index)", Hex.encode(value) + phase))
            }
        }
        for launch in read.measurements.snp {
            lines.append(("sev-snp \(launch.vmm) \(launch.vcpus) × \(launch.vcpuType)", Hex.encode(launch.digest)))
        }
        for (name, value) in read.measurements.tdx.sorted(by: { $0.key < $1.key }) {
            lines.append(("tdx \(name)", Hex.encode(value)))
        }
        let width = lines.map(\.0.count).max() ?? 0
        Report.out(
            lines.map { name, value in
                name + String(repeating: " ", count: width - name.count + 2) + Report.plain(value) + "\n"
            }.joined())
    }
}
