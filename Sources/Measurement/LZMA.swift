import Bytes

/// Decoder for the ".lzma" ("LZMA alone") format (LZMA SDK, `lzma-specification.txt`), which firmware volumes use.
///
/// The size in the header is checked against `limit` before anything is allocated; a stream that reaches outside its
/// output or its input is an error.
struct LZMADecoder {
    private var coder: RangeDecoder
    private var output: [UInt8] = []
    private let size: Int
    private let literalContext: Int
    private let literalPosition: Int
    private let positionMask: Int

    private var literals: [UInt16]
    private var isMatch = Self.fresh(12 << 4)
    private var isRep = Self.fresh(12)
    private var isRepG0 = Self.fresh(12)
    private var isRepG1 = Self.fresh(12)
    private var isRepG2 = Self.fresh(12)
    private var isRep0Long = Self.fresh(12 << 4)
    private var slots = Self.fresh(4 * 64)
    private var aligned = Self.fresh(16)
    private var special = Self.fresh(128)
    private var matchLengths = LengthCoder()
    private var repLengths = LengthCoder()

    private static func fresh(_ count: Int) -> [UInt16] { [UInt16](repeating: 1024, count: count) }

    private struct LengthCoder {
        var choice: [UInt16] = LZMADecoder.fresh(2)
        var low: [UInt16] = LZMADecoder.fresh(16 << 3)
        var middle: [UInt16] = LZMADecoder.fresh(16 << 3)
        var high: [UInt16] = LZMADecoder.fresh(256)

        mutating func decode(_ coder: inout RangeDecoder, _ place: Int) throws(ParseError) -> Int {
            if try coder.bit(&choice[0]) == 0 { return try coder.tree(&low, place << 3, 3) }
            if try coder.bit(&choice[1]) == 0 { return 8 + (try coder.tree(&middle, place << 3, 3)) }
            return 16 + (try coder.tree(&high, 0, 8))
        }
    }

    static func decode(_ bytes: [UInt8], limit: Int) throws(ParseError) -> [UInt8] {
        var decoder = try LZMADecoder(bytes, limit: limit)
        try decoder.run()
        return decoder.output
    }

    private init(_ bytes: [UInt8], limit: Int) throws(ParseError) {
        var reader = ByteReader(bytes)
        let properties = Int(try reader.u8("LZMA properties"))
        try reader.skip(4, "dictionary size")
        let size = try reader.le(UInt64.self, "uncompressed size")
        guard properties < 225 else {
            throw ParseError("range", field: "LZMA properties", offset: 0, "\(properties)")
        }
        guard size <= UInt64(limit) else {
            throw ParseError("length", field: "uncompressed size", offset: 5, "\(size) bytes, at most \(limit)")
        }
        self.size = Int(size)
        literalContext = properties % 9
        literalPosition = properties / 9 % 5
        positionMask = (1 << (properties / 45)) - 1
        literals = Self.fresh(0x300 << (literalContext + literalPosition))
        coder = try RangeDecoder(bytes, at: reader.offset)
        output.reserveCapacity(self.size)
    }

    private mutating func literal(_ state: Int, _ distance: Int) throws(ParseError) {
        let previous = Int(output.last ?? 0)
        let place = output.count & ((1 << literalPosition) - 1)
        let base = 0x300 * ((place << literalContext) + (previous >> (8 - literalContext)))
        var symbol = 1
        if state >= 7 {
            // After a match, the byte that the match would have continued with guides the guess.
            var match = Int(output[output.count - distance - 1])
            while symbol < 0x100 {
                let matchBit = (match >> 7) & 1
                match <<= 1
                let bit = try coder.bit(&literals[base + ((1 + matchBit) << 8) + symbol])
                symbol = symbol << 1 | bit
                if bit != matchBit { break }
            }
        }
        while symbol < 0x100 { symbol = symbol << 1 | (try coder.bit(&literals[base + symbol])) }
        output.append(UInt8(truncatingIfNeeded: symbol))
    }

    private mutating func distance(_ length: Int) throws(ParseError) -> Int {
        let slot = try coder.tree(&slots, min(length, 3) * 64, 6)
        guard slot >= 4 else { return slot }
        let bits = (slot >> 1) - 1
        let base = (2 | (slot & 1)) << bits
        if slot < 14 { return base + (try coder.reverseTree(&special, base - slot, bits)) }
        let high = try coder.direct(bits - 4)
        return base + (high << 4) + (try coder.reverseTree(&aligned, 0, 4))
    }

