import Bytes
import Crypto
import TestKit
import Testing
import UnifiedKernelImage

@testable import Measurement

/// Golden: `systemd-measure` of systemd 257 over the same sections.
@Suite struct SystemdMeasureTests {
    static let phases = ["enter-initrd", "leave-initrd", "sysinit", "ready", "shutdown", "final"]
    static let banks: [HashAlgorithm] = [.sha1, .sha256, .sha384, .sha512]

    /// Every section with contents of its own length, so that a mix-up shows.
    static func contents(_ section: UnifiedKernelImage.Section) -> [UInt8] {
        Array("\(section.rawValue): ".utf8) + [UInt8](repeating: UInt8(section.rawValue.count), count: 5000)
    }

    static let selections: [[UnifiedKernelImage.Section]] = [
        [.linux],
        [.linux, .osrel, .cmdline, .initrd, .uname, .sbat],
        [.linux, .osrel, .cmdline, .initrd, .ucode, .splash, .dtb, .uname, .sbat, .pcrpkey, .profile],
        [.linux, .profile, .dtbauto],
        [.linux, .profile, .hwids],
        UnifiedKernelImage.Section.allCases.filter(\.isMeasured),
    ]

    @Test(arguments: selections) func valuesAreThoseOfSystemd(_ sections: [UnifiedKernelImage.Section]) throws {
        guard let expected = try Self.systemd(sections) else { return }
        #expect(try Self.own(sections) == expected)
    }

    /// systemd-measure 257.13 takes what `--dtbauto` names for `.hwids` and the reverse. Found out with one section, so
    /// that the test holds for a systemd without the mistake too.
    static let swapsOptions: Bool = {
        guard let plain = try? systemd([.linux, .dtbauto], swapped: false) else { return false }
        return (try? own([.linux, .dtbauto])) != plain
    }()

    /// bank → path of phases → value.
    static func own(_ sections: [UnifiedKernelImage.Section]) throws -> [String: [String: String]] {
        let pieces = sections.map { (section: $0, contents: ByteSource(contents($0))) }
        let hashed = try StubEvents.sectionEvents(pieces).hashed(banks)
        var result: [String: [String: String]] = [:]
        for bank in banks {
            var value = replay(hashed.compactMap { $0.digests[bank] }, bank)
            var path: [String] = []
            for phase in phases {
                path.append(phase)
                value = replay([bank.hash(Array(phase.utf8))], bank, from: value)
                result[bank.rawValue, default: [:]][path.joined(separator: ":")] = Hex.encode(value)
            }
        }
        return result
    }

    static func systemd(
        _ sections: [UnifiedKernelImage.Section], swapped: Bool = swapsOptions
    ) throws -> [String: [String: String]]? {
        guard var command = ToolsTree.command("/usr/lib/systemd/systemd-measure") else { return nil }
        let folder = try TemporaryFolder()
        command += ["calculate", "--json=short"] + banks.map { "--bank=\($0.rawValue)" }
        command += phases.indices.map { "--phase=" + phases[...$0].joined(separator: ":") }
        for section in sections {
            var name = String(section.rawValue.dropFirst())
            if swapped { name = ["dtbauto": "hwids", "hwids": "dtbauto"][name] ?? name }
            command.append("--\(name)=\(try folder.file(name, contents(section)))")
        }
        let output = try Tool.run(command)
        try #require(output.status == 0, "\(output.errors)")
        var result: [String: [String: String]] = [:]
        for (bank, values) in try JSON(parsing: output.output).object ?? [:] {
            for value in values.array ?? [] {
                result[bank, default: [:]][value["phase"]?.string ?? ""] = value["hash"]?.string
            }
        }
        return result
    }
}
