import Bytes
import HTTP
import TestKit
import Testing

/// A stream whose input is given and whose output is kept; input arrives in pieces of `piece` bytes.
private final class Memory: ByteStream {
    struct Closed: Error {}
    private var input: ArraySlice<UInt8>
    private let piece: Int
    private(set) var output: [UInt8] = []

    init(_ input: [UInt8], piece: Int = 7) {
        self.input = input[...]
        self.piece = piece
    }

    func read(max: Int) throws(Closed) -> [UInt8] {
        let bytes = Array(input.prefix(min(max, piece)))
        input = input.dropFirst(bytes.count)
        return bytes
    }

    func write(_ bytes: [UInt8]) throws(Closed) { output += bytes }
}

/// RFC 9112 as this room narrows it.
@Suite struct HTTPTests {
    static func request(_ text: String, bodyLimit: Int = 1000) throws -> HTTPRequest? {
        try HTTPConnection(Memory(Array(text.utf8))).readRequest(bodyLimit: bodyLimit)
    }

    @Test func `a request is read with its query and body, and the next after it`() throws {
        let text =
            "POST /v1/evidence?nonce=00ff&note=a%20b HTTP/1.1\r\nHost: node\r\nContent-Length:  3 \r\n\r\nabc"
            + "GET / HTTP/1.1\r\nHost: node\r\n\r\n"
        let connection = HTTPConnection(Memory(Array(text.utf8)))
        let first = try #require(try connection.readRequest(bodyLimit: 3))
        #expect(first.method == "POST")
        #expect(first.path == "/v1/evidence")
        #expect(first.query == ["nonce": "00ff", "note": "a b"])
        #expect(first.fields == ["host": "node", "content-length": "3"])
        #expect(first.body == Array("abc".utf8))
        #expect(try connection.readRequest()?.path == "/")
        #expect(try connection.readRequest() == nil)
    }

    static let longField = "GET / HTTP/1.1\r\nHost: a\r\nX: " + String(repeating: "x", count: 17000) + "\r\n\r\n"
    static let manyFields =
        "GET / HTTP/1.1\r\nHost: a\r\n" + (0..<65).map { "X\($0): y\r\n" }.joined() + "\r\n"

    static let refused: [(text: String, kind: HTTPError.Kind)] = [
        ("GET / HTTP/1.1\nHost: a\n\n", .transport),
        ("GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", .malformed),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", .unsupported),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", .malformed),
        ("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", .malformed),
        ("GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", .malformed),
        ("GET / HTTP/1.1\r\nHost: é\r\n\r\n", .malformed),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", .unsupported),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na", .malformed),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na", .malformed),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n", .tooLarge),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", .malformed),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc", .transport),
        (longField, .tooLarge),
        (manyFields, .tooLarge),
    ]

    @Test(arguments: refused)
    func `what two readers could understand differently is refused`(text: String, kind: HTTPError.Kind) throws {
        do {
            _ = try Self.request(text)
            Issue.record("accepted: \(text.prefix(60))")
        } catch let error as HTTPError {
            #expect(error.kind == kind, "\(text.prefix(60)): \(error)")
        }
    }

    @Test(arguments: ["?nonce=1&nonce=2", "?a=%zz", "?a=%f", "?=1", "?a=%ff"])
    func `a malformed query is no query`(query: String) throws {
        #expect(HTTPRequest(target: "/x" + query).query == nil)
    }

    @Test func `what is written can be read`() throws {
        let memory = Memory([])
        try HTTPConnection(memory).write(HTTPRequest(method: "POST", target: "/a?b=c", body: [1, 2]), host: "h:1")
        let read = try #require(try HTTPConnection(Memory(memory.output)).readRequest(bodyLimit: 2))
        #expect(read.target == "/a?b=c")
        #expect(read.body == [1, 2])
        #expect(read.fields["host"] == "h:1")
        for status in [200, 400, 404, 418, 503] {
            let memory = Memory([])
            try HTTPConnection(memory).write(HTTPResponse.json(["status": .integer(Int128(status))], status: status))
            let read = try HTTPConnection(Memory(memory.output, piece: 1)).readResponse(bodyLimit: 100)
            #expect(read.status == status)
            #expect(try JSON(parsing: read.body)["status"]?.integer == status)
        }
    }

    @Test func `a line end cannot be smuggled into a field`() {
        #expect(throws: HTTPError.self) {
            try HTTPConnection(Memory([])).write(HTTPResponse(status: 200, fields: ["x": "a\r\nset-cookie: b"]))
        }
    }

    @Test func `cut anywhere or damaged at random, a request never traps`() {
        let whole = Array("POST /v1/x?nonce=00 HTTP/1.1\r\nHost: node\r\nContent-Length: 3\r\n\r\nabc".utf8)
        for count in 0..<whole.count {
            let connection = HTTPConnection(Memory(Array(whole.prefix(count))))
            #expect((try? connection.readRequest(bodyLimit: 3)) == .some(nil) || count > 0)
        }
        var generator = SeededGenerator(seed: 1)
        for _ in 0..<2000 {
            _ = try? HTTPConnection(Memory(mutate(whole, with: &generator))).readRequest(bodyLimit: 3)?.query
        }
    }

    @Test func `a response in chunks is read whole, and cut anywhere it is refused`() throws {
        let text =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n"
        let bytes = Array(text.utf8)
        let body = Array("helloabcdefghijklmnopqrstuvwxyz".utf8)
        for piece in [1, 7, 4096] {
            let http = HTTPConnection(Memory(bytes, piece: piece))
            #expect(try http.readResponse(bodyLimit: 31).body == body)
        }
        #expect(throws: HTTPError.self) { try HTTPConnection(Memory(bytes)).readResponse(bodyLimit: 30) }
        for count in bytes.indices {
            #expect(throws: HTTPError.self) {
                try HTTPConnection(Memory(Array(bytes.prefix(count)))).readResponse(bodyLimit: 100)
            }
        }
    }

    @Test(arguments: [
        "Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: 1\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n7FFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\na\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n",
    ]) func `chunks of another form are refused`(rest: String) {
        #expect(throws: HTTPError.self) {
            try HTTPConnection(Memory(Array("HTTP/1.1 200 OK\r\n\(rest)".utf8))).readResponse(bodyLimit: 100)
        }
    }
}
