import Bytes
import Crypto

/// The ID block of an SEV-SNP launch (SEV-SNP Firmware ABI 1.55 §8.18.2): what its owner signs, and what firmware
/// compares with the launch.
public struct IDBlock: Sendable, Equatable {
    public var launchDigest: [UInt8]
    public var familyID = [UInt8](repeating: 0, count: 16)
    public var imageID = [UInt8](repeating: 0, count: 16)
    public var guestSVN: UInt32 = 0
    public var policy: UInt64 = 0x30000

    /// `nil` unless the digest has 48 bytes.
    public init?(launchDigest: [UInt8]) {
        guard launchDigest.count == 48 else { return nil }
        self.launchDigest = launchDigest
    }

    /// The 96 bytes that the ID key signs with ECDSA P-384 and SHA-384.
    public var bytes: [UInt8] {
        var writer = ByteWriter()
        writer.append(launchDigest)
        writer.append(familyID)
        writer.append(imageID)
        writer.le(UInt32(1))
        writer.le(guestSVN)
        writer.le(policy)
        return writer.bytes
    }

    /// ID_KEY_DIGEST or AUTHOR_KEY_DIGEST of a report: SHA-384 over the 1028 bytes of the key in AMD's form (§8.18.3.1).
    ///
    /// - Parameter point: uncompressed P-384 point, `04 ‖ x ‖ y`; `nil` for anything else.
    public static func keyDigest(point: [UInt8]) -> [UInt8]? {
        guard point.count == 97, point[0] == 4 else { return nil }
        var writer = ByteWriter()
        writer.le(UInt32(2))
        writer.append(point[1..<49].reversed())
        writer.zeros(24)
        writer.append(point[49..<97].reversed())
        writer.zeros(24)
        writer.zeros(1028 - writer.bytes.count)
        return HashAlgorithm.sha384.hash(writer.bytes)
    }
}
