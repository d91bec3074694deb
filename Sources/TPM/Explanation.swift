import Bytes
import Crypto

/// One event in people's words: where it went, what kind it is, what it covers.
public struct Explanation: Equatable, Sendable {
    /// `pcr/11`, `rtmr/2`, …
    public let register: String
    /// The specification's name of the type, or systemd's for its own records.
    public let type: String
    /// What was measured, in words.
    public let what: String
    /// The digests vouch for what stands in `what`. Otherwise it is only what the log's writer says.
    public let isProved: Bool
    public let digests: [HashAlgorithm: [UInt8]]

    public var json: JSON {
        .fields([
            "register": .string(register), "type": .string(type), "what": .string(what), "proved": .bool(isProved),
            "digests": .object(
                Dictionary(uniqueKeysWithValues: digests.map { ($0.key.rawValue, JSON.hex($0.value)) })),
        ])
    }
}

extension EventLog {
    /// Every event that extends a register, in order.
    public func explain() -> [Explanation] {
        events.filter(\.isExtended).map { event in
            let (what, subject) = Self.words(event)
            return Explanation(
                register: claim(event.register), type: event.type.description, what: what,
                isProved: event.digests.allSatisfy { $0.key.hash(subject) == $0.value }, digests: event.digests)
        }
    }

    /// The words for one event, and the bytes that have to hash to its digest for the words to be proved.
    private static func words(_ event: Event) -> (String, [UInt8]) {
        switch EventData(event) {
        case .separator(let value):
            let end = "end of the firmware's phase"
            return (value == 0 || value == UInt32.max ? end : "firmware error \(value)", event.data)
        case .variable(let variable):
            let kind =
                event.type == .variableAuthority ? "certificate that allowed an image, from" : "UEFI variable"
            let value = variable.value.isEmpty ? "not set" : Self.value(variable.value)
            // Some firmware measures boot variables by value only.
            let isValueOnly =
                event.type == .variableBoot
                && event.digests.allSatisfy { $0.key.hash(variable.value) == $0.value }
            return ("\(kind) \(variable.name): \(value)", isValueOnly ? variable.value : event.data)
        case .image(let path):
            let kind = event.type == .bootServicesApplication ? "application started" : "driver loaded"
            return ("\(kind) from \(path.isEmpty ? "memory" : path)", event.data)
        case .gpt(let disk, let partitions):
            return ("partition table of disk \(disk), \(partitions) partitions", event.data)
        case .text(let text): return (Self.loader(text, event), Self.loaderSubject(text, event))
        case .tagged(let tag, let text):
            return ("\(Self.tags[tag] ?? "tag 0x\(Hex.encode(tag))"): \(text)", event.data)
        case .other: return (Self.kinds[event.type] ?? "\(event.data.count) bytes of data", event.data)
        }
    }

    private static func value(_ bytes: [UInt8]) -> String {
        bytes.count <= 16 ? Hex.encode(bytes) : "\(bytes.count) bytes"
    }

    /// systemd-stub measures each section twice: its name, then its contents under the same description.
    private static func loader(_ text: String, _ event: Event) -> String {
        guard event.type == .ipl, event.register == 11 || event.register == 3, text.hasPrefix(".") else { return text }
        let isName = event.digests.allSatisfy { $0.key.hash(Array(text.utf8) + [0]) == $0.value }
        return isName ? "name of section \(text)" : "contents of section \(text)"
    }

    private static func loaderSubject(_ text: String, _ event: Event) -> [UInt8] {
        let name = Array(text.utf8) + [0]
        return event.type == .ipl && event.digests.allSatisfy { $0.key.hash(name) == $0.value } ? name : event.data
    }

    /// Tags of EV_EVENT_TAG in use by Linux and systemd.
    private static let tags: [UInt32: String] = [
        0x8F3B_22EC: "initrd", 0x8F3B_22ED: "kernel command line", 0xF5BC_582A: "boot loader configuration",
        0x13AE_D6DB: "profile of the kernel image", 0x6C46_F751: "device tree addon", 0x49DF_FE0F: "initrd addon",
        0xDAC0_8E1A: "microcode addon", 0xD5CB_7CBC: "SMBIOS system table", 0xE0D4_7BC8: "SMBIOS board table",
        0xC0B3_BD23: "SMBIOS OEM strings",
    ]

    private static let kinds: [EventType: String] = [
        .platformFirmwareBlob: "firmware volume", .platformFirmwareBlob2: "firmware volume",
        .handoffTables: "tables handed over by the firmware", .handoffTables2: "tables handed over by the firmware",
        .crtmVersion: "firmware version",
    ]
}

extension UserspaceLog {
    /// Every record, in order.
    public func explain() -> [Explanation] {
        records.map { record in
            let what =
                switch record.eventType {
                case "phase": "boot phase \(record.text ?? "")"
                case "volume-key": "key of \(record.text ?? "a volume")"
                case "machine-id": "machine id"
                case "filesystem": "file system \(record.text ?? "")"
                default: record.text ?? record.content.compact
                }
            return Explanation(
                register: "pcr/\(record.pcr)", type: record.eventType ?? "systemd", what: what,
                isProved: record.textMatchesDigests, digests: record.digests)
        }
    }
}
