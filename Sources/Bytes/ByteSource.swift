/// Random access to bytes that may be far larger than memory: a file, a block device, a part of either.
///
/// Every read is checked against `count` first, so that a fetch never sees an offset that its owner did not promise.
public struct ByteSource: Sendable {
    /// Size in bytes.
    public let count: Int
    private let fetch: @Sendable (_ offset: Int, _ count: Int) throws(ParseError) -> [UInt8]

    /// - Parameter fetch: returns exactly `count` bytes from `offset`; only asked for what lies inside.
    public init(
        count: Int, fetch: @escaping @Sendable (_ offset: Int, _ count: Int) throws(ParseError) -> [UInt8]
    ) {
        self.count = max(0, count)
        self.fetch = fetch
    }

    public init(_ bytes: [UInt8]) {
        self.init(count: bytes.count) { offset, count in Array(bytes[offset..<offset + count]) }
    }

    private func require(_ offset: Int, _ length: Int, _ field: String) throws(ParseError) {
        guard offset >= 0, length >= 0, offset <= count, length <= count - offset else {
            throw ParseError(
                "length", field: field, offset: max(0, offset), "needs \(length) bytes, the input has \(count)")
        }
    }

    /// `length` bytes from `offset`, or a `length` error that names `field`.
    public func read(at offset: Int, count length: Int, _ field: String) throws(ParseError) -> [UInt8] {
        try require(offset, length, field)
        guard length > 0 else { return [] }
        let bytes = try fetch(offset, length)
        guard bytes.count == length else {
            throw ParseError("length", field: field, offset: offset, "\(bytes.count) of \(length) bytes could be read")
        }
        return bytes
    }

    /// All bytes, refused above `limit`.
    public func readAll(limit: Int, _ field: String) throws(ParseError) -> [UInt8] {
        guard count <= limit else {
            throw ParseError("length", field: field, offset: 0, "\(count) bytes, at most \(limit) are read")
        }
        return try read(at: 0, count: count, field)
    }

    /// The part of `length` bytes that starts at `offset`, with offsets of its own.
    public func slice(at offset: Int, count length: Int, _ field: String) throws(ParseError) -> ByteSource {
        try require(offset, length, field)
        let whole = self
        return ByteSource(count: length) { (inner, size) throws(ParseError) in
            try whole.read(at: offset + inner, count: size, field)
        }
    }

    /// The first `size` bytes, followed by zeros where there are fewer.
    public func resized(to size: Int) -> ByteSource {
        let whole = self
        return ByteSource(count: size) { (offset, length) throws(ParseError) in
            let present = max(0, min(length, whole.count - offset))
            var bytes = present > 0 ? try whole.read(at: offset, count: present, "content") : []
            bytes.append(contentsOf: repeatElement(0, count: length - present))
            return bytes
        }
    }

    /// Several sources one after the other.
    public init(joining parts: [ByteSource]) {
        var starts: [Int] = []
        var total = 0
        for part in parts {
            starts.append(total)
            total += part.count
        }
        let offsets = starts
        self.init(count: total) { (offset, length) throws(ParseError) in
            var bytes: [UInt8] = []
            bytes.reserveCapacity(length)
            for (start, part) in zip(offsets, parts) where start < offset + length && start + part.count > offset {
                let from = max(0, offset - start)
                let upTo = min(part.count, offset + length - start)
                bytes += try part.read(at: from, count: upTo - from, "content")
            }
            return bytes
        }
    }

    /// Hands out the bytes in order, in pieces of at most `size`.
    public func forEachChunk(of size: Int = 256 << 10, _ body: ([UInt8]) -> Void) throws(ParseError) {
        var offset = 0
        while offset < count {
            let length = min(size, count - offset)
            body(try read(at: offset, count: length, "content"))
            offset += length
        }
    }
}
