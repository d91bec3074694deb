import ArgumentParser
import Bytes
import CSystemd
import Glibc
import Linux
import SEVSNP
import SimulatedTEE
import TDX
import TPM

/// `simulated-tee`: a configfs-tsm for tests, on machines without a TEE. What it says proves nothing, under a root of
/// its own that verifiers refuse unless a policy names it.
@main
struct SimulatedTEECommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulated-tee",
        abstract: "A simulated SEV-SNP or TDX for tests. It proves nothing.",
        subcommands: [Keygen.self, Serve.self])
}

struct Keygen: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a new hierarchy: two roots of no one's, the keys that sign reports, collateral.",
        discussion: "roots.json is the list for \"simulatedRoots\" of a policy. The roots' private keys are not kept.")

    @Option(help: ArgumentHelp("New directory for keys and certificates.", valueName: "dir"))
    var out: String

    @Option(help: "AMD product to be: Milan, Genoa or Turin.", transform: product)
    var product = Product.milan

    private static func product(_ name: String) throws -> Product {
        guard let product = Product(rawValue: name) else { throw ValidationError("'\(name)' is no product.") }
        return product
    }

    func run() throws {
        var shape = product == .turin ? SNPAuthority.Shape.turin : SNPAuthority.Shape()
        shape.product = product
        let keys = try SimulatedKeys(generating: shape)
        guard unsafe mkdir(out, 0o700) == 0 else { throw SystemError.last("create \(out)") }
        for file in try keys.files() {
            try File("\(out)/\(file.name)", O_WRONLY | O_CREAT | O_EXCL, mode: file.isSecret ? 0o600 : 0o644)
                .write(file.bytes)
        }
    }
}

struct Serve: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Mount the simulated configfs-tsm and answer until it is unmounted.",
        discussion: "With READY=1 to systemd once it is mounted. Takes root.")

    enum Provider: String, ExpressibleByArgument { case sevGuest = "sev_guest", tdxGuest = "tdx_guest" }

    @Option(help: ArgumentHelp("Keys of 'simulated-tee keygen'.", valueName: "dir"))
    var keys: String

    @Option(help: ArgumentHelp("Where to mount; requests are made in tsm/report below it.", valueName: "dir"))
    var mount = "/sys/kernel/config"

    @Option(help: "What to be: sev_guest or tdx_guest.")
    var provider = Provider.sevGuest

    @Option(help: ArgumentHelp("Version of SEV-SNP reports, 2 to 5.", valueName: "number"))
    var reportVersion: UInt32 = 3

    @Option(help: ArgumentHelp("SEV-SNP launch digest, 48 bytes.", valueName: "hex"))
    var launchDigest: Digest?

    @Option(help: ArgumentHelp("SEV-SNP guest policy.", valueName: "hex"))
    var policy = "30000"

    @Flag(help: "Offer service attestation as under an SVSM.")
    var svsm = false

    @Option(help: ArgumentHelp("Version of TDX quotes, 4 or 5.", valueName: "number"))
    var quoteVersion: UInt16 = 4

    @Option(help: ArgumentHelp("TDX MRTD, 48 bytes.", valueName: "hex"))
    var mrtd: Digest?

    @Option(
        help: ArgumentHelp("The TPM's event log; RTMR 0 to 2 are what its SHA-384 events extend to.", valueName: "file")
    )
    var eventLog = "/sys/kernel/security/tpm0/binary_bios_measurements"

    struct Digest: ExpressibleByArgument {
        let bytes: [UInt8]
        init?(argument: String) {
            guard let bytes = Hex.decode(argument), bytes.count == 48 else { return nil }
            self.bytes = bytes
        }
    }

    func validate() throws {
        guard AttestationReport.versions.contains(reportVersion) else {
            throw ValidationError("--report-version takes 2 to 5.")
        }
        guard quoteVersion == 4 || quoteVersion == 5 else { throw ValidationError("--quote-version takes 4 or 5.") }
        guard UInt64(policy, radix: 16) != nil else { throw ValidationError("--policy takes hexadecimal digits.") }
    }

    func run() throws {
        let keys = try SimulatedKeys(directory: keys)
        let mounted = try SimulatedMount(tree(keys), at: mount, path: SimulatedMount.configFSPath)
        print("simulated-tee: \(provider.rawValue) at \(mount): proves nothing")
        fflush(nil)
        _ = unsafe sd_notify(0, "READY=1")
        try mounted.run()
    }

    private func tree(_ keys: SimulatedKeys) -> ReportTree {
        switch provider {
        case .sevGuest:
            var machine = SimulatedSNP(keys)
            machine.reportVersion = reportVersion
            if let launchDigest { machine.measurement = launchDigest.bytes }
            machine.policy = UInt64(policy, radix: 16) ?? 0
            machine.hasServices = svsm
            return ReportTree(machine)
        case .tdxGuest:
            var machine = SimulatedTDX(keys)
            machine.quoteVersion = quoteVersion
            if let mrtd { machine.mrTD = mrtd.bytes }
            let path = eventLog
            machine.start = { () throws(SystemError) in
                guard File.exists(path) else { return SimulatedTDX.zeroRegisters }
                let bytes = try File.contents(path, limit: EventLog.maximumSize)
                do throws(ParseError) {
                    return SimulatedTDX.registers(replaying: try EventLog(parsing: bytes))
                } catch {
                    throw SystemError("\(path): \(error.message)", code: EIO)
                }
            }
            return ReportTree(machine)
        }
    }
}
