import Bytes
import Crypto
import Glibc
import Linux
import TestKit
import Testing

@testable import MeasuredPhase

@Suite("TPM commands of the initrd")
struct TPMCommandTests {
    @Test("have the bytes of TPM 2.0 Part 3")
    func bytes() throws {
        #expect(
            Hex.encode(try TPMCommand.event(register: 11, data: Array("ab".utf8)))
                == "80020000001f" + "0000013c" + "0000000b" + "00000009" + "40000009" + "0000" + "00" + "0000" + "0002"
                + "6162")
        #expect(Hex.encode(TPMCommand.registerBanks) == "8001000000160000017a000000050000000000000001")
        #expect(throws: ParseError.self) {
            try TPMCommand.event(register: 11, data: [UInt8](repeating: 0, count: 1025))
        }
        #expect(throws: ParseError.self) { try TPMCommand.event(register: 24, data: []) }
    }

    @Test("extend every active bank of a real TPM with the phase's own bytes")
    func extend() throws {
        guard let tpm = try SoftwareTPM(banks: "sha256,sha384"), let reader = Tool.find("tpm2_pcrread") else { return }
        let banks = try TPMAnswer.activeBanks(try tpm.transmit(TPMCommand.registerBanks), holding: 11)
        #expect(banks.map(\.name) == ["sha256", "sha384"])

        let phase = Array("enter-initrd".utf8)
        let answer = try tpm.transmit(try TPMCommand.event(register: 11, data: phase))
        let digests = try TPMAnswer.eventDigests(answer)
        for bank in banks {
            let name = try #require(bank.name)
            let algorithm = try #require(HashAlgorithm(rawValue: name))
            let digest = try #require(digests.first { $0.bank == bank }?.digest)
            #expect(digest == algorithm.hash(phase))
            let value = algorithm.hash([UInt8](repeating: 0, count: algorithm.size) + digest)
            let read = try Tool.run([reader, "-T", tpm.tcti, "\(name):11"]).text
            #expect(read.lowercased().contains("0x" + Hex.encode(value)))
        }
    }

    @Test("report a refusal with the TPM's code")
    func refusal() {
        let answer = Hex.decode("80010000000a00000921") ?? []
        #expect(throws: TPMRefusal(command: "TPM2_PCR_Event", code: 0x921)) { try TPMAnswer.eventDigests(answer) }
    }

    @Test("read answers strictly: no length and no flipped bit makes them trap")
    func mutationsNeverCrash() throws {
        let digest = String(repeating: "11", count: 32)
        let event = Hex.decode(
            "8002" + "00000039" + "00000000" + "00000026" + "00000001" + "000b" + digest + "0000010000")
        let banks = Hex.decode("8001" + "00000019" + "00000000" + "00" + "00000005" + "00000001" + "000b03" + "ffffff")
        let answers = [try #require(event), try #require(banks)]
        #expect(try TPMAnswer.eventDigests(answers[0]).map(\.bank.name) == ["sha256"])
        #expect(try TPMAnswer.activeBanks(answers[1], holding: 11).map(\.name) == ["sha256"])
        #expect(try TPMAnswer.activeBanks(answers[1], holding: 200).isEmpty)
        for answer in answers {
            for count in 0..<answer.count {
                #expect(throws: (any Error).self) { try TPMAnswer.eventDigests(Array(answer.prefix(count))) }
                #expect(throws: (any Error).self) {
                    try TPMAnswer.activeBanks(Array(answer.prefix(count)), holding: 11)
                }
            }
            var generator = SeededGenerator(seed: 1)
            for _ in 0..<mutations(20_000, quick: 5_000) {
                let bytes = mutate(answer, with: &generator)
                _ = try? TPMAnswer.eventDigests(bytes)
                _ = try? TPMAnswer.activeBanks(bytes, holding: 11)
            }
        }
    }
}

@Suite("Userspace measurement log")
struct MeasurementLogTests {
    static let record = PhaseRecord(
        phase: "enter-initrd", digests: [("sha256", [UInt8](repeating: 1, count: 32))], bootID: "00ff", timestamp: 42)

    @Test("has records in systemd's form")
    func form() throws {
        let bytes = Self.record.bytes
        #expect(bytes.first == 0x1E)
        #expect(bytes.last == 0x0A)
        let json = try JSON(parsing: Array(bytes.dropFirst().dropLast()))
        #expect(json["pcr"]?.integer == 11)
        #expect(json["content_type"]?.string == "systemd")
        #expect(json["content"]?["eventType"]?.string == "phase")
        #expect(json["content"]?["string"]?.string == "enter-initrd")
        #expect(json["digests"]?.array?.first?["hashAlg"]?.string == "sha256")
        #expect(json["digests"]?.array?.first?["digest"]?.string == String(repeating: "01", count: 32))
    }

    @Test("is created private, appended to, and refused after a writer that died half-way")
    func protocolOfSystemd() throws {
        let folder = try TemporaryFolder()
        let path = "\(folder.path)/run/log/systemd/measure.log"
        func mode() throws -> mode_t {
            var status = stat()
            try #require(unsafe stat(path, &status) == 0)
            return status.st_mode & 0o7777
        }
        for count in 1...2 {
            let log = try MeasurementLog(path)
            #expect(try mode() == 0o1600)
            try log.append(Self.record)
            #expect(try mode() == 0o600)
            #expect(try readFile(path).count == count * Self.record.bytes.count)
        }
        do { _ = try MeasurementLog(path) }
        #expect(try mode() == 0o1600)
        let error = #expect(throws: SystemError.self) { _ = try MeasurementLog(path) }
        #expect(error?.code == ESTALE)
    }
}
