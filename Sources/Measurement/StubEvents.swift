import Bytes
import UnifiedKernelImage

/// What systemd-stub (systemd 257) measures, and what it hands to the kernel.
///
/// PCR 11: for each section name with NUL, then data (UAPI UKI specification, "PE Sections"; systemd-stub(7), "TPM PCR
/// Notes"). PCR 12: profile, addon command lines, credentials, configuration extensions. PCR 13: system extensions.
public struct StubEvents: Sendable {
    /// In the order in which the stub extends them.
    public let events: [PredictedEvent]
    /// The command line the kernel gets, UTF-16LE with its NUL.
    public let loadOptions: [UInt8]
    /// The initrd the kernel gets; empty where there is none.
    public let initrd: ByteSource

    /// - Parameters:
    ///   - sections: what the stub finds, in the specification's order.
    ///   - profile: number of the booted profile; all but 0 leave a trace in PCR 12.
    public init(
        sections: [(section: UnifiedKernelImage.Section, contents: ByteSource)], profile: Int = 0,
        companions: BootCompanions = BootCompanions()
    ) throws(ParseError) {
        var events: [PredictedEvent] = []
        if profile != 0 {
            let name = littleEndian(Array("\(profile)".utf16))
            events.append(PredictedEvent(.tpm(12), .eventTag, "profile \(profile)", name + [0, 0]))
        }
        events += Self.sectionEvents(sections)

        let uname = sections.first { $0.section == .uname }?.contents
        var addonLine: [UInt16] = []
        for addon in companions.addons {
            events.append(addon.event)
            guard let line = addon.commandLine else { continue }
            if let wanted = addon.uname, let uname, try text(wanted, addon.name) != text(uname, ".uname") { continue }
            addonLine += (addonLine.isEmpty ? [] : [0x20]) + (try text(line, addon.name))
        }
        let additions = [
            ("command line of addons", mangled(addonLine)),
            ("command line from SMBIOS", mangled(Array((companions.smbiosCommandLine ?? "").utf16))),
        ].filter { !$0.1.isEmpty }
        events += additions.map { PredictedEvent(.tpm(12), .ipl, $0.0, littleEndian($0.1) + [0, 0]) }

        let archives = Self.companionArchives(companions)
        events += archives.map { PredictedEvent($0.register, .ipl, $0.what, $0.archive) }
        self.events = events

        var line: [UInt16] = []
        if let embedded = sections.first(where: { $0.section == .cmdline }) {
            line = mangled(try text(embedded.contents, ".cmdline"))
        }
        for (_, addition) in additions { line += (line.isEmpty ? [] : [0x20]) + addition }
        loadOptions = littleEndian(line) + [0, 0]
        initrd = try Self.combinedInitrd(sections, archives.map(\.archive))
    }

    /// PCR 11 before any phase.
    public static func sectionEvents(
        _ sections: [(section: UnifiedKernelImage.Section, contents: ByteSource)]
    ) -> [PredictedEvent] {
        let present = Dictionary(sections.map { ($0.section, $0.contents) }, uniquingKeysWith: { first, _ in first })
        return UnifiedKernelImage.Section.allCases.flatMap { section -> [PredictedEvent] in
            guard section.isMeasured, let contents = present[section] else { return [] }
            let name = section.rawValue
            return [
                PredictedEvent(.tpm(11), .ipl, "name of section \(name)", Array(name.utf8) + [0]),
                PredictedEvent(.tpm(11), .ipl, "data of section \(name)", contents),
            ]
        }
    }

    /// The archives the stub makes of companion files, in the order in which it measures and appends them.
    private static func companionArchives(
        _ companions: BootCompanions
    ) -> [(register: Register, what: String, archive: [UInt8])] {
        func archive(_ files: [BootCompanions.File], _ prefix: String, _ directory: UInt32, _ file: UInt32) -> [UInt8]?
        {
            files.isEmpty
                ? nil : CPIO.archive(files, prefix: ".extra/\(prefix)", directoryMode: directory, fileMode: file)
        }
        let all: [(Register, String, [UInt8]?)] = [
            (.tpm(12), "credentials beside the UKI", archive(companions.credentials, "credentials", 0o500, 0o400)),
            (
                .tpm(12), "global credentials",
                archive(companions.globalCredentials, "global_credentials", 0o500, 0o400)
            ),
            (.tpm(13), "system extensions", archive(companions.systemExtensions, "sysext", 0o555, 0o444)),
            (
                .tpm(12), "configuration extensions",
                archive(companions.configurationExtensions, "confext", 0o555, 0o444)
            ),
        ]
        return all.compactMap { register, what, archive in archive.map { (register, what, $0) } }
    }

