import Bytes
import Glibc
import TestKit
import Testing

@Suite struct ReaderTests {
    @Test func `integers are read in both orders and offsets are absolute`() throws {
        var reader = ByteReader([1, 2, 3, 4, 5, 6, 7, 8, 9], base: 100)
        #expect(try reader.le(UInt32.self, "a") == 0x0403_0201)
        #expect(try reader.be(UInt32.self, "b") == 0x0506_0708)
        #expect(reader.offset == 108)
        #expect(reader.remaining == 1)
        #expect(throws: ParseError("length", field: "c", offset: 108, "needs 2 bytes, 1 left")) {
            try reader.be(UInt16.self, "c")
        }
        #expect(try reader.u8("d") == 9)
        try reader.end("all")
    }

    @Test func `a part has its own end`() throws {
        var reader = ByteReader([1, 2, 3, 4])
        var part = try reader.sub(2, "part")
        #expect(try part.take(2, "x") == [1, 2])
        #expect(throws: ParseError.self) { try part.u8("y") }
        #expect(try reader.u8("z") == 3)
        #expect(throws: ParseError("length", field: "rest", offset: 3, "1 trailing bytes")) { try reader.end("rest") }
    }

    @Test func `reserved bytes must be zero and the first that is not is named`() {
        var reader = ByteReader([0, 0, 7, 0])
        #expect(throws: ParseError("reserved", field: "mbz", offset: 2, "must be zero, found 0x07")) {
            try reader.zeros(4, "mbz")
        }
    }

    @Test(arguments: [-1, Int.min, Int.max, 5])
    func `no count is read past the end, nor a negative one`(count: Int) {
        var reader = ByteReader([1, 2, 3, 4])
        #expect(throws: ParseError.self) { try reader.take(count, "x") }
        #expect(throws: ParseError.self) { try reader.skip(count, "x") }
        #expect(throws: ParseError.self) { try reader.sub(count, "x") }
        #expect(reader.offset == 0)
    }

    @Test func `what is written can be read`() throws {
        var writer = ByteWriter()
        writer.u8(1)
        writer.le(UInt16(0x0203))
        writer.be(UInt64(4))
        writer.pad(to: 16)
        #expect(writer.bytes.count == 16)
        var reader = ByteReader(writer.bytes)
        #expect(try reader.u8("a") == 1)
        #expect(try reader.le(UInt16.self, "b") == 0x0203)
        #expect(try reader.be(UInt64.self, "c") == 4)
        try reader.zeros(5, "padding")
        try reader.end("all")
    }
}

@Suite struct TextFormsTests {
    @Test func `hexadecimal is strict`() {
        #expect(Hex.encode([0, 0x7F, 0xFF]) == "007fff")
        #expect(Hex.decode("007fFF") == [0, 0x7F, 0xFF])
        for text in ["0", "0g", "0x00", " 00", "00 "] { #expect(Hex.decode(text) == nil) }
    }

    /// RFC 4648 §10.
    @Test(arguments: [
        ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ])
    func `base64 as RFC 4648 has it`(plain: String, encoded: String) {
        #expect(Base64.encode(Array(plain.utf8)) == encoded)
        #expect(Base64.decode(encoded) == Array(plain.utf8))
        let url = String(encoded.prefix { $0 != "=" })
        #expect(Base64.encodeURL(Array(plain.utf8)) == url)
        #expect(Base64.decodeURL(url) == Array(plain.utf8))
    }

    @Test(arguments: ["Zg", "Zg=", "Zg===", "Zh==", "Zm9=", "Zm 9v", "Zm9v\n", "Z-9v", "====", "Z", "Zg==Zg=="])
    func `base64 with bits, padding or characters too many is refused`(text: String) {
        #expect(Base64.decode(text) == nil)
    }

    @Test func `random bytes survive both alphabets`() {
        var generator = SeededGenerator(seed: 11)
        for count in 0..<200 {
            let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
            #expect(Base64.decode(Base64.encode(bytes)) == bytes)
            #expect(Base64.decodeURL(Base64.encodeURL(bytes)) == bytes)
            #expect(Hex.decode(Hex.encode(bytes)) == bytes)
        }
    }

    @Test func `comparison looks at every byte and at the length`() {
        #expect(constantTimeEqual([1, 2, 3], [1, 2, 3]))
        #expect(!constantTimeEqual([1, 2, 3], [1, 2, 4]))
        #expect(!constantTimeEqual([1, 2, 3], [1, 2]))
        #expect(!constantTimeEqual([], [0]))
    }
}

/// RFC 3339.
@Suite struct InstantTests {
    @Test(arguments: [
        ("1970-01-01T00:00:00Z", 0), ("2000-02-29T12:00:00Z", 951_825_600), ("2026-01-01T00:00:00Z", 1_767_225_600),
        ("2026-01-01T01:30:00+01:30", 1_767_225_600), ("2025-12-31T23:00:00-01:00", 1_767_225_600),
        ("2026-01-01t00:00:00.999z", 1_767_225_600), ("1969-12-31T23:59:59Z", -1),
        ("0000-01-01T00:00:00Z", -62_167_219_200),
        ("9999-12-31T23:59:59Z", 253_402_300_799),
    ])
    func `reads times with offsets and fractions`(text: String, seconds: Int64) {
        #expect(Instant(text)?.seconds == seconds)
    }

