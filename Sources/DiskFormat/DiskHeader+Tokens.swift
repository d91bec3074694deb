import Bytes
import Crypto

/// The header's JSON document with its tokens and keyslots exchanged; everything else stays as libcryptsetup made it.
extension DiskHeader {
    /// Token of one keyslot, before it is sealed.
    package struct Token {
        let keyslot: Int
        let binding: DiskBinding

        package init(keyslot: Int, binding: DiskBinding) {
            self.keyslot = keyslot
            self.binding = binding
        }
    }

    /// `document` with exactly these tokens and only their keyslots, seals left out.
    static func document(_ document: JSON, tokens: [Token]) -> JSON {
        let names = tokens.map { String($0.keyslot) }
        guard var object = document.object, let digest = object["digests"]?["0"]?.object else { return document }
        object["keyslots"] = .object((object["keyslots"]?.object ?? [:]).filter { names.contains($0.key) })
        object["digests"] = [
            "0": .object(digest.merging(["keyslots": .array(names.sorted().map { .string($0) })]) { $1 })
        ]
        var entries: [String: JSON] = [:]
        for token in tokens {
            entries[String(token.keyslot)] = [
                "type": .string(DiskLayout.tokenType), "keyslots": [.string(String(token.keyslot))],
                "cluster": .hex(token.binding.clusterID), "node": .string(token.binding.node.description),
                "epoch": .integer(Int128(token.binding.epoch)),
                "generation": .integer(Int128(token.binding.generation)),
            ]
        }
        object["tokens"] = .object(entries)
        return .object(object)
    }

    /// `document` with the seals set, by token.
    static func document(_ document: JSON, seals: [Int: [UInt8]]) -> JSON {
        guard var object = document.object, var tokens = object["tokens"]?.object else { return document }
        for (id, seal) in seals {
            guard var token = tokens[String(id)]?.object else { continue }
            token["seal"] = .hex(seal)
            tokens[String(id)] = .object(token)
        }
        object["tokens"] = .object(tokens)
        return .object(object)
    }
}

extension DiskHeader {
    /// Keyslot areas that no keyslot uses.
    package var unused: [Range<Int>] { Self.unused(metadata.keyslots) }

    private static func unused(_ keyslots: [DiskMetadata.Keyslot]) -> [Range<Int>] {
        (0..<DiskLayout.keyslots).map { index in
            let start = DiskLayout.keyslotsOffset + index * DiskLayout.keyslotSize
            return start..<start + DiskLayout.keyslotSize
        }.filter { area in
            keyslots.allSatisfy { $0.offset >= area.upperBound || $0.offset + $0.size <= area.lowerBound }
        }
    }

    /// This header with exactly these tokens and their keyslots, sealed by `seal`, which gets the message and answers by
    /// keyslot; areas of dropped keyslots are zero.
    package func bound(
        _ tokens: [Token], superblock: [UInt8], seal: (_ message: [UInt8]) -> [Int: [UInt8]]
    ) throws(HeaderError) -> DiskHeader {
        let kept = metadata.keyslots.filter { slot in tokens.contains { $0.keyslot == slot.id } }
        let document = Self.document(document, tokens: tokens)
        let message = try Seal.message(
            uuid: uuid, document: document, superblock: superblock,
            areas: kept.map { ($0.id, bytes[$0.offset..<$0.offset + $0.size]) })
        let zeros = [UInt8](repeating: 0, count: DiskLayout.keyslotSize)
        return try rewritten(
            Self.document(document, seals: seal(message)),
            areas: Dictionary(Self.unused(kept).map { ($0.lowerBound, zeros) }) { $1 })
    }
}
