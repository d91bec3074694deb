import Bytes
import CLinux
import Glibc
import Host

/// How QEMU runs the guest's instructions, and why this one was chosen.
public struct Acceleration: Equatable, Sendable {
    public enum Kind: String, Sendable { case kvm, tcg }
    public let kind: Kind
    /// For people: what was found on this host.
    public let reason: String

    public init(kind: Kind, reason: String) {
        self.kind = kind
        self.reason = reason
    }

    public static let emulation = "emulation (TCG), slower"

    /// `/dev/kvm` may exist and still not run guests, so both are required: a processor flag, and a virtual processor
    /// that the kernel really creates.
    static func choose(processorFlags: Set<String>, kvm: KVMProbe) -> Acceleration {
        guard let flag = ["svm", "vmx"].first(where: { processorFlags.contains($0) }) else {
            return Acceleration(kind: .tcg, reason: "/proc/cpuinfo shows neither svm nor vmx: \(emulation)")
        }
        switch kvm {
        case .works: return Acceleration(kind: .kvm, reason: "\(flag), and /dev/kvm created a virtual processor")
        case .fails(let why): return Acceleration(kind: .tcg, reason: "\(flag), but \(why): \(emulation)")
        }
    }

    /// Looks at this host.
    public static func probe() -> Acceleration {
        let flags = processorFlags((try? HostFiles.read("/proc/cpuinfo", limit: 16 << 20)) ?? [])
        return choose(processorFlags: flags, kvm: flags.isDisjoint(with: ["svm", "vmx"]) ? .fails("") : .probe())
    }

    /// The words of the first `flags` line of /proc/cpuinfo.
    static func processorFlags(_ cpuinfo: [UInt8]) -> Set<String> {
        for line in cpuinfo.split(separator: UInt8(ascii: "\n")) where line.starts(with: "flags".utf8) {
            let words = line.drop { $0 != UInt8(ascii: ":") }.dropFirst().split(separator: UInt8(ascii: " "))
            return Set(words.map { String(decoding: $0, as: UTF8.self) })
        }
        return []
    }
}

/// Whether the kernel's virtual machine interface works for this user.
enum KVMProbe: Equatable, Sendable {
    case works
    case fails(String)

    /// Kernel documentation, virt/kvm/api.rst §4: version 12, then a machine, then one processor of it.
    static func probe(device: String = "/dev/kvm") -> KVMProbe {
        func failed(_ what: String) -> KVMProbe { .fails("\(what): \(unsafe String(cString: strerror(errno)))") }
        let kvm = unsafe open(device, O_RDWR | O_CLOEXEC)
        guard kvm >= 0 else { return failed("\(device) cannot be opened") }
        defer { close(kvm) }
        guard nacre_ioctl(kvm, nacre_kvm_get_api_version, nil) == 12 else {
            return .fails("\(device) does not speak version 12 of its interface")
        }
        let machine = nacre_ioctl(kvm, nacre_kvm_create_vm, nil)
        guard machine >= 0 else { return failed("\(device) creates no machine") }
        defer { close(machine) }
        let processor = nacre_ioctl(machine, nacre_kvm_create_vcpu, nil)
        guard processor >= 0 else { return failed("\(device) creates no virtual processor") }
        close(processor)
        return .works
    }
}

/// Confidential computing that this host offers to its guests.
public enum HostTEE: String, Sendable {
    case none, snp = "SEV-SNP", tdx = "TDX"

    /// Module parameters of KVM: `sev_snp` and `tdx` read `Y` where the firmware and kernel have them enabled.
    public static func probe(modules: String = "/sys/module") -> HostTEE {
        func isOn(_ parameter: String) -> Bool {
            let text = (try? HostFiles.read("\(modules)/\(parameter)", limit: 16)) ?? []
            return text.first == UInt8(ascii: "Y") || text.first == UInt8(ascii: "1")
        }
        if isOn("kvm_amd/parameters/sev_snp") { return .snp }
        return isOn("kvm_intel/parameters/tdx") ? .tdx : .none
    }
}
