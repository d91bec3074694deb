import ArgumentParser
import Attestation
import Bytes
import Glibc

/// The inputs of every kind of raw evidence, as `vectors/README.md` of the project names them.
struct RawInputs: ParsableArguments {
    private static func file(_ text: String) -> ArgumentHelp { ArgumentHelp("\(text)", valueName: "file") }

    @Option(help: file("SEV-SNP report.")) var report: String?
    @Option(help: file("VCEK or VLEK, DER.")) var vek: String?
    @Option(help: file("Certificates between leaf and root, PEM.")) var chain: String?
    @Option(help: file("Trusted roots, PEM.")) var roots: String?
    @Option(help: file("Revocation list, DER.")) var crl: String?
    @Option(help: file("Certificate table of an extended SEV-SNP report.")) var auxblob: String?
    @Option(help: file("TDX quote.")) var quote: String?
    @Option(help: file("TDX collateral, JSON.")) var collateral: String?
    @Option(help: file("Intel SGX Root CA, DER.")) var root: String?
    @Option(help: file("TPMS_ATTEST.")) var attest: String?
    @Option(help: file("TPMT_SIGNATURE, or a detached signature.")) var signature: String?
    @Option(help: file("Attestation key: TPM2B_PUBLIC or PEM.")) var ak: String?
    @Option(help: file("Register values: bank, index, hex.")) var pcrs: String?
    @Option(help: file("Firmware event log that goes with a quote.")) var eventlog: String?
    @Option(help: file("Event log.")) var log: String?
    @Option(help: file("Userspace measurement log of systemd.")) var userspaceLog: String?
    @Option(help: file("Expected RTMRs, JSON.")) var rtmrs: String?
    @Option(help: file("Azure's HCL report.")) var hcl: String?
    @Option(help: file("Certificates of the attestation key, leaf first, PEM.")) var akChain: String?
    @Option(help: file("Trusted roots for the attestation key, PEM.")) var akRoots: String?
    @Option(help: file("Sigstore bundle.")) var bundle: String?
    @Option(help: file("The file that was signed.")) var artifact: String?
    @Option(help: file("Public key, PEM.")) var key: String?
    @Option(help: file("Sigstore trusted root, JSON.")) var trustedRoot: String?
    @Option(help: file("Public key of the transparency log, PEM.")) var rekorKey: String?
    @Option(help: file("Entry of the transparency log, JSON.")) var entry: String?
    @Option(help: file("OVMF firmware to predict a launch digest of.")) var ovmf: String?
    @Option(help: file("Firmware to predict MRTD of.")) var firmware: String?
    @Option(help: file("SVSM firmware, for the mode snp:svsm.")) var svsm: String?
    @Option(help: file("Variable store of the firmware, for the mode snp:svsm.")) var vars: String?
    @Option(help: file("Attestation document of AWS's NitroTPM.")) var document: String?
    @Option(help: file("Kernel of a direct boot.")) var kernel: String?
    @Option(help: file("Initrd of a direct boot.")) var initrd: String?
    @Option(help: ArgumentHelp("Folder of inputs.", valueName: "folder")) var dir: String?
    @Option(help: ArgumentHelp("Mode of the kind sigstore: key, api or keyless.", valueName: "mode")) var mode: String?

    /// Input name → path, those that were given.
    private var paths: [String: String] {
        let all: [String: String?] = [
            "report": report, "vek": vek, "chain": chain, "roots": roots, "crl": crl, "auxblob": auxblob,
            "quote": quote, "collateral": collateral, "root": root, "attest": attest, "signature": signature,
            "ak": ak, "pcrs": pcrs, "eventlog": eventlog, "log": log, "userspace-log": userspaceLog, "rtmrs": rtmrs,
            "hcl": hcl, "ak_chain": akChain, "ak_roots": akRoots, "bundle": bundle, "artifact": artifact, "key": key,
            "trusted_root": trustedRoot, "rekor_key": rekorKey, "entry": entry, "ovmf": ovmf, "firmware": firmware,
            "kernel": kernel, "initrd": initrd, "svsm": svsm, "vars": vars, "document": document,
        ]
        return all.compactMapValues { $0 }
    }

