import Attestation
import Bytes
import Linux

/// When each stage of this boot was done, for people: nothing is decided by these numbers.
///
/// All but `firmware` count from the kernel's start: `kernel` when it started the initrd, `initrd` when that switched to
/// the root file system, `root` when systemd had come as far as the bootstrapper, `attestable` when evidence is served.
public struct BootStages: Equatable, Sendable {
    public private(set) var stages: [Evidence.Stage] = []

    /// - Parameters:
    ///   - initrd: contents of `/run/nacre/stages`, lines of `name milliseconds`.
    ///   - loaderTime: contents of the EFI variable LoaderTimeExecUSec, where the loader left one.
    ///   - firmware: milliseconds before the kernel by another clock, used where the loader says nothing.
    public init(initrd: String, loaderTime: [UInt8] = [], firmware: Int? = nil, root: Int, attestable: Int) {
        var times: [Substring: Int] = [:]
        for line in initrd.split(separator: "\n").prefix(16) {
            let words = line.split(separator: " ")
            if let name = words.first, words.count == 2, let time = Int(words[1]), time >= 0 { times[name] = time }
        }
        let found: [(String, Int?)] = [
            ("firmware", Self.milliseconds(loaderTime: loaderTime) ?? firmware), ("kernel", times["initrd"]),
            ("initrd", times["switch-root"]), ("root", root), ("attestable", attestable),
        ]
        stages = found.compactMap { name, time in time.map { Evidence.Stage(name: name, milliseconds: $0) } }
    }

    /// Microseconds since power-on as the Boot Loader Interface stores them: four bytes of attributes, then decimal
    /// digits in UTF-16 with a terminating NUL.
    static func milliseconds(loaderTime bytes: [UInt8]) -> Int? {
        guard (6...64).contains(bytes.count), bytes.count.isMultiple(of: 2) else { return nil }
        var digits: [UInt8] = []
        for index in stride(from: 4, to: bytes.count - 2, by: 2) {
            guard (0x30...0x39).contains(bytes[index]), bytes[index + 1] == 0 else { return nil }
            digits.append(bytes[index])
        }
        guard bytes.suffix(2) == [0, 0] else { return nil }
        return UInt64(String(decoding: digits, as: UTF8.self)).flatMap { Int(exactly: $0 / 1000) }
    }

    /// `nacre: stages firmware=1.234s kernel=…`, for the serial console.
    public var line: String {
        "nacre: stages " + stages.map { "\($0.name)=\(Self.seconds($0.milliseconds))" }.joined(separator: " ")
    }

    private static func seconds(_ milliseconds: Int) -> String {
        let rest = String(milliseconds % 1000)
        return "\(milliseconds / 1000).\(String(repeating: "0", count: max(0, 3 - rest.count)))\(rest)s"
    }
}
