import Attestation
import Bytes
import CLinux
import Crypto
import Glibc
import Linux
import MeasuredPhase
import Synchronization
import TPM
import TPMDevice

/// Why evidence was not made.
public struct EvidenceError: Error, Equatable, Sendable, CustomStringConvertible {
    public let description: String
    init(_ description: String) { self.description = description }
}

/// Makes evidence on this machine: the one owner of its TPM and of its hardware reports.
public final class EvidenceSource: Sendable {
    /// Where a machine keeps what goes into evidence.
    public struct Paths: Sendable {
        /// TCG log of firmware and stub.
        public var firmwareLog = "/sys/kernel/security/tpm0/binary_bios_measurements"
        public var userspaceLog = PhaseRecord.logPath
        /// CC event log, where the firmware left one.
        public var ccEventLog = "/sys/firmware/acpi/tables/data/CCEL"
        public var bootID = "/proc/sys/kernel/random/boot_id"
        /// TDX's runtime registers.
        public var runtimeRegisters = RuntimeRegisters.standardRoot
        public init() {}
    }

    /// The registers quoted: firmware's, the stub's, the system's. 16 and above are for debugging and dynamic launch.
    static let registers = 0...15

    public let platform: DetectedPlatform
    private let paths: Paths
    private let issuer: TSMIssuer
    /// One at a time: ESYS is not thread-safe, and a TPM does one thing at a time anyway.
    private let tpm: Mutex<TPMDevice?>
    private let stages = Mutex<[Evidence.Stage]>([])

    /// - Parameter tpm: `nil` on a confidential machine without one.
    public init(
        platform: DetectedPlatform, tpm: consuming TPMDevice?, issuer: TSMIssuer = TSMIssuer(), paths: Paths = Paths()
    ) {
        self.platform = platform
        self.tpm = Mutex(tpm)
        self.issuer = issuer
        self.paths = paths
    }

    /// Timings to hand out with every piece of evidence.
    public func publish(_ stages: [Evidence.Stage]) { self.stages.withLock { $0 = stages } }

    /// Extends `phase` into register 11 of every active bank and records it in systemd's log; on TDX into RTMR 3 as well,
    /// so that the hardware's own registers tell it too. What cannot be extended is an error, and nothing further happens.
    /// - Returns: names of the banks and registers extended; empty on a machine that has none.
    public func measure(phase: String) throws -> [String] {
        let data = Array(phase.utf8)
        return try tpm.withLock { tpm in
            var extended: [String] = []
            if tpm != nil {
                let boot = try File.text(paths.bootID).filter { $0 != "-" }
                let log = try MeasurementLog(paths.userspaceLog)
                let digests = try tpm?.extend(register: Int(PhaseRecord.register), with: data) ?? []
                try log.append(
                    PhaseRecord(
                        phase: phase, digests: digests.map { ($0.bank.rawValue, $0.digest) }, bootID: boot,
                        timestamp: BootClock.microseconds))
                extended = digests.map(\.bank.rawValue)
            }
            if platform.platform == .tdx {
                let register = RuntimeRegisters.system
                _ = try RuntimeRegisters(root: paths.runtimeRegisters).extend(register, with: data)
                extended.append("rtmr\(register)")
            }
            return extended
        }
    }

    /// Creates the TPM's attestation key.
    /// - Returns: its TPM2B_PUBLIC; empty without a TPM.
    public func createKey() throws -> [UInt8] {
        try tpm.withLock { tpm in try tpm?.createAttestationKey() ?? [] }
    }

    /// Evidence for `nonce`, 16 to 32 bytes.
    public func evidence(nonce: [UInt8]) throws -> Evidence {
        let (key, quoted) = try tpm.withLock { tpm in
            (tpm?.attestationKey ?? [], try quote(&tpm, nonce: nonce))
        }
        let stages = stages.withLock { $0 }
        return Evidence(
            platform: platform.platform, nonce: nonce, tpm: quoted, tee: try report(nonce: nonce, key: key),
            stages: stages)
    }

    /// One quote over every active SHA-2 bank, with the logs that lead to the values quoted.
    private func quote(_ tpm: inout TPMDevice?, nonce: [UInt8]) throws -> Evidence.TPMEvidence? {
        guard tpm != nil else { return nil }
        let banks = try (tpm?.activeBanks() ?? []).filter { $0.hash != .sha1 }.map { bank in
            PCRSelection(hash: bank.hash, indices: bank.indices.filter { Self.registers.contains($0) })
        }
        guard !banks.isEmpty else { throw EvidenceError("the TPM has no active SHA-2 bank") }
        // Under the log's lock nobody is between extending a register and recording it: what is quoted here is what the
        // log tells.
        let log = try LockedLog(paths.userspaceLog)
        guard let quoted = try tpm?.quote(nonce: nonce, banks) else { return nil }
        return Evidence.TPMEvidence(
            attest: quoted.attest, signature: quoted.signature, attestationKey: tpm?.attestationKey ?? [],
            registers: quoted.registers.values,
            eventLog: try File.contents(paths.firmwareLog, limit: EventLog.maximumSize),
            userspaceLog: try log.contents(limit: UserspaceLog.maximumSize))
    }

    /// A hardware report bound to the nonce and to the TPM's key; `nil` on machines without such hardware.
    private func report(nonce: [UInt8], key: [UInt8]) throws -> Evidence.TEEEvidence? {
        let data = Evidence.reportData(nonce: nonce, attestationKey: key)
        guard let report = try platform.report(data: data, issuer: issuer) else { return nil }
        let log =
            File.exists(paths.ccEventLog) ? try File.contents(paths.ccEventLog, limit: EventLog.maximumSize) : []
        return Evidence.TEEEvidence(report: report.report, auxiliary: report.auxiliary, eventLog: log)
    }
}

/// systemd's log, locked against writers for as long as this lives; absent where nothing was measured yet.
private struct LockedLog: ~Copyable {
    private let file: File?

    init(_ path: String) throws(SystemError) {
        guard File.exists(path) else {
            file = nil
            return
        }
        let opened = try File(path, O_RDONLY | O_NOFOLLOW)
        guard flock(opened.descriptor, LOCK_SH) == 0 else { throw .last("lock \(path)") }
        file = consume opened
    }

    func contents(limit: Int) throws(SystemError) -> [UInt8] { try file?.readAll(limit: limit) ?? [] }
}
