import Bytes

/// What a message on the channel is; the byte is the one on the wire (docs/channel.md).
public enum FrameKind: UInt8, Sendable, CaseIterable {
    case hello = 1
    case proof = 2
    case accept = 3
    case refuse = 4
    case data = 5

    /// Largest payload, bytes; a longer one is refused by its header, before anything is allocated for it.
    public var limit: Int {
        switch self {
        case .hello: 128
        case .proof: 2 << 20
        case .accept: 0
        case .refuse: 64
        case .data: 1 << 20
        }
    }
}

/// One message: kind (u8), length (u32, big-endian), payload.
public struct Frame: Sendable, Equatable {
    public static let headerSize = 5

    public let kind: FrameKind
    public let payload: [UInt8]

    /// - Throws: `parse-range` for a payload longer than its kind allows.
    public init(_ kind: FrameKind, _ payload: [UInt8] = []) throws(ParseError) {
        guard payload.count <= kind.limit else {
            throw ParseError("range", field: "frame.length", offset: 1, "\(payload.count) bytes of \(kind)")
        }
        self.kind = kind
        self.payload = payload
    }

    public var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.u8(kind.rawValue)
        writer.be(UInt32(clamping: payload.count))
        writer.append(payload)
        return writer.bytes
    }
}

/// Puts frames together from pieces as they arrive. Holds at most one frame that its kind's limit allows, and only kinds
/// that the state of the protocol expects.
public struct FrameReader: Sendable {
    private var buffer: [UInt8] = []

    public init() {}

    /// How many more bytes the frame being read needs, at least 1; what lies beyond it is not to be read yet.
    public func missing(expecting kinds: Set<FrameKind>) throws(ParseError) -> Int {
        guard let (_, length) = try header(expecting: kinds) else { return Frame.headerSize - buffer.count }
        return Frame.headerSize + length - buffer.count
    }

    /// Adds what was read, no more than `missing` said, and returns the frame once it is whole.
    public mutating func add(_ bytes: [UInt8], expecting kinds: Set<FrameKind>) throws(ParseError) -> Frame? {
        buffer += bytes
        guard let (kind, length) = try header(expecting: kinds), buffer.count >= Frame.headerSize + length else {
            return nil
        }
        guard buffer.count == Frame.headerSize + length else {
            throw ParseError("form", field: "frame", offset: buffer.count, "more bytes than the frame has")
        }
        let frame = try Frame(kind, Array(buffer[Frame.headerSize...]))
        buffer = []
        return frame
    }

    private func header(expecting kinds: Set<FrameKind>) throws(ParseError) -> (FrameKind, Int)? {
        guard let first = buffer.first else { return nil }
        guard let kind = FrameKind(rawValue: first), kinds.contains(kind) else {
            let names = kinds.map { "\($0)" }.sorted().joined(separator: " or ")
            throw ParseError("form", field: "frame.kind", offset: 0, "\(first) where only \(names) may come")
        }
        guard buffer.count >= Frame.headerSize else { return nil }
        let length = buffer[1..<Frame.headerSize].reduce(0) { $0 << 8 | Int($1) }
        guard length <= kind.limit else {
            throw ParseError("range", field: "frame.length", offset: 1, "\(length) bytes of \(kind)")
        }
        return (kind, length)
    }
}
