import Bytes

/// Reads and writes HTTP/1.1 messages (RFC 9112) over a stream, strictly and within bounds.
///
/// Narrower than the RFC: lines end in CR LF, requests have a Content-Length and are never chunked, no field stands twice,
/// no line folding, only the origin form of targets. Two readers cannot disagree about where such a message ends.
public final class HTTPConnection<Stream: ByteStream> {
    /// Longest start line and header together, bytes.
    public static var maximumHeader: Int { 16 << 10 }
    /// Most fields in a header.
    public static var maximumFields: Int { 64 }

    private let stream: Stream
    private var buffer: [UInt8] = []

    public init(_ stream: Stream) { self.stream = stream }

    /// The next request; `nil` when the peer has ended the stream between messages.
    public func readRequest(bodyLimit: Int = 0) throws(HTTPError) -> HTTPRequest? {
        guard let (line, fields) = try head() else { return nil }
        let parts = line.split(separator: " ", omittingEmptySubsequences: false)
        guard parts.count == 3, isToken(parts[0]) else { throw HTTPError(.malformed, "not a request line") }
        guard parts[2] == "HTTP/1.1" else { throw HTTPError(.unsupported, "only HTTP/1.1 is spoken") }
        guard parts[1].hasPrefix("/"), parts[1].utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            throw HTTPError(.malformed, "target must be an absolute path")
        }
        guard fields["host"] != nil else { throw HTTPError(.malformed, "Host is missing") }
        let body = try body(fields, required: false, limit: bodyLimit)
        return HTTPRequest(method: String(parts[0]), target: String(parts[1]), fields: fields, body: body)
    }

    /// The response to a request other than HEAD and CONNECT.
    public func readResponse(bodyLimit: Int) throws(HTTPError) -> HTTPResponse {
        guard let (line, fields) = try head() else { throw HTTPError(.transport, "the stream ended before a response") }
        let parts = line.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2, parts[0] == "HTTP/1.1" else {
            throw HTTPError(.unsupported, "not an HTTP/1.1 response")
        }
        guard parts[1].utf8.count == 3, let status = Int(parts[1]), (100...599).contains(status) else {
            throw HTTPError(.malformed, "not a status line")
        }
        let empty = status < 200 || status == 204 || status == 304
        let body: [UInt8]
        if empty {
            body = []
        } else if fields["transfer-encoding"] != nil {
            body = try chunks(fields, limit: bodyLimit)
        } else {
            body = try self.body(fields, required: true, limit: bodyLimit)
        }
        return HTTPResponse(status: status, fields: fields, body: body)
    }

    public func write(_ request: HTTPRequest, host: String) throws(HTTPError) {
        var fields = request.fields
        fields["host"] = host
        if !request.body.isEmpty { fields["content-length"] = String(request.body.count) }
        try write("\(request.method) \(request.target) HTTP/1.1", fields, request.body)
    }

    public func write(_ response: HTTPResponse) throws(HTTPError) {
        var fields = response.fields
        fields["content-length"] = String(response.body.count)
        try write("HTTP/1.1 \(response.status) \(Self.phrase(response.status))", fields, response.body)
    }

    private func write(_ line: String, _ fields: [String: String], _ body: [UInt8]) throws(HTTPError) {
        var text = line + "\r\n"
        for (name, value) in fields.sorted(by: { $0.key < $1.key }) { text += "\(name): \(value)\r\n" }
        // A line end inside a name or value would start another field.
        guard text.utf8.count(where: { $0 == 0x0A || $0 == 0x0D }) == 2 * (fields.count + 1) else {
            throw HTTPError(.malformed, "line end inside a field")
        }
        do {
            try stream.write(Array((text + "\r\n").utf8) + body)
        } catch {
            throw HTTPError(.transport, "\(error)")
        }
    }

    /// Start line and fields; `nil` when the stream ends before the first byte.
    private func head() throws(HTTPError) -> (line: String, fields: [String: String])? {
        var searched = 0
        while true {
            if let end = endOfHead(from: searched) {
                let lines = Array(buffer[..<end])
                buffer.removeFirst(end + 4)
                return try parse(lines)
            }
            searched = max(0, buffer.count - 3)
            guard buffer.count < Self.maximumHeader else { throw HTTPError(.tooLarge, "header above 16 KiB") }
            let wasEmpty = buffer.isEmpty
            guard try receive(Self.maximumHeader - buffer.count) else {
                if wasEmpty { return nil }
                throw HTTPError(.transport, "the stream ended inside a header")
            }
        }
    }

    private func endOfHead(from start: Int) -> Int? {
        var index = start
        while index + 3 < buffer.count {
            if buffer[index..<index + 4].elementsEqual([0x0D, 0x0A, 0x0D, 0x0A]) { return index }
            index += 1
        }
        return nil
    }

    private func parse(_ bytes: [UInt8]) throws(HTTPError) -> (line: String, fields: [String: String]) {
        guard bytes.allSatisfy({ (0x20...0x7E).contains($0) || $0 == 0x0D || $0 == 0x0A || $0 == 0x09 }) else {
            throw HTTPError(.malformed, "header with other than printable ASCII")
        }
        var lines: [String] = []
        var rest = bytes[...]
        while let end = rest.firstIndex(of: 0x0D) {
            guard end + 1 < rest.endIndex, rest[end + 1] == 0x0A else {
                throw HTTPError(.malformed, "CR without LF")
            }
            lines.append(String(decoding: rest[..<end], as: UTF8.self))
            rest = rest[(end + 2)...]
        }
        lines.append(String(decoding: rest, as: UTF8.self))
        guard let first = lines.first, !lines.contains(where: { $0.utf8.contains(0x0A) }) else {
            throw HTTPError(.malformed, "LF without CR")
        }
        guard lines.count - 1 <= Self.maximumFields else { throw HTTPError(.tooLarge, "too many fields") }
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":"), isToken(line[..<colon]) else {
                throw HTTPError(.malformed, "not a field: \(line.prefix(40))")
            }
            let name = line[..<colon].lowercased()
            let value = trimmed(line[line.index(after: colon)...])
            guard fields.updateValue(value, forKey: name) == nil else {
                throw HTTPError(.malformed, "\(name) stands twice")
            }
        }
        return (first, fields)
    }

    private func body(_ fields: [String: String], required: Bool, limit: Int) throws(HTTPError) -> [UInt8] {
        guard fields["transfer-encoding"] == nil else { throw HTTPError(.unsupported, "chunked bodies are not spoken") }
        guard let text = fields["content-length"] else {
            if required { throw HTTPError(.unsupported, "response without Content-Length") }
            return []
        }
        guard (1...19).contains(text.utf8.count), text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let length = Int(text)
        else { throw HTTPError(.malformed, "Content-Length is not a number") }
        guard length <= limit else { throw HTTPError(.tooLarge, "body of \(length) bytes, at most \(limit) are read") }
        while buffer.count < length {
            guard try receive(length - buffer.count) else {
                throw HTTPError(.transport, "the stream ended after \(buffer.count) of \(length) bytes")
            }
        }
        let body = Array(buffer.prefix(length))
        buffer.removeFirst(length)
        return body
    }

    /// Longest line with a chunk's size: 16 hexadecimal digits, and what is ignored of extensions is refused.
    private static var maximumChunkLine: Int { 16 }

    /// A body in chunks (RFC 9112 §7.1), without extensions and without trailers.
    private func chunks(_ fields: [String: String], limit: Int) throws(HTTPError) -> [UInt8] {
        guard fields["transfer-encoding"]?.lowercased() == "chunked", fields["content-length"] == nil else {
            throw HTTPError(.unsupported, "only chunked, and no Content-Length beside it")
        }
        var body: [UInt8] = []
        while true {
            let size = try chunkSize()
            guard size <= limit - body.count else { throw HTTPError(.tooLarge, "body above \(limit) bytes") }
            body += try take(size)
            guard try take(2) == [0x0D, 0x0A] else {
                throw HTTPError(.malformed, "a chunk without its end, or a trailer")
            }
            if size == 0 { return body }
        }
    }

    private func chunkSize() throws(HTTPError) -> Int {
        var digits: [UInt8] = []
        while true {
            let byte = try take(1)
            if byte == [0x0D] { break }
            digits += byte
            guard digits.count <= Self.maximumChunkLine else { throw HTTPError(.malformed, "not a chunk's size") }
        }
        guard try take(1) == [0x0A], digits.allSatisfy({ Self.isHexDigit($0) }),
            let size = Int(String(decoding: digits, as: UTF8.self), radix: 16)
        else { throw HTTPError(.malformed, "not a chunk's size") }
        return size
    }

    private static func isHexDigit(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x46).contains(byte) || (0x61...0x66).contains(byte)
    }

    /// The next `count` bytes of the stream.
    private func take(_ count: Int) throws(HTTPError) -> [UInt8] {
        while buffer.count < count {
            // As much as there is: chunks come many at once.
            guard try receive(max(count - buffer.count, 4096)) else {
                throw HTTPError(.transport, "the stream ended inside a chunk")
            }
        }
        let taken = Array(buffer.prefix(count))
        buffer.removeFirst(count)
        return taken
    }

    /// Adds what the stream has to the buffer; `false` at its end.
    private func receive(_ max: Int) throws(HTTPError) -> Bool {
        do {
            let bytes = try stream.read(max: max)
            buffer += bytes
            return !bytes.isEmpty
        } catch {
            throw HTTPError(.transport, "\(error)")
        }
    }

    /// RFC 9110 §5.6.2.
    private func isToken(_ text: Substring) -> Bool {
        !text.isEmpty
            && text.utf8.allSatisfy { byte in
                switch byte {
                case 0x30...0x39, 0x41...0x5A, 0x61...0x7A: true
                default: "!#$%&'*+-.^_`|~".utf8.contains(byte)
                }
            }
    }

    private func trimmed(_ text: Substring) -> String {
        let head = text.drop { $0 == " " || $0 == "\t" }
        return String(head.reversed().drop { $0 == " " || $0 == "\t" }.reversed())
    }

    private static func phrase(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 204: "No Content"
        case 400: "Bad Request"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 413: "Content Too Large"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        default: "Status"
        }
    }
}
