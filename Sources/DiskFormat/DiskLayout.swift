/// The one shape a state disk has. Nothing of it is negotiable: a header that says anything else is refused before a key
/// is used (CVE-2025-58356, CVE-2025-59054).
public enum DiskLayout {
    public static let cipher = "aes-xts-plain64"
    public static let integrity = "hmac(sha256)"
    /// AES-256-XTS and HMAC-SHA-256 keys, bytes.
    public static let volumeKeySize = 96
    public static let sectorSize = 4096
    /// Binary areas of the keyslots: from the end of both headers to here; bytes.
    public static let keyslotsOffset = 2 * BinaryHeader.size
    public static let keyslotsSize = 2 * keyslotSize
    public static let keyslotsEnd = keyslotsOffset + keyslotsSize
    /// 4000 stripes of the volume key, whole sectors.
    public static let keyslotSize = (volumeKeySize * stripes + 4095) / 4096 * 4096
    public static let stripes = 4000
    public static let keyslotCipher = "aes-xts-plain64"
    public static let keyslotKeySize = 64
    /// Where the encrypted data begins. Bytes.
    public static let dataOffset = 16 << 20
    /// Of what lies before the data, the part that is used and read once: headers, keyslots, hints. Bytes.
    public static let headerSize = 1 << 20
    /// PBKDF2 only stretches keys that are random already; fewer rounds than libcryptsetup's minimum are refused.
    public static let iterations = 1000...10_000_000
    /// One keyslot, two while the disk is being re-keyed.
    public static let keyslots = 2
    public static let tokenType = "nacre"

    // What dm-integrity is told, and what its superblock must say (`IntegritySuperblock`).

    /// HMAC-SHA-256 of each sector, bytes.
    public static let tagSize = 32
    /// The same for every disk, so that neither making nor opening one takes longer the larger it is. Bytes.
    public static let journalSize = 16 << 20
    /// Data sectors (of 512 bytes) between two stretches of tags; a power of two.
    public static let interleavedSectors = 32768
    /// The smallest disk that is taken: header, journal, tags, and the file system's own smallest size. Bytes.
    public static let minimumSize = 768 << 20
    /// Name in /dev/mapper.
    public static let mapping = "nacre-state"
    /// What is overwritten at both ends of a disk when it is formatted. Bytes.
    package static let clearedSize = headerSize
    /// Where `PeerHints` lie: behind the keyslots, in what a format clears. Bytes.
    package static let hintsOffset = 960 << 10
    package static let hintsSize = 4096
}
