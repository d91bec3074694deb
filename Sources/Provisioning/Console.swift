import Bytes
import Host

/// What a machine's serial console says about its way up. All of it is the guest's word: hints for progress and for
/// explaining a failure, never a reason to believe anything.
public enum ConsoleEvent: Equatable, Sendable {
    /// The firmware looks for something to boot.
    case firmware
    /// The firmware found nothing to boot.
    case nothingToBoot
    /// The kernel runs.
    case kernel
    /// `nacre: stages name=1.234s …`: each stage and when it was reached, in milliseconds since the machine's start.
    case stages([BootStage])
    /// A line in which the node says why it does not go on.
    case failure(String)
}

/// A named step of the boot and when it was reached.
public struct BootStage: Equatable, Sendable {
    public let name: String
    public let milliseconds: Int

    public init(name: String, milliseconds: Int) {
        self.name = name
        self.milliseconds = milliseconds
    }
}

/// Turns a console's bytes, as they come, into events; memory is bounded by the longest line kept.
public struct ConsoleReader: Sendable {
    static let longestLine = 1024
    private var sanitiser = Sanitised()
    private var line = ""

    public init() {}

    public mutating func events(_ bytes: some Sequence<UInt8>) -> [ConsoleEvent] {
        var events: [ConsoleEvent] = []
        for character in sanitiser.text(bytes) {
            if character.isNewline {
                if let event = Self.event(line) { events.append(event) }
                line = ""
            } else if line.utf8.count < Self.longestLine {
                line.append(character)
            }
        }
        return events
    }

    /// The meaning of one whole line.
    static func event(_ line: String) -> ConsoleEvent? {
        if let list = after("nacre: stages ", in: line) { return stages(list).map { .stages($0) } }
        if let reason = after("nacre: failed: ", in: line) { return .failure(String(reason)) }
        // The initrd's last words before it reboots.
        if let reason = after("nacre initrd: ", in: line), line.contains("; rebooting") {
            return .failure(String(reason))
        }
        if after("Kernel panic", in: line) != nil { return .failure(line) }
        if after("Linux version ", in: line) != nil { return .kernel }
        // After every boot entry has failed the firmware gives up, or starts its own shell.
        let isShell = after("BdsDxe: starting", in: line).map { after("EFI Internal Shell", in: String($0)) != nil }
        if isShell == true || after("No bootable option or device was found", in: line) != nil { return .nothingToBoot }
        if after("BdsDxe: ", in: line) != nil { return .firmware }
        return nil
    }

    private static func after(_ words: String, in line: String) -> Substring? {
        var rest = line[...]
        while !rest.isEmpty {
            if rest.hasPrefix(words) { return rest.dropFirst(words.count) }
            rest = rest.dropFirst()
        }
        return nil
    }

    /// `firmware=2.310s kernel=3.017s …`, at most 32 stages; `nil` where a word is not of that form.
    static func stages(_ list: Substring) -> [BootStage]? {
        var stages: [BootStage] = []
        for word in list.split(whereSeparator: { $0 == " " || $0 == "," }) {
            let parts = word.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, stages.count < 32, let name = parts.first, (1...32).contains(name.utf8.count),
                name.utf8.allSatisfy({ isNameByte($0) }), let time = parts.last.flatMap({ milliseconds($0) })
            else { return nil }
            stages.append(BootStage(name: String(name), milliseconds: time))
        }
        return stages.isEmpty ? nil : stages
    }

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"): true
        default: false
        }
    }

    /// `2.31s`, `2310ms` or a bare number of milliseconds.
    private static func milliseconds(_ text: Substring) -> Int? {
        if text.hasSuffix("ms") { return whole(text.dropLast(2)) }
        guard text.hasSuffix("s") else { return whole(text) }
        let parts = text.dropLast().split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        guard let seconds = parts.first.flatMap({ whole($0) }) else { return nil }
        guard parts.count == 2, let fraction = parts.last else { return seconds * 1000 }
        let digits = fraction.prefix(3)
        guard let value = whole(digits), fraction.utf8.count <= 9, whole(fraction) != nil else { return nil }
        return seconds * 1000 + value * [0, 100, 10, 1][digits.utf8.count]
    }

    private static func whole(_ text: Substring) -> Int? {
        guard (1...9).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }) else {
            return nil
        }
        return Int(text)
    }
}

/// A console's text from its beginning, safe to print, as it grows.
public struct ConsoleStream {
    private let path: String
    private var offset = 0
    private var sanitiser = Sanitised()

    public init(path: String) { self.path = path }

    /// What came since the last call; empty where nothing did.
    public mutating func next() throws(Finding) -> String {
        while true {
            let bytes = try HostFiles.read(path, from: offset, limit: 1 << 20)
            if bytes.isEmpty { return "" }
            offset += bytes.count
            let text = sanitiser.text(bytes)
            // Nothing but control sequences is not the end.
            if !text.isEmpty { return text }
        }
    }
}