    /// Microcode, initrd, companion archives, then signature, key, os-release and profile as files of `.extra`; each
    /// padded to four bytes. A lone part is handed over as it is.
    private static func combinedInitrd(
        _ sections: [(section: UnifiedKernelImage.Section, contents: ByteSource)], _ archives: [[UInt8]]
    ) throws(ParseError) -> ByteSource {
        var parts: [ByteSource] = []
        for kind in [UnifiedKernelImage.Section.ucode, .initrd] {
            guard let part = sections.first(where: { $0.section == kind }) else { continue }
            parts.append(part.contents)
        }
        parts += archives.map { ByteSource($0) }
        let literals: [(UnifiedKernelImage.Section, String)] = [
            (.pcrsig, "tpm2-pcr-signature.json"), (.pcrpkey, "tpm2-pcr-public-key.pem"), (.osrel, "os-release"),
            (.profile, "profile"),
        ]
        for (kind, name) in literals {
            guard let part = sections.first(where: { $0.section == kind }) else { continue }
            let contents = try part.contents.readAll(limit: 16 << 20, kind.rawValue)
            parts.append(
                ByteSource(
                    CPIO.archive([(name, contents)], prefix: ".extra", directoryMode: 0o555, fileMode: 0o444)))
        }
        guard parts.count > 1 else { return parts.first ?? ByteSource([]) }
        return ByteSource(joining: parts.map { $0.resized(to: ($0.count + 3) / 4 * 4) })
    }
}

/// PCR 9 and the end of PCR 5: what the kernel's EFI stub and the firmware log when Linux takes over (Linux
/// `drivers/firmware/efi/libstub`: tags 0x8F3B22ED and 0x8F3B22EC).
public func kernelEvents(loadOptions: [UInt8], initrd: ByteSource) -> [PredictedEvent] {
    var events = [
        PredictedEvent(.tpm(9), .eventTag, "command line as the kernel gets it (LoadOptions)", loadOptions)
    ]
    if initrd.count > 0 {
        events.append(PredictedEvent(.tpm(9), .eventTag, "initrd as the stub hands it over", initrd))
    }
    for text in ["Exit Boot Services Invocation", "Exit Boot Services Returned with Success"] {
        events.append(PredictedEvent(.tpm(5), .action, text, Array(text.utf8)))
    }
    return events
}

/// Whether `contents` is a Linux kernel with the boot protocol's header (Linux `Documentation/arch/x86/boot.rst`).
public func isLinuxKernel(_ contents: ByteSource) -> Bool {
    guard contents.count >= 0x206 else { return false }
    return (try? contents.read(at: 0x202, count: 4, "HdrS")) == Array("HdrS".utf8)
}

func littleEndian(_ units: [UInt16]) -> [UInt8] {
    units.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
}

/// A section's text up to its first NUL, as UTF-16.
private func text(_ contents: ByteSource, _ name: String) throws(ParseError) -> [UInt16] {
    let bytes = try contents.readAll(limit: 1 << 20, name).prefix { $0 != 0 }
    guard let text = String(validating: bytes, as: UTF8.self) else {
        throw ParseError("form", field: name, offset: 0, "not UTF-8")
    }
    return Array(text.utf16)
}

/// The stub's clean-up of command lines: control characters become spaces, both ends are trimmed.
private func mangled(_ line: [UInt16]) -> [UInt16] {
    func isSpace(_ unit: UInt16) -> Bool { unit <= 0x20 || unit == 0x7F }
    guard let first = line.firstIndex(where: { !isSpace($0) }), let last = line.lastIndex(where: { !isSpace($0) })
    else { return [] }
    return line[first...last].map { isSpace($0) ? 0x20 : $0 }
}
