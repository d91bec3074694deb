import Bytes

/// A unified kernel image (UAPI Group Specification 5, "Unified Kernel Image"): a PE image whose sections are kernel,
/// initrd, command line and the rest, base sections first, then any number of profiles.
public struct UnifiedKernelImage: Sendable {
    public let image: PEImage
    /// Sections before the first `.profile`.
    private let base: [Section: [PEImage.Section]]
    /// For each `.profile`, itself and the sections after it.
    private let profiles: [[Section: [PEImage.Section]]]

    /// The sections the specification defines, in the order in which they are measured into PCR 11.
    public enum Section: String, CaseIterable, Sendable {
        case linux = ".linux"
        case osrel = ".osrel"
        case cmdline = ".cmdline"
        case initrd = ".initrd"
        case ucode = ".ucode"
        case splash = ".splash"
        case dtb = ".dtb"
        case uname = ".uname"
        case sbat = ".sbat"
        /// Holds signatures over PCR 11 and is therefore the one section that is not measured.
        case pcrsig = ".pcrsig"
        case pcrpkey = ".pcrpkey"
        case profile = ".profile"
        case dtbauto = ".dtbauto"
        case hwids = ".hwids"

        public var isMeasured: Bool { self != .pcrsig }
    }

    public init(_ source: ByteSource) throws(ParseError) {
        image = try PEImage(source)
        var groups: [[Section: [PEImage.Section]]] = [[:]]
        for section in image.sections {
            // The stub passes over sections without contents, so do we.
            guard let kind = Section(rawValue: section.name), section.virtualSize > 0 else { continue }
            if kind == .profile { groups.append([:]) }
            // Only `.dtbauto` may stand several times: the stub takes the one that fits the machine.
            guard kind == .dtbauto || groups[groups.count - 1][kind] == nil else {
                throw ParseError(
                    "duplicate", field: kind.rawValue, offset: section.headerOffset, "stands twice in one profile")
            }
            groups[groups.count - 1][kind, default: []].append(section)
        }
        base = groups.removeFirst()
        profiles = groups
        try Self.checkOverlaps(image)
    }

    /// Measured is what lies in memory; sections that overlap there would not be what the file shows.
    private static func checkOverlaps(_ image: PEImage) throws(ParseError) {
        let loaded = image.sections.filter { $0.virtualSize > 0 }.sorted { $0.virtualAddress < $1.virtualAddress }
        for (one, next) in zip(loaded, loaded.dropFirst())
        where one.virtualAddress + one.virtualSize > next.virtualAddress {
            throw ParseError(
                "range", field: next.name, offset: next.headerOffset, "overlaps \(one.name) once it is loaded")
        }
    }

    /// How many profiles the image has; 0 means that it is not a multi-profile image.
    public var profileCount: Int { profiles.count }

    /// The sections that a boot of `profile` uses: those of the base, overridden by those of the profile.
    ///
    /// - Parameter profile: from 0; profile 0 of an image without profiles is its base.
    /// - Throws: where there is no such profile, no `.linux`, or several `.dtbauto` whose choice is the machine's.
    public func sections(profile: Int) throws(ParseError) -> [Section: PEImage.Section] {
        guard profile >= 0, profile < max(1, profiles.count) else {
            throw ParseError(
                "range", field: "profile", offset: 0, "there is no profile \(profile), the image has \(profileCount)")
        }
        var chosen = base
        if !profiles.isEmpty { chosen.merge(profiles[profile]) { _, own in own } }
        var result: [Section: PEImage.Section] = [:]
        for (kind, sections) in chosen {
            guard sections.count == 1 else {
                throw ParseError(
                    "range", field: kind.rawValue, offset: sections.first?.headerOffset ?? 0,
                    "\(sections.count) sections: which one is used depends on the machine")
            }
            result[kind] = sections.first
        }
        guard result[.linux] != nil else {
            throw ParseError("missing", field: ".linux", offset: 0, "no kernel: not a unified kernel image")
        }
        return result
    }

    /// What `section` holds in memory, in the order of the specification, for each section that `profile` uses.
    public func contents(profile: Int) throws(ParseError) -> [(section: Section, contents: ByteSource)] {
        let sections = try sections(profile: profile)
        var result: [(section: Section, contents: ByteSource)] = []
        for kind in Section.allCases {
            guard let section = sections[kind] else { continue }
            result.append((kind, try image.contents(of: section)))
        }
        return result
    }
}
