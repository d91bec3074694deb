import Bytes
import Crypto

extension EventLog {
    /// The value that `register` has before the first event.
    public func start(_ bank: HashAlgorithm, _ register: Int) -> [UInt8] {
        Self.start(bank, register, registers, startupLocality)
    }

    fileprivate static func start(
        _ bank: HashAlgorithm, _ register: Int, _ registers: Registers, _ startupLocality: UInt8
    ) -> [UInt8] {
        guard registers == .tpm else { return [UInt8](repeating: 0, count: bank.size) }
        var value = PCRBank.start(bank, register)
        if register == 0, let last = value.indices.last { value[last] = startupLocality }
        return value
    }

    /// What the events extend the registers of one bank to: PCR = H(PCR ‖ digest).
    ///
    /// - Parameters:
    ///   - bank: one of `algorithms`; otherwise nothing is extended and the result is empty.
    ///   - userspace: events of the running system, extended after the firmware's.
    /// - Returns: register → value, for registers that an event extends.
    public func replay(_ bank: HashAlgorithm, userspace: UserspaceLog? = nil) -> [Int: [UInt8]] {
        var values: [Int: [UInt8]] = [:]
        func extend(_ register: Int, _ digest: [UInt8]) {
            values[register] = bank.hash((values[register] ?? start(bank, register)) + digest)
        }
        for event in events where event.isExtended {
            guard let digest = event.digests[bank] else { continue }
            extend(event.register, digest)
        }
        for record in userspace?.records ?? [] {
            guard let digest = record.digests[bank] else { continue }
            extend(record.pcr, digest)
        }
        return values
    }

    /// Every bank's replay.
    public func replay(userspace: UserspaceLog? = nil) -> PCRBank {
        var values = PCRBank()
        for bank in algorithms {
            for (index, value) in replay(bank, userspace: userspace) { values[bank, index] = value }
        }
        return values
    }

    /// Refuses a log whose replay does not give `pcrs`; see `LogReplay.verify`.
    @discardableResult
    public func verify(replaysTo pcrs: PCRBank, userspace: UserspaceLog? = nil) throws(TPMError) -> [String] {
        try LogReplay(self, userspace: userspace).verify(replaysTo: pcrs)
    }
}

/// What the logs of one boot extend the registers to: all that comparing them with register values needs of them.
public struct LogReplay: Sendable {
    /// Register values, of those that an event extends.
    public let values: PCRBank
    /// The banks that the firmware's log carries.
    public let algorithms: [HashAlgorithm]
    public let firmwareEvents: Int
    public let userspaceRecords: Int
    /// Banks in which a record of the userspace log has no digest.
    private let incomplete: Set<HashAlgorithm>
    private let registers: EventLog.Registers
    private let startupLocality: UInt8

    public init(_ log: EventLog, userspace: UserspaceLog?) {
        values = log.replay(userspace: userspace)
        algorithms = log.algorithms
        firmwareEvents = log.events.count
        userspaceRecords = userspace?.records.count ?? 0
        incomplete = Set(
            log.algorithms.filter { bank in userspace?.records.contains { $0.digests[bank] == nil } ?? false })
        registers = log.registers
        startupLocality = log.startupLocality
    }

    /// Registers that lie outside what a firmware log can explain: 10 belongs to the kernel's IMA, 16–23 to debugging,
    /// dynamic launch and applications. With no event in the log they are left unchecked, never taken as proved.
    static let foreignRegisters: Set<Int> = [10, 16, 17, 18, 19, 20, 21, 22, 23]

    /// Refuses a replay that does not give `pcrs`, in every bank and register that `pcrs` holds. A register without
    /// events must have its start value.
    ///
    /// - Returns: claims of registers that no log explains (`foreignRegisters` with another value than at start).
    /// - Throws: `replay-bank` for a bank that the log does not carry, `replay-mismatch`.
    public func verify(replaysTo pcrs: PCRBank) throws(TPMError) -> [String] {
        for bank in pcrs.banks {
            guard algorithms.contains(bank) else {
                throw TPMError(
                    Finding(
                        "replay-bank", claim: "tpm/\(bank.rawValue)", expected: "events with \(bank.rawValue) digests",
                        actual: "a log of \(algorithms.map(\.rawValue).joined(separator: ", "))",
                        source: "the list of register values"))
            }
            guard !incomplete.contains(bank) else {
                throw TPMError(
                    Finding(
                        "replay-bank", claim: "tpm/\(bank.rawValue)",
                        expected: "a \(bank.rawValue) digest in every record of the userspace log",
                        actual: "one without",
                        source: "the list of register values"))
            }
        }
        var unexplained: [String] = []
        for (bank, index, value) in pcrs.sorted {
            let replayed = values[bank, index]
            let expected = replayed ?? EventLog.start(bank, index, registers, startupLocality)
            if constantTimeEqual(expected, value) { continue }
            let claim = PCRBank.claim(bank, index)
            guard replayed == nil, Self.foreignRegisters.contains(index) else {
                throw TPMError(
                    Finding(
                        "replay-mismatch", claim: claim, expected: Hex.encode(value), actual: Hex.encode(expected),
                        source: "the register's value; found: what the log's events extend to",
                        next: "an event is missing, added, changed or out of order; read the log again"))
            }
            unexplained.append(claim)
        }
        return unexplained
    }
}