    @Test(arguments: [
        "", "2026-01-01", "2026-13-01T00:00:00Z", "2026-02-29T00:00:00Z", "2026-00-01T00:00:00Z",
        "2026-01-32T00:00:00Z",
        "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z", "2026-01-01T00:00:00", "2026-01-01T00:00:00ZZ",
        "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+1:00", "26-01-01T00:00:00Z", "２026-01-01T00:00:00Z",
    ])
    func `refuses what is no time`(text: String) { #expect(Instant(text) == nil) }

    @Test func `what is written can be read, over ten thousand years`() {
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<2000 {
            let instant = Instant(seconds: Int64.random(in: -62_167_219_200...253_402_300_799, using: &generator))
            #expect(Instant(instant.description) == instant)
        }
    }

    @Test func `agrees with date(1)`() throws {
        guard let date = Tool.find("date") else { return }
        for seconds: Int64 in [0, 68_169_600, 1_709_164_799, 1_709_164_800, 4_102_444_799] {
            let theirs = try Tool.run([date, "-u", "-d", "@\(seconds)", "+%Y-%m-%dT%H:%M:%SZ"]).text
            #expect(Instant(seconds: seconds).description + "\n" == theirs)
        }
    }
}

/// Files: whole or not at all, regular or refused.
@Suite struct FilesTests {
    @Test func `a file is written with its mode, replaced whole, and leaves nothing beside it`() throws {
        let folder = try TemporaryFolder()
        let path = folder.path + "/key"
        try Files.write([1, 2, 3], to: path, mode: 0o600)
        #expect(try Files.read(path, limit: 3) == [1, 2, 3])
        try Files.write([4], to: path)
        #expect(try Files.read(path, limit: 3) == [4])
        var info = stat()
        #expect(unsafe stat(path, &info) == 0)
        #expect(info.st_mode & 0o777 == 0o644)
        #expect(try Tool.run(["ls", "-A", folder.path]).text == "key\n")
    }

    @Test func `a file that must be new never replaces one`() throws {
        let folder = try TemporaryFolder()
        let path = try folder.file("key", "old")
        #expect(throws: FileError.self) { try Files.write([1], to: path, replacing: false) }
        #expect(try Files.read(path, limit: 10) == Array("old".utf8))
        try Files.write([1], to: folder.path + "/new", mode: 0o600, replacing: false)
        #expect(try Tool.run(["ls", "-A", folder.path]).text == "key\nnew\n")
    }

    @Test func `links, folders and devices are not replaced`() throws {
        let folder = try TemporaryFolder()
        let target = try folder.file("target", "x")
        #expect(unsafe symlink(target, folder.path + "/link") == 0)
        #expect(throws: FileError.self) { try Files.write([1], to: folder.path + "/link") }
        #expect(throws: FileError.self) { try Files.write([1], to: folder.path) }
        #expect(throws: FileError.self) { try Files.write([1], to: "/dev/null") }
        #expect(throws: FileError.self) { try Files.write([1], to: folder.path + "/absent/file") }
    }

    @Test func `a FIFO, a folder, a device and a large file are refused without waiting`() throws {
        let folder = try TemporaryFolder()
        #expect(unsafe mkfifo(folder.path + "/fifo", 0o600) == 0)
        for path in [folder.path + "/fifo", folder.path, "/dev/zero", folder.path + "/absent"] {
            #expect(throws: FileError.self) { try Files.read(path, limit: 100) }
        }
        let large = try folder.file("large", [UInt8](repeating: 0, count: 101))
        #expect(throws: FileError.self) { try Files.read(large, limit: 100) }
        #expect(try Files.read(large, limit: 101).count == 101)
        #expect(try Files.read("/proc/self/status", limit: 1 << 16).count > 0)
    }

    @Test func `a path never leads out of its folder`() throws {
        let folder = try TemporaryFolder()
        _ = try folder.file("inside", "x")
        #expect(unsafe symlink("/etc/passwd", folder.path + "/out") == 0)
        #expect(unsafe symlink("inside", folder.path + "/in") == 0)
        #expect(try Files.resolve("in", within: folder.path).hasSuffix("/inside"))
        for path in ["", "/etc/passwd", "../x", "a/../../x", "out", "absent"] {
            #expect(throws: FileError.self) { try Files.resolve(path, within: folder.path) }
        }
    }

    @Test func `a deadline counts down and stops at zero`() {
        #expect(Deadline.milliseconds(0).hasPassed)
        #expect(Deadline.seconds(-5).hasPassed)
        #expect(Deadline.seconds(.max).millisecondsLeft == .max)
        let left = Deadline.seconds(60).millisecondsLeft
        #expect((1...60_000).contains(left))
    }

    @Test func `a secret is lent, not copied`() throws {
        let secret = Secret(count: 4) { span in for index in 0..<4 { span[index] = UInt8(index) } }
        #expect(secret.count == 4)
        #expect(secret.withBytes { span in span[3] } == 3)
    }
}
