import Bytes
import Crypto
import TestKit
import Testing

@testable import TPM

/// `/run/log/systemd/tpm2-measure.log`: records between RS and LF.
@Suite struct UserspaceLogTests {
    static func record(_ pcr: Int, _ text: String, _ type: String, digest: [UInt8]? = nil) -> [UInt8] {
        let digest = digest ?? HashAlgorithm.sha256.hash(Array(text.utf8))
        let json = JSON.fields([
            "pcr": .integer(Int128(pcr)),
            "digests": .array([.fields(["hashAlg": "sha256", "digest": .hex(digest)])]),
            "content_type": "systemd",
            "content": .fields([
                "string": .string(text), "bootId": "00000000000000000000000000000000", "timestamp": 1,
                "eventType": .string(type),
            ]),
        ])
        return [0x1E] + Array(json.compact.utf8) + [0x0A]
    }

    static let sample =
        record(11, "enter-initrd", "phase") + record(11, "leave-initrd", "phase")
        + record(15, "machine-id:0123", "machine-id")
        + record(15, "cryptsetup:root:1", "volume-key", digest: [UInt8](repeating: 9, count: 32))

    @Test func replaysOnTopOfTheFirmwareLog() throws {
        let log = try UserspaceLog(parsing: Self.sample)
        #expect(log.records.map(\.pcr) == [11, 11, 15, 15])
        #expect(log.records.map(\.textMatchesDigests) == [true, true, true, false])
        #expect(log.explain().map(\.what).first == "boot phase enter-initrd")
        var builder = EventLogRulesTests.Builder()
        builder.event(11, .ipl, [1])
        let firmware = try builder.log()
        var expected = try #require(firmware.replay(.sha256)[11])
        for phase in ["enter-initrd", "leave-initrd"] {
            expected = HashAlgorithm.sha256.hash(expected + HashAlgorithm.sha256.hash(Array(phase.utf8)))
        }
        let values = firmware.replay(.sha256, userspace: log)
        #expect(values[11] == expected)
        var pcrs = PCRBank()
        pcrs[.sha256, 11] = expected
        pcrs[.sha256, 15] = values[15]
        #expect(try firmware.verify(replaysTo: pcrs, userspace: log) == [])
        #expect(throws: TPMError.self) { try firmware.verify(replaysTo: pcrs) }
    }

    @Test func isEmptyWhereNothingWasMeasured() throws {
        #expect(try UserspaceLog(parsing: []).records.isEmpty)
    }

    @Test func refusesEveryTruncation() throws {
        var ends: Set<Int> = [0]
        for (index, byte) in Self.sample.enumerated() where byte == 0x0A { ends.insert(index + 1) }
        for count in Self.sample.indices where !ends.contains(count) {
            #expect(throws: ParseError.self) { try UserspaceLog(parsing: Array(Self.sample.prefix(count))) }
        }
    }

    @Test(arguments: [
        #"{"pcr":24,"digests":[{"hashAlg":"sha256","digest":"00"}],"content_type":"systemd","content":{}}"#,
        #"{"pcr":1,"digests":[],"content_type":"systemd","content":{}}"#,
        #"{"pcr":1,"digests":[{"hashAlg":"sha256","digest":"00"}],"content_type":"systemd","content":{}}"#,
        #"{"pcr":1,"digests":[{"hashAlg":"md5","digest":"00"}],"content_type":"systemd","content":{}}"#,
        #"{"pcr":1,"content_type":"systemd","content":{}}"#,
        #"[]"#, #""#,
    ])
    func refusesOtherRecords(_ text: String) {
        #expect(throws: ParseError.self) { try UserspaceLog(parsing: [0x1E] + Array(text.utf8) + [0x0A]) }
        #expect(throws: ParseError.self) { try UserspaceLog(parsing: Array(text.utf8) + [0x0A]) }
    }

    @Test func refusesUnknownFieldsAndBanksThatItLacks() throws {
        let text = String(decoding: Self.record(11, "ready", "phase"), as: UTF8.self)
        let other = text.replacing("{\"content\":", with: "{\"surprise\":1,\"content\":")
        #expect(other != text)
        #expect(throws: ParseError.self) { try UserspaceLog(parsing: Array(other.utf8)) }
        let log = try UserspaceLog(parsing: Array(text.utf8))
        var pcrs = PCRBank()
        pcrs[.sha384, 11] = [UInt8](repeating: 0, count: 48)
        let firmware = try EventLogRulesTests.Builder(algorithms: [(0x0C, 48)]).log()
        #expect(throws: TPMError.self) { try firmware.verify(replaysTo: pcrs, userspace: log) }
    }
}
