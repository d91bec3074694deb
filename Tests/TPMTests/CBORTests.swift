import Bytes
import Testing

@testable import TPM

/// RFC 8949 Appendix A, as far as attestation documents use it, and what strictness refuses.
@Suite struct CBORTests {
    static let examples: [(String, CBOR)] = [
        ("00", .integer(0)), ("17", .integer(23)), ("1818", .integer(24)), ("1903e8", .integer(1000)),
        ("1a000f4240", .integer(1_000_000)), ("1b000000e8d4a51000", .integer(1_000_000_000_000)), ("20", .integer(-1)),
        ("3903e7", .integer(-1000)), ("3822", .integer(-35)), ("f4", .bool(false)), ("f5", .bool(true)), ("f6", .null),
        ("40", .bytes([])), ("4401020304", .bytes([1, 2, 3, 4])), ("6449455446", .text("IETF")),
        ("80", .array([])),
        (
            "8301820203820405",
            .array([.integer(1), .array([.integer(2), .integer(3)]), .array([.integer(4), .integer(5)])])
        ),
        ("a201020304", .map([.integer(1): .integer(2), .integer(3): .integer(4)])),
        ("c11a514b67b0", .tagged(1, .integer(1_363_896_240))), ("1b7fffffffffffffff", .integer(.max)),
        ("3b7fffffffffffffff", .integer(.min)),
    ]

    @Test(arguments: examples)
    func readsAndWritesTheExamples(_ hex: String, _ value: CBOR) throws {
        let bytes = try #require(Hex.decode(hex))
        #expect(try CBOR(parsing: bytes) == value)
        #expect(value.encoded == bytes)
        for count in bytes.indices {
            #expect(throws: ParseError.self) { try CBOR(parsing: Array(bytes.prefix(count))) }
        }
        #expect(throws: ParseError.self) { try CBOR(parsing: bytes + [0]) }
    }

    /// Not shortest, indefinite, floating point, duplicate key, beyond 63 bits, not UTF-8, count beyond the input, deep.
    @Test(arguments: [
        "1817", "190017", "1a0000ffff", "1b00000000ffffffff", "9f01ff", "5f4101ff", "f90000", "fb3ff199999999999a",
        "a201020103", "1b8000000000000000", "61ff", "9a00010000", "9bffffffffffffffff", "5bffffffffffffffff",
        "f7", "f8ff", "818181818181818100",
    ])
    func refuses(_ hex: String) throws {
        let bytes = try #require(Hex.decode(hex))
        #expect(throws: ParseError.self) { try CBOR(parsing: bytes) }
    }
}
