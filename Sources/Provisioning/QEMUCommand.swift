import Bytes
import Kubernetes

/// Everything that decides what the guest of a local machine sees; one value, one command line.
public struct MachineShape: Equatable, Sendable {
    /// Name shown in QEMU's process title, never to the guest.
    public var name: String
    public var memoryMiB: Int
    public var processors: Int
    /// Raw disk image of the node; shared by machines, never written. `nil` boots the firmware alone.
    public var image: String?
    /// Firmware code (read-only) of the machine.
    public var firmwareCode: String
    /// Loopback port that reaches the guest's evidence endpoint.
    public var port: UInt16
    /// Port of the evidence endpoint inside the guest.
    public static let guestPort: UInt16 = 9000
    /// Loopback port that reaches the guest's attested channel, and its port inside.
    public var channelPort: UInt16?
    public static let guestChannelPort: UInt16 = 9001
    /// Loopback port that reaches the guest's API server, and its port inside.
    public var apiPort: UInt16?
    public static let guestAPIPort = NetworkPlan.apiPort
    /// The second card: the network that the cluster's machines share.
    var segment: Segment?
    /// That card's address.
    var hardwareAddress = ""
    /// Size of the machine's own state disk; `nil` for none.
    public var diskMiB: Int?
    /// Its serial number, by which the guest can be told which one to take.
    static let diskSerial = "nacre-state"
    /// The guest may connect to this host's loopback, at `hostAddress`: the way to the other machines' channels.
    public var reachesHost: Bool
    /// This host's loopback as a guest on QEMU's user networking reaches it.
    public static let hostAddress = "10.0.2.2"

    public init(
        name: String, memoryMiB: Int, processors: Int, image: String?, firmwareCode: String, port: UInt16,
        channelPort: UInt16? = nil, apiPort: UInt16? = nil, diskMiB: Int? = nil, reachesHost: Bool = false
    ) {
        self.name = name
        self.memoryMiB = memoryMiB
        self.processors = processors
        self.image = image
        self.firmwareCode = firmwareCode
        self.port = port
        self.channelPort = channelPort
        self.apiPort = apiPort
        self.diskMiB = diskMiB
        self.reachesHost = reachesHost
    }
}

/// Files of a machine, relative to its directory.
enum MachineFile {
    static let document = "machine.json"
    static let processes = "processes.json"
    static let variables = "vars.fd"
    static let stateDisk = "state.img"
    static let tpmState = "tpm"
    static let console = "console.log"
    static let qemuLog = "qemu.log"
    static let tpmLog = "swtpm.log"
    static let monitor = "qmp.sock"
}

extension MachineShape {
    /// QEMU 10's own machine, by version: its ACPI tables are measured, and `q35` alone means another machine after
    /// an upgrade.
    static let pinnedMachine = "pc-q35-10.0"

    /// Everything that TCG can do, under the name of a processor that does not speculate (Atom "Bonnell"): what QEMU
    /// translates does not either. Any other name makes the guest's kernel pay for what that processor would leak: a
    /// fifth and more of the time until etcd or kubelet runs.
    static let emulatedProcessor = "max,vendor=GenuineIntel,family=6,model=28,stepping=10"

