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
    /// What the TPM's vendor vouches for, once found.
    private let endorsement = Mutex<Evidence.EndorsementKey?>(nil)
    /// What register 15 shows since it was measured.
    private let cluster = Mutex<ClusterIdentity?>(nil)

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
        try tpm.withLock { tpm in
            try Self.extend(&tpm, platform, paths, phase, register: PhaseRecord.register, eventType: "phase")
        }
    }

    /// Extends the cluster into register 15 of every active bank, on TDX into RTMR 3, once: all evidence from then on
    /// names it. The same one again changes nothing; another one is an error, and so is a machine without a register.
    /// - Returns: names of the banks and registers extended; empty when it had been.
    public func measure(cluster identity: ClusterIdentity) throws -> [String] {
        try tpm.withLock { tpm in
            if let present = cluster.withLock({ $0 }) {
                guard present == identity else { throw EvidenceError("register 15 shows another cluster already") }
                return []
            }
            guard tpm != nil || platform.platform == .tdx else {
                throw EvidenceError("this machine has no register that could show its cluster")
            }
            let extended = try Self.extend(
                &tpm, platform, paths, identity.event, register: UInt8(ClusterIdentity.register),
                eventType: "nacre-cluster")
            cluster.withLock { $0 = identity }
            return extended
        }
    }

    private static func extend(
        _ tpm: inout TPMDevice?, _ platform: DetectedPlatform, _ paths: Paths, _ text: String, register: UInt8,
        eventType: String
    ) throws -> [String] {
        let data = Array(text.utf8)
        var extended: [String] = []
        if tpm != nil {
            let boot = try File.text(paths.bootID).filter { $0 != "-" }
            let log = try MeasurementLog(paths.userspaceLog)
            let digests = try tpm?.extend(register: Int(register), with: data) ?? []
            try log.append(
                PhaseRecord(
                    phase: text, register: register, eventType: eventType,
                    digests: digests.map { ($0.bank.rawValue, $0.digest) }, bootID: boot,
                    timestamp: BootClock.microseconds))
            extended = digests.map(\.bank.rawValue)
        }
        if platform.platform == .tdx {
            let system = RuntimeRegisters.system
            _ = try RuntimeRegisters(root: paths.runtimeRegisters).extend(system, with: data)
            extended.append("rtmr\(system)")
        }
        return extended
    }

    /// Creates the TPM's attestation key.
    /// - Returns: its TPM2B_PUBLIC; empty without a TPM.
    public func createKey() throws -> [UInt8] {
        try tpm.withLock { tpm in try tpm?.createAttestationKey() ?? [] }
    }

    /// Looks for an endorsement certificate in the TPM; all evidence from then on shows it.
    /// - Returns: the SHA-256 of the certificate; `nil` for a TPM without one, and without a TPM.
    public func findEndorsementKey() throws -> [UInt8]? {
        let found = try tpm.withLock { tpm in try tpm?.findEndorsementKey() }
        endorsement.withLock { endorsement in
            endorsement = found.map {
                Evidence.EndorsementKey(certificate: $0.certificate, chain: $0.chain, publicArea: $0.publicArea)
            }
        }
        return found.map { HashAlgorithm.sha256.hash($0.certificate) }
    }

    /// The answer to a verifier who wants to know that attestation key and endorsement key are in one TPM.
    /// - Throws: for a credential that was not made for these two, and on a machine without endorsement key.
    public func activate(_ request: ActivationRequest) throws -> [UInt8] {
        try tpm.withLock { tpm in
            guard let secret = try tpm?.activate(request.credential), let key = tpm?.attestationKey else {
                throw EvidenceError("this machine has no TPM")
            }
            return ActivationRequest.proof(secret, nonce: request.nonce, attestationKey: key)
        }
    }

    /// Evidence for `nonce`, 16 to 32 bytes.
    public func evidence(nonce: [UInt8]) throws -> Evidence {
        // Together, so that what the evidence says of the cluster is what the quote shows.
        let stages = stages.withLock { $0 }
        return try tpm.withLock { tpm in
            let quoted = try quote(&tpm, nonce: nonce)
            let tee = try report(nonce: nonce, key: tpm?.attestationKey ?? [])
            return Evidence(
                platform: platform.platform, nonce: nonce, tpm: quoted, tee: tee, cluster: cluster.withLock { $0 },
                stages: stages)
        }
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
            endorsementKey: endorsement.withLock { $0 }, registers: quoted.registers.values,
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
