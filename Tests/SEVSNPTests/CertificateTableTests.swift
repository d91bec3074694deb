import Bytes
import Crypto
import SEVSNP
import TestKit
import Testing

/// GHCB specification, certificate table of an extended report.
@Suite struct CertificateTableTests {
    static let table = CertificateTable(entries: [
        .init(name: .vcek, contents: [1, 2, 3]), .init(name: .ask, contents: []),
        .init(name: .other("00112233-4455-6677-8899-aabbccddeeff"), contents: Array(0..<40)),
    ])

    @Test func roundTrip() throws {
        let blob = Self.table.serialize()
        let table = try CertificateTable(blob)
        #expect(table == Self.table)
        #expect(table[.vcek] == [1, 2, 3] && table[.crl] == nil)
        #expect(table.entries.map(\.name.description) == ["vcek", "ask", "00112233-4455-6677-8899-aabbccddeeff"])
        #expect(Hex.encode(blob.prefix(4)) == "63da758d", "GUIDs stand in text order")
        #expect(try CertificateTable(blob + [UInt8](repeating: 0, count: 4096)) == Self.table, "pages are padded")
    }

    @Test func truncatedAtEveryByteIsRefused() {
        let blob = Self.table.serialize()
        for count in 0..<blob.count {
            let reason = reason { _ = try CertificateTable(Array(blob.prefix(count))) }
            #expect(reason == (count < 4 * 24 ? "parse-length" : "parse-range"), "\(count) bytes")
        }
    }

    /// {offset, length} of one entry in a blob of 64 bytes whose table ends at 48.
    @Test(
        arguments: [
            (48, 16, "accepted"), (64, 0, "accepted"), (48, 17, "parse-range"), (47, 1, "parse-range"),
            (0, 4, "parse-range"), (65, 0, "parse-range"), (0xFFFF_FFFF, 1, "parse-range"),
            (0xFFFF_FFF0, 0x40, "parse-range"), (48, 0xFFFF_FFFF, "parse-range"),
            (0x8000_0000, 0x8000_0030, "parse-range"),
        ] as [(UInt32, UInt32, String)])
    func ranges(_ offset: UInt32, _ length: UInt32, _ expected: String) {
        var writer = ByteWriter()
        writer.append(Hex.decode("63da758de6644564adc5f4b93be8accd") ?? [])
        writer.le(offset)
        writer.le(length)
        writer.zeros(24 + 16)
        #expect(reason { _ = try CertificateTable(writer.bytes) } == expected)
    }

    @Test func formsThatAreRefused() {
        let entry = Array(Self.table.serialize().prefix(24))
        let end = [UInt8](repeating: 0, count: 24)
        #expect(reason { _ = try CertificateTable([]) } == "parse-length")
        #expect(reason { _ = try CertificateTable(end) } == "accepted")
        #expect(reason { _ = try CertificateTable(entry + entry + end + end) } == "parse-form", "a GUID twice")
        #expect(reason { _ = try CertificateTable(Array(end.dropLast()) + [1]) } == "parse-form", "closing entry")
        #expect(reason { _ = try CertificateTable([UInt8](repeating: 0, count: 1 << 20 + 1)) } == "parse-length")
        var many: [UInt8] = []
        for index in 1...65 { many += [UInt8](repeating: UInt8(index), count: 16) + [UInt8](repeating: 0, count: 8) }
        #expect(reason { _ = try CertificateTable(many + end) } == "parse-form", "65 entries")
    }

    /// Sixty-four entries over the same megabyte would be 64 MiB of copies.
    @Test func overlappingEntriesAreBounded() {
        var writer = ByteWriter()
        for index in 1...3 {
            writer.append([UInt8](repeating: UInt8(index), count: 16))
            writer.le(UInt32(96))
            writer.le(UInt32(400_000))
        }
        writer.zeros(24 + 400_000)
        #expect(reason { _ = try CertificateTable(writer.bytes) } == "parse-length")
    }

    @Test func randomDamageNeverCrashes() {
        var generator = SeededGenerator(seed: 5)
        var blob = Self.table.serialize()
        for round in 0..<mutations(20_000, quick: 5_000) {
            if round % 50 == 0 { blob = Self.table.serialize() }
            blob = mutate(blob, with: &generator)
            _ = try? CertificateTable(blob)
        }
    }

    /// Both forms of contents occur: DER from AWS, PEM from Google and QEMU hosts.
    @Test func certificatesAreReadAsDERAndPEM() throws {
        let der = Sample.shipped.vek
        let key = try EndorsementKey(der)
        #expect(try EndorsementKey(Array(key.certificate.pem.utf8)).certificate.der == der)
    }
}
