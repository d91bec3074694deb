import Bytes
import Crypto
import GPT
import UnifiedKernelImage

/// Everything that one boot measures, as far as the inputs determine it.
public struct BootPrediction: Sendable {
    /// What is known about the boot. Each missing input leaves the registers that depend on it unpredicted.
    public struct Inputs: Sendable {
        public var image: UnifiedKernelImage?
        /// Which profile of a multi-profile image is booted.
        public var profile = 0
        public var gpt: GPT?
        public var companions = BootCompanions()
        public var firmware: FirmwareVolumes?
        /// What the firmware finds about Secure Boot; `nil` leaves PCR 7 out and takes Secure Boot for off.
        public var secureBoot: SecureBootState?
        /// Strings extended into PCR 11 while user space starts, in order.
        public var phases = BootPrediction.defaultPhases

        public init() {}
    }

    /// The phases of a running systemd (systemd-pcrphase.service(8)).
    public static let systemdPhases = ["enter-initrd", "leave-initrd", "sysinit", "ready"]
    /// systemd's, then the bootstrapper's own.
    public static let defaultPhases = systemdPhases + ["nacre-attestable"]
    /// Those that the initrd measures; the bootstrapper measures all others.
    static let initrdPhases: Set = ["enter-initrd", "leave-initrd"]

    /// EV_SEPARATOR with which firmware ends its part of a register.
    public static func separator(_ register: Register) -> PredictedEvent {
        PredictedEvent(register, .separator, "separator: the firmware hands over", [0, 0, 0, 0])
    }

    /// In the order of the boot; phases last.
    public let events: [PredictedEvent]
    /// Registers whose whole content `events` tells, including those that stay zero.
    public let predicted: Set<Register>
    /// For each register that cannot be told, the input that is missing.
    public let unpredicted: [Register: String]

    public init(_ inputs: Inputs) throws(ParseError) {
        var events: [PredictedEvent] = []
        var predicted: Set<Register> = []
        var missing: [Register: String] = [:]

        // Firmware up to the point where it hands over.
        if let volumes = inputs.firmware {
            if let own = volumes.events {
                events += own
                predicted.insert(.tpm(0))
            } else {
                missing[.tpm(0)] = "the firmware's version string, which this image does not show"
            }
            events += [2, 3, 6].map { Self.separator(.tpm($0)) }
            predicted.formUnion([.tpm(2), .tpm(3), .tpm(6)])
        } else {
            for index in [0, 2, 3] { missing[.tpm(index)] = "firmware image (--firmware)" }
        }
        missing[.tpm(1)] = "ACPI tables, SMBIOS and boot variables of the host"
        if let state = inputs.secureBoot {
            events += state.events
            predicted.insert(.tpm(7))
        } else {
            missing[.tpm(7)] = "variable store (--vars)"
        }

        guard let image = inputs.image else {
            for index in [4, 5, 9, 11, 12, 13, 15] { missing[.tpm(index)] = "disk or UKI" }
            if inputs.secureBoot?.isOn == true, predicted.remove(.tpm(7)) != nil {
                missing[.tpm(7)] = "disk or UKI, the certificate that admits it is measured"
            }
            (self.events, self.predicted, unpredicted) = (events, predicted, missing)
            return
        }
        let isSecure = inputs.secureBoot?.isOn ?? false
        if isSecure, let state = inputs.secureBoot {
            if let authority = try state.authorityEvent(for: image.image) {
                events.append(authority)
            } else {
                predicted.remove(.tpm(7))
                missing[.tpm(7)] = "a signature of the UKI by a certificate in db"
            }
        }

        let text = "Calling EFI Application from Boot Option"
        events.append(PredictedEvent(.tpm(4), .action, text, Array(text.utf8)))
        events += [Self.separator(.tpm(4)), Self.separator(.tpm(5))]
        if let gpt = inputs.gpt {
            events.append(PredictedEvent(.tpm(5), .gpt, "partition table of the disk", gpt.eventData))
        } else {
            missing[.tpm(5)] = "disk: the partition table is measured"
        }
        events.append(
            PredictedEvent(.tpm(4), .bootServicesApplication, "UKI", try image.image.authenticodeContents()))

        let sections = try image.contents(profile: inputs.profile)
        let stub = try StubEvents(sections: sections, profile: inputs.profile, companions: inputs.companions)
        events += stub.events
        let kernel = sections.first { $0.section == .linux }?.contents ?? ByteSource([])
        // With Secure Boot the stub stands in for the firmware's image check, which is what measures.
        if !isSecure {
            let inner = try PEImage(kernel).authenticodeContents()
            events.append(PredictedEvent(.tpm(4), .bootServicesApplication, "kernel in section .linux", inner))
        }
        predicted.formUnion([.tpm(4), .tpm(11), .tpm(12), .tpm(13), .tpm(15)])
        if isLinuxKernel(kernel) {
            events += kernelEvents(loadOptions: stub.loadOptions, initrd: stub.initrd)
            predicted.insert(.tpm(9))
        } else {
            missing[.tpm(9)] = "a Linux kernel in section .linux"
        }
        if missing[.tpm(5)] == nil { predicted.insert(.tpm(5)) }
        events += inputs.phases.map {
            PredictedEvent(.tpm(11), .phase, $0, Array($0.utf8))
        }
        (self.events, self.predicted, unpredicted) = (events, predicted, missing)
    }
}

extension BootPrediction {
    /// The same boot as a TDX guest without a TPM measures it: PCR 1 and 7 → RTMR 0, 2–6 → RTMR 1, 8–15 → RTMR 2
    /// (UEFI 2.10 §38.4.1). RTMR 0 holds host data; the initrd's phases go to a TPM only, those that the bootstrapper
    /// measures to RTMR 3.
    ///
    /// - Parameter events: with SHA-384 digests, without which nothing is predicted.
    func runtimeRegisters(_ events: [Event]) -> (events: [Event], unpredicted: [Register: String]) {
        var missing: [Register: String] = [.rtmr(0): "TD HOB, ACPI tables and boot variables of the host"]
        if !predicted.isSuperset(of: [.tpm(4), .tpm(5)]) { missing[.rtmr(1)] = unpredicted[.tpm(5)] ?? "disk or UKI" }
        if !predicted.isSuperset(of: [.tpm(9), .tpm(11), .tpm(12), .tpm(13)]) {
            missing[.rtmr(2)] = unpredicted[.tpm(9)] ?? "disk or UKI"
        }
        if events.contains(where: { $0.digests[.sha384] == nil }) {
            for index in 1...3 where missing[.rtmr(index)] == nil { missing[.rtmr(index)] = "bank sha384 (--bank)" }
        }
        var result: [Event] = []
        var hasSeparator = false
        for (event, prediction) in zip(events, self.events) {
            guard case .tpm(let index) = event.register, let digest = event.digests[.sha384] else { continue }
            let register: Register
            switch (index, prediction.type) {
            case (_, .phase):
                if Self.initrdPhases.contains(event.what) { continue }
                register = .rtmr(3)
            case (2...6, _): register = .rtmr(1)
            case (8...15, _): register = .rtmr(2)
            default: continue
            }
            // One separator per register, not one per PCR.
            if prediction.type == .separator {
                if hasSeparator || index != 4 { continue }
                hasSeparator = true
            }
            if missing[register] != nil { continue }
            result.append(Event(register: register, type: event.type, what: event.what, digests: [.sha384: digest]))
        }
        return (result, missing)
    }
}
