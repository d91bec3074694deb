import Bytes
import Crypto

/// What a token's seal covers, and the key that makes it: nobody without the disk's key can change a header, exchange its
/// keyslots' binary areas, or put it before another disk's data.
///
/// | bytes | what |
/// |--:|---|
/// | 36 | UUID of the header, text |
/// | 32 | SHA-256 of the JSON document in RFC 8785 form, without the `seal` of any token |
/// | 32 | SHA-256 of dm-integrity's superblock (its 64 bytes) |
/// | 4 + 32 | for each keyslot in ascending order: its number, big-endian, and SHA-256 of its binary area |
package enum Seal {
    package static let info = "nacre/v1/disk-seal"

    package static func message(
        uuid: String, document: JSON, superblock: [UInt8], areas: [(id: Int, bytes: ArraySlice<UInt8>)]
    ) throws(HeaderError) -> [UInt8] {
        guard let canonical = stripped(document).canonical else {
            throw HeaderError("form", "json", expected: "integers up to 2^53", actual: "other numbers")
        }
        var writer = ByteWriter()
        writer.append(Array(uuid.utf8))
        writer.append(HashAlgorithm.sha256.hash(canonical))
        writer.append(HashAlgorithm.sha256.hash(superblock))
        for area in areas.sorted(by: { $0.id < $1.id }) {
            writer.be(UInt32(truncatingIfNeeded: area.id))
            writer.append(HashAlgorithm.sha256.hash(area.bytes))
        }
        return writer.bytes
    }

    package static func make(_ key: borrowing Secret, over message: [UInt8]) -> [UInt8] {
        HashAlgorithm.sha256.hmac(key: hkdfSHA256(key: key, salt: [], info: info), message)
    }

    private static func stripped(_ document: JSON) -> JSON {
        guard var object = document.object, let tokens = object["tokens"]?.object else { return document }
        object["tokens"] = .object(
            tokens.mapValues { token in
                guard var fields = token.object else { return token }
                fields["seal"] = nil
                return .object(fields)
            })
        return .object(object)
    }
}

extension DiskHeader {
    /// What this header's seals are made over.
    package func sealed(superblock: [UInt8]) throws(HeaderError) -> [UInt8] {
        try Seal.message(
            uuid: uuid, document: document, superblock: superblock,
            areas: metadata.keyslots.map { ($0.id, bytes[$0.offset..<$0.offset + $0.size]) })
    }

    /// The token that this key has sealed.
    ///
    /// - Throws: `header-seal` where there is none: another key, or a header that somebody has changed.
    package func token(sealedBy key: borrowing Secret, superblock: [UInt8]) throws(HeaderError) -> DiskMetadata.Binding
    {
        let message = try sealed(superblock: superblock)
        let seal = Seal.make(key, over: message)
        guard let token = metadata.bindings.first(where: { constantTimeEqual($0.seal, seal) }) else {
            throw HeaderError(
                "seal", "json.tokens.seal", expected: "made by this disk's key over this header",
                actual: "another seal",
                next: "the header was changed, or its key is another cluster's, node's or epoch's: restore the disk")
        }
        return token
    }
}
