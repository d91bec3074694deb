import Bytes
import Crypto
import TestKit
import Testing

@testable import TPM

@Suite struct EventLogTests {
    static let accepted = Vectors.cases("evlog").filter { $0.verdict == "accept" }
    static let confidential = Vectors.cases("ccel").filter { $0.verdict == "accept" }

    static func check(_ bytes: [UInt8], _ pcrs: PCRBank) throws -> EventLog {
        let log = try EventLog(parsing: bytes)
        try log.verify(replaysTo: pcrs)
        try log.verifyEventData()
        try log.verifySeparators()
        return log
    }

    @Test(arguments: accepted)
    func refusesEveryTruncation(_ vector: Vectors.Case) throws {
        let bytes = try vector.read("log")
        let pcrs = try PCRBank(parsing: vector.read("pcrs"))
        let ends = Set(try EventLog(parsing: bytes).events.map(\.offset))
        // A cut inside an event does not parse; one between two events does not replay.
        let stride = mutations(bytes.count, quick: 300)
        for count in bytes.indices where ends.contains(count) || count % max(1, bytes.count / stride) == 0 {
            let cut = Array(bytes.prefix(count))
            if ends.contains(count), count > 0 {
                #expect(throws: TPMError.self) { try EventLog(parsing: cut).verify(replaysTo: pcrs) }
            } else {
                let error = #expect(throws: ParseError.self) { try EventLog(parsing: cut) }
                #expect(error?.detail == "truncated")
            }
        }
    }

    /// Damage that is accepted may only lie in what no digest covers: it changes no digest, no order, no register and
    /// nothing that `bindsData` says is proved.
    @Test(arguments: accepted)
    func believesNothingThatAMutationChanged(_ vector: Vectors.Case) throws {
        let bytes = try vector.read("log")
        let pcrs = try PCRBank(parsing: vector.read("pcrs"))
        let original = try Self.check(bytes, pcrs)
        let secureBoot = try original.secureBoot()
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<mutations(quick: 100) {
            let changed = mutate(bytes, with: &generator)
            guard changed != bytes, let log = try? Self.check(changed, pcrs) else { continue }
            let judged = Set(pcrs.banks)
            func essence(_ log: EventLog) -> [String] {
                log.events.filter(\.isExtended).map { event in
                    let digests = event.digests.filter { judged.contains($0.key) }.sorted { $0.key.size < $1.key.size }
                    let data = event.type.bindsData ? Hex.encode(event.data) : ""
                    return "\(event.register) \(digests.map { Hex.encode($0.value) }) \(data)"
                }
            }
            let isTypeChanged = zip(log.events, original.events).contains { $0.type != $1.type }
            #expect(isTypeChanged || essence(log) == essence(original))
            let state = try log.secureBoot()
            #expect(isTypeChanged || state == secureBoot)
        }
    }

    @Test(arguments: confidential)
    func readsPaddedAreas(_ vector: Vectors.Case) throws {
        let bytes = try vector.read("log")
        let log = try EventLog(parsing: bytes, registers: .confidentialComputing)
        let end = (log.events.last?.offset ?? 0) + 1
        // The samples end with 256 bytes of 0xFF; what stands there may as well be zeros, or nothing, but not both.
        let bare = Array(bytes.prefix(max(end, bytes.count - 256)))
        for padding: UInt8 in [0, 0xFF] {
            let area = bare + [UInt8](repeating: padding, count: 4096)
            #expect(try EventLog(parsing: area, registers: .confidentialComputing) == log)
            #expect(throws: ParseError.self) {
                try EventLog(parsing: area + [1], registers: .confidentialComputing)
            }
        }
        #expect(throws: ParseError.self) { try EventLog(parsing: bytes + [0, 0]) }
    }

    @Test func explainsAnOwnBoot() throws {
        guard Vectors.root != nil else { return }
        let log = try EventLog(parsing: Vectors.read("tpm/boots/b2/log.bin"))
        let explanations = log.explain()
        #expect(explanations.count == log.events.count - 1)
        let words = explanations.map { "\($0.register) \($0.what)" }
        #expect(words.contains("pcr/7 end of the firmware's phase"))
        #expect(words.contains { $0.hasPrefix("pcr/4 application started from PciRoot(0x0)/") })
        #expect(words.contains("pcr/11 name of section .linux"))
        #expect(words.contains("pcr/11 contents of section .linux"))
        #expect(words.contains { $0.hasPrefix("pcr/5 partition table of disk ") })
        #expect(words.contains { $0.hasPrefix("pcr/7 UEFI variable SecureBoot") })
        #expect(explanations.filter { $0.type == "EV_SEPARATOR" }.allSatisfy { $0.isProved })
        #expect(explanations.filter { $0.type == "EV_EFI_VARIABLE_BOOT" }.allSatisfy { $0.isProved })
    }
}

/// Own logs: what the format forbids, and the rules on separators, localities and Secure Boot.
@Suite struct EventLogRulesTests {
    struct Builder {
        var writer = ByteWriter()

        init(algorithms: [(UInt16, UInt16)] = [(0x0B, 32)], vendor: [UInt8] = []) {
            var data = ByteWriter()
            data.append(Array("Spec ID Event03\0".utf8))
            data.zeros(4)
            data.append([0, 2, 0, 2] as [UInt8])
            data.le(UInt32(algorithms.count))
            for (identifier, size) in algorithms {
                data.le(identifier)
                data.le(size)
            }
            data.u8(UInt8(vendor.count))
            data.append(vendor)
            writer.le(UInt32(0))
            writer.le(EventType.noAction.rawValue)
            writer.zeros(20)
            writer.le(UInt32(data.bytes.count))
            writer.append(data.bytes)
        }

