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
    /// 4000 stripes of the volume key, whole sectors.
    public static let keyslotSize = (volumeKeySize * stripes + 4095) / 4096 * 4096
    public static let stripes = 4000
    public static let keyslotCipher = "aes-xts-plain64"
    public static let keyslotKeySize = 64
    /// Where the encrypted data begins; everything before it is the header that is read once. Bytes.
    public static let dataOffset = 16 << 20
    /// PBKDF2 only stretches keys that are random already; fewer rounds than libcryptsetup's minimum are refused.
    public static let iterations = 1000...10_000_000
    /// One keyslot, two while the disk is being re-keyed.
    public static let keyslots = 2
    public static let tokenType = "nacre"
}
