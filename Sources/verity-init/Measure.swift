import Bytes
import CLinux
import Glibc
import Linux
import MeasuredPhase

extension InitrdBoot {
    /// Finds the TPM, waiting for it only where the firmware says that there is one.
    ///
    /// A machine without any TPM (a TDX guest without a vTPM) goes on: its register 11 is in nobody's quote, so
    /// evidence from it lacks what the manifest names and is rejected by whoever judges it. A host that hides the ACPI
    /// table of a TPM that firmware has measured into gains nothing either: the phases are then missing from register
    /// 11, which is as good as a wrong value.
    mutating func findTPM() throws {
        let paths = ["/dev/tpmrm0", "/dev/tpm0"]
        func present() -> String? { paths.first { File.exists($0) } }
        let announced =
            File.exists("/sys/firmware/acpi/tables/TPM2")
            || (try? File.names(in: "/sys/class/tpm").isEmpty) == false
        if announced { try wait(for: "the TPM that the firmware announces") { present() != nil } }
        tpm = present()
        if tpm == nil { Console.log("this machine has no TPM: boot phases are not measured") }
    }

    /// Extends `phase` into register 11 of every active bank and records it.
    func measure(_ phase: String) throws {
        guard let tpm else { return }
        let device = try File(tpm, O_RDWR)
        func transmit(_ command: [UInt8]) throws(SystemError) -> [UInt8] {
            try device.write(command)
            return try device.read(TPMAnswer.maximumSize)
        }
        let register = PhaseRecord.register
        let active = try TPMAnswer.activeBanks(try transmit(TPMCommand.registerBanks), holding: register)
        guard !active.isEmpty else { throw Failure("\(tpm) has no active bank") }
        let bootID = try File.text("/proc/sys/kernel/random/boot_id").filter { $0 != "-" }

        let log = try MeasurementLog()
        let answer = try transmit(try TPMCommand.event(register: register, data: Array(phase.utf8)))
        let extended = try TPMAnswer.eventDigests(answer)
        var digests: [(bank: String, digest: [UInt8])] = []
        for bank in active {
            guard let digest = extended.first(where: { $0.bank == bank })?.digest else {
                throw Failure("\(tpm) did not extend its bank 0x\(String(bank.algorithm, radix: 16))")
            }
            if let name = bank.name { digests.append((name, digest)) }
        }
        try log.append(
            PhaseRecord(phase: phase, digests: digests, bootID: bootID, timestamp: BootClock.microseconds))
    }
}