        mutating func event(_ register: UInt32, _ type: EventType, _ data: [UInt8], algorithm: UInt16 = 0x0B) {
            writer.le(register)
            writer.le(type.rawValue)
            writer.le(UInt32(1))
            writer.le(algorithm)
            writer.append(HashAlgorithm.sha256.hash(data))
            writer.le(UInt32(data.count))
            writer.append(data)
        }

        mutating func secureBoot(_ value: UInt8) {
            var data = ByteWriter()
            data.append(Hex.decode("61dfe48bca93d211aa0d00e098032b8c") ?? [])
            data.le(UInt64(10))
            data.le(UInt64(1))
            for character in "SecureBoot".utf8 { data.le(UInt16(character)) }
            data.u8(value)
            event(7, .variableDriverConfig, data.bytes)
        }

        mutating func separators(_ registers: ClosedRange<UInt32> = 0...7) {
            for register in registers { event(register, .separator, [0, 0, 0, 0]) }
        }

        func log(_ registers: EventLog.Registers = .tpm) throws -> EventLog {
            try EventLog(parsing: writer.bytes, registers: registers)
        }
    }

    func reason(_ body: () throws -> Void) -> String? {
        do {
            try body()
            return nil
        } catch let error as ParseError {
            return "log-\(error.detail)"
        } catch let error as TPMError {
            return error.finding.reason
        } catch { return "\(error)" }
    }

    /// Twice the same, of another size, unknown, none.
    @Test func refusesAlgorithms() {
        for algorithms: [(UInt16, UInt16)] in [[(0x0B, 32), (0x0B, 32)], [(0x0B, 20)], [(0x99, 32)], []] {
            #expect(reason { _ = try Builder(algorithms: algorithms).log() } == "log-algorithm")
        }
    }

    @Test func refusesRegistersBeyondTheTPM() {
        var builder = Builder()
        builder.event(24, .ipl, [1])
        #expect(reason { _ = try builder.log() } == "log-index")
        builder = Builder()
        builder.event(5, .ipl, [1])
        #expect(reason { _ = try builder.log(.confidentialComputing) } == "log-index")
        builder = Builder()
        builder.event(0, .ipl, [1])
        #expect(reason { _ = try builder.log(.confidentialComputing) } == "log-index")
    }

    @Test func startupLocalityMovesPCR0() throws {
        var builder = Builder()
        builder.event(0, .noAction, Array("StartupLocality\0".utf8) + [3])
        builder.event(0, .crtmVersion, [1, 2])
        let start = [UInt8](repeating: 0, count: 31) + [3]
        let value = HashAlgorithm.sha256.hash(start + HashAlgorithm.sha256.hash([1, 2]))
        #expect(try builder.log().replay(.sha256)[0] == value)
        builder.event(0, .noAction, Array("StartupLocality\0".utf8) + [3])
        #expect(reason { _ = try builder.log() } == "log-locality")
    }

    @Test func separatorsStandOnceEach() throws {
        var builder = Builder()
        builder.separators()
        try builder.log().verifySeparators()
        builder.event(4, .separator, [0, 0, 0, 0])
        #expect(reason { try builder.log().verifySeparators() } == "event-separator")
        builder = Builder()
        builder.separators(0...6)
        #expect(reason { try builder.log().verifySeparators() } == "event-separator")
        builder.event(7, .separator, [1, 0, 0, 0])
        #expect(reason { try builder.log().verifySeparators() } == "event-separator")
    }

    @Test func secureBootIsSaidOnceByTheFirmware() throws {
        var builder = Builder()
        #expect(try builder.log().secureBoot() == nil)
        builder.secureBoot(1)
        builder.separators()
        #expect(try builder.log().secureBoot() == true)
        builder.secureBoot(0)
        #expect(reason { _ = try builder.log().secureBoot() } == "event-secure-boot")
        builder = Builder()
        builder.separators()
        builder.secureBoot(1)
        #expect(reason { _ = try builder.log().secureBoot() } == "event-secure-boot")
    }

    @Test func dataThatBelongsToADigestIsChecked() throws {
        var builder = Builder()
        builder.event(4, .efiAction, Array("Calling EFI Application from Boot Option".utf8))
        var bytes = builder.writer.bytes
        bytes[bytes.count - 1] ^= 1
        #expect(reason { try EventLog(parsing: bytes).verifyEventData() } == "event-data")
    }

    @Test func limitsHoldBeforeAllocation() {
        var builder = Builder()
        for _ in 0..<EventLog.maximumEvents { builder.event(8, .ipl, []) }
        #expect(reason { _ = try builder.log() } == "log-limit")
        var header = Builder().writer
        header.le(UInt32(4))
        header.le(EventType.ipl.rawValue)
        header.le(UInt32.max)
        #expect(reason { _ = try EventLog(parsing: header.bytes) } == "log-digest-count")
        #expect(reason { _ = try EventLog(parsing: []) } == "log-truncated")
    }

    @Test func banksThatTheLogLacksAreNotReplayed() throws {
        var builder = Builder()
        builder.separators()
        var pcrs = PCRBank()
        pcrs[.sha384, 0] = [UInt8](repeating: 0, count: 48)
        #expect(reason { try builder.log().verify(replaysTo: pcrs) } == "replay-bank")
        pcrs = PCRBank()
        pcrs[.sha256, 9] = [UInt8](repeating: 1, count: 32)
        #expect(reason { try builder.log().verify(replaysTo: pcrs) } == "replay-mismatch")
        pcrs = PCRBank()
        pcrs[.sha256, 10] = [UInt8](repeating: 1, count: 32)
        #expect(try builder.log().verify(replaysTo: pcrs) == ["tpm/sha256/10"])
    }
}
