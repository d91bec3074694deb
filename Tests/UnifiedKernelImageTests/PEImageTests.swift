import Bytes
import TestKit
import Testing

@testable import UnifiedKernelImage

@Suite struct PEImageTests {
    static let sections = [
        PEBuilder.Section(".text", [1, 2, 3]), PEBuilder.Section(".data", [UInt8](repeating: 9, count: 600)),
    ]
    /// Offset of CheckSum and of the certificate table's directory entry in images of the builder.
    static let checksum = 64 + 24 + 64
    static let certificateEntry = 64 + 24 + 112 + 32

    @Test func regionsAreThoseOfTheSpecification() throws {
        let image = PEBuilder.image(Self.sections, certificates: [UInt8](repeating: 5, count: 16), tail: [7, 7])
        let regions = try PEImage(ByteSource(image)).authenticodeRegions()
        let after = 4096 + 512 + 1024
        #expect(
            regions == [
                0..<Self.checksum, Self.checksum + 4..<Self.certificateEntry, Self.certificateEntry + 8..<4096,
                4096..<4096 + 512, 4096 + 512..<after, after..<after + 2,
            ])
    }

    @Test func signingAndChecksumChangeNothingThatIsHashed() throws {
        let plain = PEBuilder.image(Self.sections)
        var signed = PEBuilder.image(Self.sections, certificates: [UInt8](repeating: 5, count: 24))
        signed[Self.checksum] ^= 0xFF
        let hashed = try [plain, signed].map {
            try PEImage(ByteSource($0)).authenticodeContents().readAll(limit: 1 << 20, "image")
        }
        #expect(hashed[0] == hashed[1])
    }

    @Test func everyOtherByteIsHashed() throws {
        let plain = PEBuilder.image(Self.sections, tail: [1])
        let image = try PEImage(ByteSource(plain))
        let covered = try image.authenticodeRegions().reduce(into: Set<Int>()) { $0.formUnion($1) }
        let left = Set(plain.indices).subtracting(covered)
        #expect(
            left == Set(Self.checksum..<Self.checksum + 4).union(Self.certificateEntry..<Self.certificateEntry + 8))
    }

    @Test func memoryIsVirtualSizeWithZerosAtItsEnd() throws {
        let image = try PEImage(
            ByteSource(
                PEBuilder.image([
                    PEBuilder.Section(".bss", [1, 2], virtualSize: 1000),
                    PEBuilder.Section(".cut", [1, 2, 3], virtualSize: 2),
                ])))
        let zeros = [UInt8](repeating: 0, count: 998)
        #expect(try image.contents(of: image.sections[0]).readAll(limit: 4096, "") == [1, 2] + zeros)
        #expect(try image.contents(of: image.sections[1]).readAll(limit: 4096, "") == [1, 2])
    }

    @Test func certificatesThatAreNotTheEndAreRefused() {
        let image = PEBuilder.image(Self.sections, certificates: [UInt8](repeating: 5, count: 16))
        #expect(throws: ParseError.self) { try PEImage(ByteSource(image + [0])) }
    }

    @Test func truncationIsRefusedAndMutationsNeverCrash() {
        let image = PEBuilder.image(Self.sections)
        for count in Array(0..<512) + Array(stride(from: 512, to: image.count, by: 37)) {
            #expect(throws: ParseError.self) { try PEImage(ByteSource(Array(image[..<count]))) }
        }
        var generator = SeededGenerator(seed: 2)
        for _ in 0..<1500 {
            var damaged = image
            let byte = Int.random(in: 0..<400, using: &generator)
            damaged[byte] = UInt8.random(in: 0...255, using: &generator)
            guard let parsed = try? PEImage(ByteSource(damaged)) else { continue }
            _ = try? parsed.authenticodeContents().readAll(limit: 1 << 20, "image")
        }
    }
}

/// UAPI UKI specification: sections, profiles, order.
@Suite struct UnifiedKernelImageTests {
    typealias Section = PEBuilder.Section

    static func image(_ sections: [Section]) throws -> UnifiedKernelImage {
        try UnifiedKernelImage(ByteSource(PEBuilder.image(sections)))
    }

    @Test func contentsComeInTheOrderOfTheSpecification() throws {
        let names = UnifiedKernelImage.Section.allCases.map(\.rawValue).filter { $0 != ".profile" }
        let image = try Self.image(names.reversed().map { Section($0, Array($0.utf8)) } + [Section(".text", [1])])
        #expect(try image.contents(profile: 0).map(\.section.rawValue) == names)
        #expect(
            try image.contents(profile: 0).allSatisfy {
                try $0.contents.readAll(limit: 99, "") == Array($0.section.rawValue.utf8)
            })
    }

    @Test func profilesOverrideTheBase() throws {
        let image = try Self.image([
            Section(".linux", [1]), Section(".cmdline", Array("base".utf8)), Section(".profile", Array("ID=a".utf8)),
            Section(".profile", Array("ID=b".utf8)), Section(".cmdline", Array("debug".utf8)),
        ])
        func cmdline(_ profile: Int) throws -> String {
            let found = try image.contents(profile: profile).first { $0.section == .cmdline }
            return String(decoding: try #require(found).contents.readAll(limit: 99, ""), as: UTF8.self)
        }
        #expect(image.profileCount == 2)
        #expect(try cmdline(0) == "base")
        #expect(try cmdline(1) == "debug")
        #expect(throws: ParseError.self) { try image.sections(profile: 2) }
        #expect(throws: ParseError.self) { try image.sections(profile: -1) }
    }

    static let refused: [(String, [Section])] = [
        ("a section twice in the base", [Section(".linux", [1]), Section(".linux", [2])]),
        (
            "a section twice in a profile",
            [
                Section(".linux", [1]), Section(".profile", [1]), Section(".cmdline", [1]), Section(".cmdline", [2]),
            ]
        ),
        ("no kernel", [Section(".cmdline", [1])]),
        ("a kernel of no bytes", [Section(".linux", [1], virtualSize: 0)]),
        ("device trees to choose from", [Section(".linux", [1]), Section(".dtbauto", [1]), Section(".dtbauto", [2])]),
    ]

    @Test(arguments: refused.indices) func ambiguousImagesAreRefused(_ index: Int) {
        #expect(throws: ParseError.self, "\(Self.refused[index].0)") {
            try Self.image(Self.refused[index].1).sections(profile: 0)
        }
    }

    @Test func sectionsThatOverlapInMemoryAreRefused() {
        var image = PEBuilder.image([Section(".linux", [1]), Section(".cmdline", [2])])
        // VirtualAddress of the second row.
        let row = 64 + 24 + 240 + 40 + 12
        image.replaceSubrange(row..<row + 4, with: [0, 0x10, 0, 0])
        #expect(throws: ParseError.self) { try UnifiedKernelImage(ByteSource(image)) }
    }
}
