import Bytes
import UnifiedKernelImage

/// What systemd-stub adds to a boot from beside the UKI and from the host, each a measured channel of its own
/// (systemd-stub(7), "Companion Files").
public struct BootCompanions: Sendable {
    /// A file by its name as FAT shows it.
    public typealias File = (name: String, contents: [UInt8])

    /// In the order in which the stub loads them: `\loader\addons` first, each folder sorted.
    public var addons: [Addon] = []
    /// `*.cred` beside the UKI, and in `\loader\credentials`.
    public var credentials: [File] = []
    public var globalCredentials: [File] = []
    /// `*.raw` and `*.confext.raw` beside the UKI.
    public var systemExtensions: [File] = []
    public var configurationExtensions: [File] = []
    /// `io.systemd.stub.kernel-cmdline-extra` of SMBIOS type 11; stubs ignore it in confidential VMs.
    public var smbiosCommandLine: String?

    public init() {}

    /// A PE image without a kernel that extends the command line.
    public struct Addon: Sendable {
        public let name: String
        /// Its measurement as an image, PCR 4.
        public let event: PredictedEvent
        public let commandLine: ByteSource?
        /// The kernel release it is made for.
        public let uname: ByteSource?

        public init(name: String, event: PredictedEvent, commandLine: ByteSource?, uname: ByteSource? = nil) {
            self.name = name
            self.event = event
            self.commandLine = commandLine
            self.uname = uname
        }

        /// - Throws: where `file` is no PE image, or adds what predictions do not follow.
        public init(name: String, file: ByteSource) throws(ParseError) {
            let image = try PEImage(file)
            for kind in [".initrd", ".ucode", ".dtb"] where image.sections.contains(where: { $0.name == kind }) {
                throw ParseError("unsupported", field: name, offset: 0, "addons with \(kind) are not predicted")
            }
            func section(_ kind: String) throws(ParseError) -> ByteSource? {
                guard let section = image.sections.first(where: { $0.name == kind && $0.virtualSize > 0 }) else {
                    return nil
                }
                return try image.contents(of: section)
            }
            self.init(
                name: name,
                event: PredictedEvent(
                    .tpm(4), .bootServicesApplication, "addon \(name)", try image.authenticodeContents()),
                commandLine: try section(".cmdline"), uname: try section(".uname"))
        }
    }
}

extension BootCompanions {
    /// Largest file that is taken along.
    private static let maximumFile = 64 << 20

    /// Collects the companions of the UKI at `path` from its EFI system partition, as the stub would.
    public init(on volume: FATVolume, of path: String) throws(ParseError) {
        func files(_ folder: String, _ suffix: String, but other: String? = nil) throws(ParseError) -> [FATVolume.Entry]
        {
            let entries = try volume.entries(folder) ?? []
            return entries.filter { entry in
                let name = entry.name.lowercased()
                return !entry.isDirectory && !name.hasPrefix(".") && name.hasSuffix(suffix)
                    && other.map { !name.hasSuffix($0) } ?? true && name.utf8.allSatisfy { $0 < 0x80 }
            }.sorted { Array($0.name.utf16).lexicographicallyPrecedes(Array($1.name.utf16)) }
        }
        func read(_ entries: [FATVolume.Entry]) throws(ParseError) -> [File] {
            var files: [File] = []
            for entry in entries {
                let contents = try volume.contents(of: entry).readAll(limit: Self.maximumFile, entry.name)
                files.append((entry.name, contents))
            }
            return files
        }
        let beside = path + ".extra.d"
        for folder in ["loader/addons", beside] {
            for entry in try files(folder, ".addon.efi") {
                addons.append(try Addon(name: entry.name, file: try volume.contents(of: entry)))
            }
        }
        credentials = try read(files(beside, ".cred"))
        globalCredentials = try read(files("loader/credentials", ".cred"))
        systemExtensions = try read(files(beside, ".raw", but: ".confext.raw"))
        configurationExtensions = try read(files(beside, ".confext.raw"))
    }
}
