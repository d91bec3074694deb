import Bytes
import CLinux
import Host

/// What the machine this runs on offers: programs by name, and the few variables that they need.
///
/// The environment is passed in; this room reads none by itself.
public struct Host: Sendable {
    /// Folders that are searched for programs.
    public let path: [String]
    /// The environment of every program that is started.
    let environment: [String: String]

    public init(environment: [String: String]) {
        var kept = environment.filter { ["PATH", "HOME", "XDG_CONFIG_HOME", "USER"].contains($0.key) }
        if kept["PATH"] == nil { kept["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" }
        kept["LC_ALL"] = "C.UTF-8"
        path = (kept["PATH"] ?? "").split(separator: ":").map(String.init).filter { $0.hasPrefix("/") }
        self.environment = kept
    }

    /// Absolute path of a program.
    /// - Throws: `local-tool` naming the package that holds it.
    public func program(_ name: String, package: String) throws(Finding) -> String {
        for folder in path where unsafe access("\(folder)/\(name)", X_OK) == 0 { return "\(folder)/\(name)" }
        throw Finding(
            "local-tool", claim: name, expected: "in one of \(path.joined(separator: ", "))", actual: "not there",
            next: "install the package \(package), or run tools/setup")
    }
}

/// The programs of the local cluster, found once per command.
struct LocalTools: Sendable {
    let qemu: String
    let qemuVersion: QEMUVersion
    let swtpm: String
    let swtpmSetup: String

    /// The first QEMU whose machines are the ones that the project predicts registers for.
    static let wanted = 10

    init(host: Host) throws(Finding) {
        qemu = try host.program("qemu-system-x86_64", package: "qemu-system-x86")
        swtpm = try host.program("swtpm", package: "swtpm")
        swtpmSetup = try host.program("swtpm_setup", package: "swtpm-tools")
        // Its answer goes to memory: a command that is killed here leaves no file.
        let answer = unsafe memfd_create("version", UInt32(MFD_CLOEXEC))
        guard answer >= 0 else { throw HostFiles.problem("making room for", "a program's answer") }
        defer { close(answer) }
        let path = "/proc/\(getpid())/fd/\(answer)"
        try Command(
            program: qemu, arguments: ["--version"], environment: host.environment, directory: "/", log: path
        ).run(limit: .seconds(20))
        let text = String(decoding: try HostFiles.read(path, limit: 4096), as: UTF8.self)
        guard let version = QEMUVersion(text) else {
            throw Finding("local-tool", claim: qemu, expected: "a version", actual: Sanitised.line(text.utf8))
        }
        guard version.major >= Self.wanted else {
            throw Finding(
                "local-tool", claim: qemu, expected: "QEMU \(Self.wanted) or newer", actual: "QEMU \(version)",
                source: "the machine type \(MachineShape.pinnedMachine)",
                next: "run tools/setup, or install a newer qemu-system-x86")
        }
        qemuVersion = version
    }
}

/// UEFI firmware for a local machine: code that stays as it is, and variables of which every machine has a copy.
public struct Firmware: Equatable, Sendable {
    public let code: String
    public let variables: String

    static let codeName = "OVMF_CODE_4M.fd"
    static let variablesName = "OVMF_VARS_4M.fd"
    static let installed = "/usr/share/OVMF"

    /// Looks in `directory` where one is named; else beside the image, then where Debian installs it.
    /// - Throws: `local-firmware` with the places that were searched.
    public init(directory: String?, image: String?) throws(Finding) {
        let beside = image.map { [HostFiles.parent(of: $0) + "/firmware", HostFiles.parent(of: $0)] } ?? []
        let places = directory.map { [$0] } ?? beside + [Self.installed]
        for place in places {
            let code = "\(place)/\(Self.codeName)"
            let variables = "\(place)/\(Self.variablesName)"
            if HostFiles.isReadable(code), HostFiles.isReadable(variables), let path = HostFiles.resolved(code) {
                self.code = path
                self.variables = variables
                return
            }
        }
        throw Finding(
            "local-firmware", claim: "UEFI firmware", expected: "\(Self.codeName) and \(Self.variablesName)",
            actual: "not in \(places.joined(separator: ", "))",
            next: "build the image, install the package ovmf, or name a folder with --firmware")
    }
}
