import Bytes
import TestKit
import Testing

@testable import TDX

/// Genuine and synthetic quotes of `shared/vectors`, by path.
let genuineQuotes: [String] = Vectors.cases("tdx").compactMap { $0.inputs["quote"]?.string }
    .filter { $0.hasPrefix("tdx/quotes/") }.uniqued

let wellFormedQuotes: [String] =
    genuineQuotes
    + ["synth/tdx/v5-td10.bin", "synth/tdx/v5-td15-relaunch.bin"]
    .filter { _ in !genuineQuotes.isEmpty }

extension Array where Element == String {
    var uniqued: [String] { Set(self).sorted() }
}

/// Intel "TDX DCAP Quoting Library API" §A.3, read strictly.
@Suite struct QuoteTests {
    @Test(arguments: wellFormedQuotes)
    func serializesToWhatItWasReadFrom(_ path: String) throws {
        let bytes = try Vectors.read(path)
        #expect(try Quote(parsing: bytes).serialize() == bytes)
    }

    @Test(arguments: wellFormedQuotes)
    func refusesEveryTruncation(_ path: String) throws {
        let bytes = try Vectors.read(path)
        for count in 0..<bytes.count {
            #expect(throws: ParseError.self, "\(count)") { try Quote(parsing: Array(bytes.prefix(count))) }
        }
    }

    @Test(arguments: wellFormedQuotes)
    func allowsOnlyZerosBehindTheSignature(_ path: String) throws {
        let bytes = try Vectors.read(path)
        let padded = try Quote(parsing: bytes + [UInt8](repeating: 0, count: 70))
        #expect(padded.padding == 70)
        #expect(throws: ParseError.self) { try Quote(parsing: bytes + [0, 1]) }
        #expect(throws: ParseError.self) {
            try Quote(parsing: bytes + [UInt8](repeating: 0, count: Quote.maximumSize))
        }
    }

    /// Offset, bytes to put there, and the detail of the refusal, on a version 4 quote.
    static let damages: [(Int, [UInt8], String)] = [
        (0, [3, 0], "version"), (0, [6, 0], "version"), (2, [3, 0], "key-type"), (4, [0], "tee-type"),
        (12, [0], "qe-vendor"), (632, [0xFF, 0xFF, 0xFF, 0xFF], "length"), (632, [0, 0, 0, 0], "length"),
        (764, [5], "certification-type"), (766, [0xFF, 0xFF, 0xFF, 0xFF], "length"), (766, [0], "length"),
        (1218, [0xFF, 0xFF], "length"), (1252, [1], "certification-type"), (1254, [0], "length"),
    ]

    @Test(arguments: damages.indices)
    func refusesDamagedStructure(_ index: Int) throws {
        guard let path = genuineQuotes.first(where: { $0.contains("v4-phala") }) else { return }
        let (offset, replacement, detail) = Self.damages[index]
        var bytes = try Vectors.read(path)
        bytes.replaceSubrange(offset..<offset + replacement.count, with: replacement)
        let error = #expect(throws: ParseError.self) { try Quote(parsing: bytes) }
        #expect(error?.detail == detail)
    }
}