    /// QEMU's arguments, for a process that starts in the machine's directory.
    ///
    /// No default device, no user configuration, no option ROM: only what is listed here is measured by the firmware.
    /// - Parameter tpm: descriptor of the socket to swtpm.
    func arguments(acceleration: Acceleration.Kind, machine: String, tpm: Int32) -> [String] {
        var arguments = [
            "-nodefaults", "-no-user-config", "-display", "none",
            "-name", "guest=\(Self.escape(name)),process=\(Self.escape(name))",
            "-machine", "\(machine),smm=off,vmport=off",
            "-accel", acceleration == .kvm ? "kvm" : "tcg,thread=multi",
            "-cpu", acceleration == .kvm ? "host" : Self.emulatedProcessor,
            "-smp", "\(processors)",
            "-m", "\(memoryMiB)M",
            "-drive", "if=pflash,unit=0,format=raw,readonly=on,file=\(Self.escape(firmwareCode))",
            "-drive", "if=pflash,unit=1,format=raw,file=\(MachineFile.variables)",
            "-chardev", "socket,id=tpm,fd=\(tpm)",
            "-tpmdev", "emulator,id=tpm0,chardev=tpm",
            "-device", "tpm-crb,tpmdev=tpm0",
            "-object", "rng-random,id=rng0,filename=/dev/urandom",
            "-device", "virtio-rng-pci,rng=rng0",
            // `restrict`: the guest reaches neither this host's loopback nor the outside; only the forwards below exist.
            // Nodes of one cluster reach each other through the host's loopback, so there it cannot be.
            "-netdev",
            "user,id=net0,restrict=\(reachesHost ? "off" : "on"),hostfwd=tcp:127.0.0.1:\(port)-:\(Self.guestPort)"
                + (channelPort.map { ",hostfwd=tcp:127.0.0.1:\($0)-:\(Self.guestChannelPort)" } ?? "")
                + (apiPort.map { ",hostfwd=tcp:127.0.0.1:\($0)-:\(Self.guestAPIPort)" } ?? ""),
            "-device", "virtio-net-pci,netdev=net0,romfile=",
            "-chardev", "file,id=console,path=\(MachineFile.console),append=on",
            "-serial", "chardev:console",
            "-qmp", "unix:\(MachineFile.monitor),server=on,wait=off",
        ]
        if let image {
            arguments += [
                "-blockdev",
                "driver=raw,node-name=system,read-only=on,file.driver=file,file.filename=\(Self.escape(image))",
                "-device", "virtio-blk-pci,drive=system,bootindex=0",
            ]
        }
        if diskMiB != nil {
            arguments += [
                "-blockdev",
                "driver=raw,node-name=state,file.driver=file,file.filename=\(MachineFile.stateDisk)",
                // No bootindex: the firmware is told of the system's disk alone.
                "-device", "virtio-blk-pci,drive=state,serial=\(Self.diskSerial)",
            ]
        }
        if let segment {
            arguments += [
                "-netdev", "socket,id=net1,mcast=\(segment.group):\(segment.port),localaddr=127.0.0.1",
                "-device", "virtio-net-pci,netdev=net1,mac=\(hardwareAddress),romfile=",
            ]
        }
        return arguments
    }

    /// In QEMU's option lists a comma ends a value and two commas are one.
    static func escape(_ value: String) -> String {
        value.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
    }
}

/// The version that `qemu-system-x86_64 --version` prints.
struct QEMUVersion: Comparable, Sendable, CustomStringConvertible {
    let major: Int
    let minor: Int

    /// `QEMU emulator version 10.0.2 (Debian …)`.
    init?(_ text: String) {
        let words = text.split(whereSeparator: { $0 == " " || $0.isNewline })
        guard let index = words.firstIndex(of: "version"), index + 1 < words.count else { return nil }
        let numbers = words[index + 1].split(separator: ".")
        guard numbers.count >= 2, let major = Int(numbers[0]), let minor = Int(numbers[1]) else { return nil }
        self.major = major
        self.minor = minor
    }

    static func < (left: QEMUVersion, right: QEMUVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    var description: String { "\(major).\(minor)" }
}

/// Sizes as people write them: `2G`, `2GiB`, `2048M`, or plain MiB.
public enum MemorySize {
    /// MiB, 128 to 1 TiB; `nil` for anything else.
    public static func mebibytes(_ text: String) -> Int? {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard (1...9).contains(digits.utf8.count), let value = Int(digits) else { return nil }
        let scale: Int
        switch text.dropFirst(digits.count) {
        case "", "M", "MiB", "m": scale = 1
        case "G", "GiB", "g": scale = 1024
        default: return nil
        }
        let (size, overflow) = value.multipliedReportingOverflow(by: scale)
        return !overflow && (128...1 << 20).contains(size) ? size : nil
    }
}
