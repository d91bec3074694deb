import Bytes
import Crypto
import TPM

/// What pairs of logs come to, by the digest of their exact bytes. Nodes show the logs of one boot again and again, and
/// nodes of one kind the same ones.
///
/// Kept are only replays of logs whose event data and separators were checked and that led to the values of a quote that
/// verified. Whether they lead to those of another quote is compared anew each time, as is everything that depends on a
/// policy or a manifest: none of it is kept. An entry is a few KiB, whatever the log's size.
enum LogCache {
    static let shared = BoundedCache<LogReplay>(capacity: 256)

    /// SHA-256 over the number of the firmware log's bytes (u64, big-endian) and both logs.
    static func key(_ firmware: [UInt8], _ userspace: [UInt8]) -> [UInt8] {
        var length = ByteWriter()
        length.be(UInt64(firmware.count))
        var digest = Digest(.sha256)
        digest.update(length.bytes)
        digest.update(firmware)
        digest.update(userspace)
        return digest.finish()
    }
}