    private mutating func run() throws(ParseError) {
        var state = 0
        var recent = (0, 0, 0, 0)
        while output.count < size {
            let place = output.count & positionMask
            if try coder.bit(&isMatch[(state << 4) + place]) == 0 {
                try literal(state, recent.0)
                state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6
                continue
            }
            var length: Int
            if try coder.bit(&isRep[state]) == 0 {
                length = try matchLengths.decode(&coder, place)
                recent = (try distance(length), recent.0, recent.1, recent.2)
                state = state < 7 ? 7 : 10
                // The end marker; sizes are known here, so it may only stand at the end.
                if recent.0 == 0xFFFF_FFFF { break }
            } else if try coder.bit(&isRepG0[state]) == 0 {
                if try coder.bit(&isRep0Long[(state << 4) + place]) == 0 {
                    state = state < 7 ? 9 : 11
                    try copy(recent.0, 1)
                    continue
                }
                length = try repLengths.decode(&coder, place)
                state = state < 7 ? 8 : 11
            } else {
                if try coder.bit(&isRepG1[state]) == 0 {
                    recent = (recent.1, recent.0, recent.2, recent.3)
                } else if try coder.bit(&isRepG2[state]) == 0 {
                    recent = (recent.2, recent.0, recent.1, recent.3)
                } else {
                    recent = (recent.3, recent.0, recent.1, recent.2)
                }
                length = try repLengths.decode(&coder, place)
                state = state < 7 ? 8 : 11
            }
            length += 2
            try copy(recent.0, length)
        }
        guard output.count == size else {
            throw ParseError("length", field: "LZMA stream", offset: coder.position, "\(output.count) of \(size) bytes")
        }
    }

    private mutating func copy(_ distance: Int, _ length: Int) throws(ParseError) {
        guard distance < output.count, length <= size - output.count else {
            throw ParseError(
                "range", field: "LZMA stream", offset: coder.position, "a match reaches outside the output")
        }
        for _ in 0..<length { output.append(output[output.count - distance - 1]) }
    }
}

/// The arithmetic decoder below LZMA: bits under adaptive probabilities.
private struct RangeDecoder {
    private let input: [UInt8]
    private(set) var position: Int
    private var range: UInt32 = 0xFFFF_FFFF
    private var code: UInt32

    init(_ input: [UInt8], at start: Int) throws(ParseError) {
        var reader = ByteReader(input)
        try reader.skip(start, "range coder")
        guard try reader.u8("range coder") == 0 else {
            throw ParseError("form", field: "range coder", offset: start, "must start with 0")
        }
        code = try reader.be(UInt32.self, "range coder")
        position = reader.offset
        self.input = input
    }

    private mutating func normalize() throws(ParseError) {
        guard range < 1 << 24 else { return }
        guard position < input.count else {
            throw ParseError("length", field: "LZMA stream", offset: position, "ends early")
        }
        range <<= 8
        code = code << 8 | UInt32(input[position])
        position += 1
    }

    /// One bit under the probability in `probability`, which learns.
    mutating func bit(_ probability: inout UInt16) throws(ParseError) -> Int {
        let bound = (range >> 11) * UInt32(probability)
        let bit: Int
        if code < bound {
            range = bound
            probability += (2048 - probability) >> 5
            bit = 0
        } else {
            range -= bound
            code -= bound
            probability -= probability >> 5
            bit = 1
        }
        try normalize()
        return bit
    }

    mutating func direct(_ count: Int) throws(ParseError) -> Int {
        var value = 0
        for _ in 0..<count {
            range >>= 1
            let below = code < range
            if !below { code -= range }
            value = value << 1 | (below ? 0 : 1)
            try normalize()
        }
        return value
    }

    /// `count` bits, most significant first, through the tree at `offset` of `probabilities`.
    mutating func tree(
        _ probabilities: inout [UInt16], _ offset: Int, _ count: Int
    ) throws(ParseError) -> Int {
        var node = 1
        for _ in 0..<count { node = node << 1 | (try bit(&probabilities[offset + node])) }
        return node - (1 << count)
    }

    /// `count` bits, least significant first.
    mutating func reverseTree(
        _ probabilities: inout [UInt16], _ offset: Int, _ count: Int
    ) throws(ParseError) -> Int {
        var node = 1
        var value = 0
        for index in 0..<count {
            let bit = try bit(&probabilities[offset + node])
            node = node << 1 | bit
            value |= bit << index
        }
        return value
    }
}