    /// Names of the inputs given.
    var inputNames: Set<String> { Set(paths.keys).union(dir == nil ? [] : ["dir"]) }

    /// The same as options, with `mode`.
    var names: [String] { inputNames.sorted().map(Self.option) + (mode == nil ? [] : ["mode"]) }

    /// Options spell with `-` what inputs spell with `_`.
    static func option(_ name: String) -> String { String(name.map { $0 == "_" ? "-" : $0 }) }

    /// Whether `name` is an input that could be given and was not.
    func lacks(_ name: String) -> Bool { paths[name] == nil }

    /// Refuses what `kind` would ignore; an unknown kind is for the judge to refuse.
    func check(_ kind: String) throws {
        let known = Batch.aliases[kind] ?? kind
        if let stray = Judge.unused(inputNames, of: known) {
            throw ValidationError(
                "--\(Self.option(stray.name)) is not used by --kind \(kind): \(Self.option(stray.why)).")
        }
        guard mode == nil || Judge.inputs(of: known) == nil else {
            throw ValidationError("--mode is not used by --kind \(kind).")
        }
    }

    /// The inputs of `kind`, read.
    func read(kind: String) throws(Finding) -> [String: [UInt8]] {
        var reader = CaseReader(kind: kind)
        for (name, path) in paths.sorted(by: { $0.key < $1.key }) { try reader.read(name, path) }
        if let dir { try reader.read("dir", dir) }
        return reader.inputs
    }
}

/// Reads the inputs of one case: only those that its kind takes, each within its bound and all within one.
struct CaseReader {
    private(set) var inputs: [String: [UInt8]] = [:]
    private let limits: [String: Int]
    /// Bytes that may still be read.
    private var left = Judge.maximumTotal

    init(kind: String) { limits = Judge.inputs(of: kind) ?? [:] }

    func takes(_ name: String) -> Bool { limits[name] != nil }

    /// Reads a file, or the folder `dir`, into `inputs`; nothing where the kind takes no such input.
    mutating func read(_ name: String, _ path: String) throws(Finding) {
        guard let limit = limits[name] else { return }
        if name == "dir" {
            try readFolder(path)
        } else {
            try readFile(name, path, limit: limit)
        }
    }

    private mutating func readFile(_ name: String, _ path: String, limit: Int) throws(Finding) {
        let bytes = try Input.read(path, limit: min(limit, left))
        left -= bytes.count
        inputs[name] = bytes
    }

    /// Most files, and most folders, below a folder.
    static let maximumFiles = 1024

    /// Every regular file below `folder` as `dir/<relative path>`; links are not followed.
    private mutating func readFolder(_ folder: String) throws(Finding) {
        var (files, folders) = (0, 0)
        var pending = [""]
        while let relative = pending.popLast() {
            for (name, isFolder) in try Self.list(folder + relative) {
                let path = "\(relative)/\(name)"
                if isFolder {
                    folders += 1
                    guard folders <= Self.maximumFiles else { throw Self.tooMany(folder) }
                    pending.append(path)
                } else {
                    files += 1
                    guard files <= Self.maximumFiles else { throw Self.tooMany(folder) }
                    try readFile("dir\(path)", folder + path, limit: Judge.maximumTotal)
                }
            }
        }
    }

    private static func tooMany(_ folder: String) -> Finding {
        FileError(path: folder, "more than \(maximumFiles) files or folders").finding
    }

    /// Names in a folder with whether each is a folder; anything but folders and regular files is left out.
    private static func list(_ path: String) throws(Finding) -> [(name: String, isFolder: Bool)] {
        guard let folder = unsafe opendir(path) else {
            throw FileError(path: path, unsafe String(cString: strerror(errno))).finding
        }
        defer { unsafe closedir(folder) }
        var names: [(name: String, isFolder: Bool)] = []
        while let entry = unsafe readdir(folder) {
            let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            var info = stat()
            guard name != ".", name != "..", unsafe lstat("\(path)/\(name)", &info) == 0 else { continue }
            switch info.st_mode & S_IFMT {
            case S_IFDIR: names.append((name, true))
            case S_IFREG: names.append((name, false))
            default: continue
            }
            guard names.count <= 2 * maximumFiles else { throw tooMany(path) }
        }
        return names.sorted { $0.name < $1.name }
    }
}
