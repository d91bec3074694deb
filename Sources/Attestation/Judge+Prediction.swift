import Bytes
import Crypto
import GPT
import Measurement
import UnifiedKernelImage

extension Judge {
    private typealias Sections = [(section: UnifiedKernelImage.Section, contents: ByteSource)]

    private static let banks: [HashAlgorithm] = [.sha1, .sha256, .sha384, .sha512]

    /// The sections under `dir/sections`, in the order of the specification.
    private static func sections(_ evidence: EvidenceCase) -> Sections {
        UnifiedKernelImage.Section.allCases.compactMap { section in
            guard let bytes = evidence.inputs["dir/sections/\(section.rawValue.dropFirst()).bin"], !bytes.isEmpty else {
                return nil
            }
            return (section, ByteSource(bytes))
        }
    }

    /// `pcr11`: values of PCR 11 after each path of phases, under `phases`.
    static func pcr11(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let sections = sections(evidence)
        guard sections.contains(where: { $0.section == .linux }) else {
            throw Finding(
                "parse-missing", claim: "dir/sections/linux.bin", expected: "a kernel", actual: "none",
                source: "UAPI UKI specification")
        }
        do throws(ParseError) {
            let events = try StubEvents.sectionEvents(sections).hashed(banks)
            var values: [HashAlgorithm: [UInt8]] = [:]
            for bank in banks { values[bank] = replay(events.compactMap { $0.digests[bank] }, bank) }
            var path = ""
            var phases: [String: JSON] = [:]
            for phase in BootPrediction.systemdPhases {
                path += (path.isEmpty ? "" : ":") + phase
                for bank in banks {
                    values[bank] = replay([bank.hash(Array(phase.utf8))], bank, from: values[bank])
                }
                phases[path] = .object(
                    Dictionary(uniqueKeysWithValues: values.map { ($0.key.rawValue, JSON.hex($0.value)) }))
            }
            return .accept(claims: ["phases": .object(phases)])
        } catch { throw error.finding }
    }

    /// `pcr-predict`: the registers of a boot that `dir` describes, under `pcrs`.
    static func pcrPredict(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let description = try evidence.input("dir/expected.json")
        do throws(ParseError) {
            let info = try JSON(parsing: description)["info"]
            let boot = try DescribedBoot(info, inputs: evidence.inputs, sections: sections(evidence))
            let events = try boot.events.hashed(banks)
            var pcrs: [String: JSON] = [:]
            for bank in banks {
                var registers: [String: JSON] = [:]
                for (register, own) in Dictionary(grouping: events, by: \.register) {
                    guard case .tpm(let index) = register else { continue }
                    registers["\(index)"] = .hex(replay(own.compactMap { $0.digests[bank] }, bank))
                }
                pcrs[bank.rawValue] = .object(registers)
            }
            return .accept(claims: ["pcrs": .object(pcrs)])
        } catch { throw error.finding }
    }

    /// A boot as `expected.json` describes it: digests of images that are not at hand, names of companion files.
    private struct DescribedBoot {
        var events: [PredictedEvent] = []

        init(_ info: JSON?, inputs: [String: [UInt8]], sections: Sections) throws(ParseError) {
            guard let info, info.object != nil else {
                throw ParseError("form", field: "expected.json.info", offset: 0, "must be an object")
            }
            let isSecure = info["secure_boot"]?.bool ?? false
            var state = SecureBootState.absent
            if let store = inputs["dir/vars.fd"] ?? inputs["dir/OVMF_VARS.fd"] {
                state = SecureBootState(try VariableStore(store), supported: isSecure ? true : nil)
            } else if isSecure {
                throw ParseError("missing", field: "vars.fd", offset: 0, "Secure Boot needs its variables")
            }
            events = state.events

            let text = "Calling EFI Application from Boot Option"
            events.append(PredictedEvent(.tpm(4), .action, text, Array(text.utf8)))
            events += [4, 5].map { BootPrediction.separator(.tpm($0)) }
            guard let disk = inputs["dir/gpt.bin"] else {
                throw ParseError("missing", field: "gpt.bin", offset: 0, "no partition table")
            }
            events.append(PredictedEvent(.tpm(5), .gpt, "partition table", try GPT(ByteSource(disk)).eventData))
            if info["systemd_boot_authenticode"] != nil {
                events.append(try Self.image("systemd-boot", info["systemd_boot_authenticode"], nil))
            }
            if let configuration = inputs["dir/loader.conf"] {
                events.append(PredictedEvent(.tpm(5), .eventTag, "loader.conf", configuration))
            }
            events.append(try Self.image("UKI", info["uki_authenticode"], inputs["dir/uki.efi"]))

            // Other stubs than systemd's measure nothing.
            guard info["stub"]?.string?.hasPrefix("systemd-stub") ?? true else { return }
            let stub = try StubEvents(
                sections: sections, companions: try Self.companions(info, inputs: inputs))
            events += stub.events
            let kernel = sections.first { $0.section == .linux }?.contents
            if !isSecure {
                let bytes = try kernel?.readAll(limit: 256 << 20, ".linux")
                events.append(try Self.image("kernel", info["inner_linux_authenticode"], bytes))
            }
            if let kernel, isLinuxKernel(kernel) {
                events += kernelEvents(loadOptions: stub.loadOptions, initrd: stub.initrd)
            }
        }

        /// PCR 4: an image by the digests given, else by its bytes.
        private static func image(
            _ name: String, _ digests: JSON?, _ bytes: [UInt8]?
        ) throws(ParseError) -> PredictedEvent {
            if let digests {
                var known: [HashAlgorithm: [UInt8]] = [:]
                for bank in banks {
                    guard let digest = digests[bank.rawValue] else { continue }
                    known[bank] = try JSONFields.hex(digest, path: "info.\(name).\(bank.rawValue)", count: bank.size)
                }
                return PredictedEvent(.tpm(4), .bootServicesApplication, name, digests: known)
            }
            guard let bytes else { throw ParseError("missing", field: name, offset: 0, "neither digests nor bytes") }
            let image = try PEImage(ByteSource(bytes))
            return PredictedEvent(.tpm(4), .bootServicesApplication, name, try image.authenticodeContents())
        }

        private static func companions(
            _ info: JSON, inputs: [String: [UInt8]]
        ) throws(ParseError) -> BootCompanions {
            func files(_ key: String) throws(ParseError) -> [BootCompanions.File] {
                var files: [BootCompanions.File] = []
                for name in (info[key]?.array ?? []).compactMap(\.string) {
                    guard let contents = inputs["dir/extra/\(name)"] else {
                        throw ParseError("missing", field: "extra/\(name)", offset: 0, "named, but not there")
                    }
                    files.append((name, contents))
                }
                return files
            }
            var companions = BootCompanions()
            companions.credentials = try files("credentials")
            companions.globalCredentials = try files("global_credentials")
            companions.systemExtensions = try files("sysext")
            companions.configurationExtensions = try files("confext")
            companions.smbiosCommandLine = info["smbios_cmdline"]?.string
            if info["addon_authenticode"] != nil {
                let line = info["addon_cmdline"]?.string.map { ByteSource(Array($0.utf8)) }
                companions.addons = [
                    BootCompanions.Addon(
                        name: "addon", event: try image("addon", info["addon_authenticode"], nil), commandLine: line)
                ]
            }
            return companions
        }
    }
}
