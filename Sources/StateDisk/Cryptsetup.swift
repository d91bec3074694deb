import Bytes
import CCryptsetup
import DiskFormat
import Glibc

/// One context of libcryptsetup: a header that lies in memory, and the disk that it describes. The disk's own header is
/// never given to the library.
@safe struct Cryptsetup: ~Copyable {
    private let device: OpaquePointer
    private let messages = Messages()

    /// What the library said, for errors; it never holds key material.
    private final class Messages {
        var lines: [String] = []
    }

    init(header: borrowing MemoryFile, disk: String) throws(DiskError) {
        var opened: OpaquePointer?
        let code = unsafe crypt_init_data_device(&opened, header.path, disk)
        guard code == 0, let opened = unsafe opened else { throw Self.failure("opening", code, []) }
        unsafe device = opened
        unsafe crypt_set_log_callback(
            opened,
            { level, text, context in
                guard level != CRYPT_LOG_DEBUG, let text = unsafe text, let context = unsafe context else { return }
                let messages = unsafe Unmanaged<Messages>.fromOpaque(context).takeUnretainedValue()
                if messages.lines.count < 16 { messages.lines.append(unsafe String(cString: text)) }
            }, Unmanaged.passUnretained(messages).toOpaque())
        unsafe crypt_set_rng_type(opened, Int32(CRYPT_RNG_RANDOM))
    }

    deinit { unsafe crypt_free(device) }

    private static func failure(_ what: String, _ code: Int32, _ said: [String]) -> DiskError {
        let message = unsafe String(cString: strerror(-code))
        let text = said.joined(separator: " ").split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return DiskError(
            "cryptsetup", what, expected: "success", actual: text.isEmpty ? message : "\(message): \(text)",
            source: "libcryptsetup", next: "the kernel's log says more; boot again")
    }

    private borrowing func check(_ what: String, _ code: Int32) throws(DiskError) {
        guard code >= 0 else { throw Self.failure(what, code, messages.lines) }
    }

    /// Makes header and dm-integrity superblock, with a volume key from the kernel's generator; writes none of the data.
    borrowing func format() throws(DiskError) {
        let (cipher, mode) = ("aes", "xts-plain64")
        precondition(DiskLayout.cipher == "\(cipher)-\(mode)")
        let iterations = UInt32(DiskLayout.iterations.lowerBound)
        try check("offset of the data", unsafe crypt_set_data_offset(device, UInt64(DiskLayout.dataOffset / 512)))
        try check(
            "size of the header",
            unsafe crypt_set_metadata_size(device, UInt64(BinaryHeader.size), UInt64(DiskLayout.keyslotsSize)))
        try check(
            "format",
            unsafe nacre_crypt_format(
                device, cipher, mode, DiskLayout.volumeKeySize, DiskLayout.integrity, UInt32(DiskLayout.tagSize),
                UInt64(DiskLayout.journalSize), UInt32(DiskLayout.interleavedSectors), UInt32(DiskLayout.sectorSize),
                iterations))
        try check("key derivation", unsafe nacre_crypt_set_pbkdf(device, iterations))
    }

    /// Keyslot 0 of a header that this context has just made.
    borrowing func addFirstKey(_ key: borrowing Secret) throws(DiskError) {
        let code = unsafe Self.withKey(key) { bytes, count in
            unsafe crypt_keyslot_add_by_volume_key(device, 0, nil, 0, bytes, count)
        }
        try check("first keyslot", code)
    }

    borrowing func load() throws(DiskError) { try check("header", unsafe nacre_crypt_load(device)) }

    /// A second keyslot, by the first one's key.
    borrowing func addKey(_ key: borrowing Secret, slot: Int, by old: borrowing Secret, oldSlot: Int) throws(DiskError)
    {
        let iterations = UInt32(DiskLayout.iterations.lowerBound)
        try check("key derivation", unsafe nacre_crypt_set_pbkdf(device, iterations))
        let code = unsafe Self.withKey(old) { oldBytes, oldCount in
            unsafe Self.withKey(key) { bytes, count in
                unsafe crypt_keyslot_add_by_passphrase(device, Int32(slot), oldBytes, oldCount, bytes, count)
            }
        }
        try check("keyslot \(slot)", code)
    }

    /// Maps the disk as `DiskLayout.mapping`.
    borrowing func activate(_ key: borrowing Secret, slot: Int) throws(DiskError) {
        let code = unsafe Self.withKey(key) { bytes, count in
            unsafe crypt_activate_by_passphrase(device, DiskLayout.mapping, Int32(slot), bytes, count, 0)
        }
        try check("activate", code)
    }

    borrowing func deactivate() throws(DiskError) {
        try check("deactivate", unsafe crypt_deactivate(device, DiskLayout.mapping))
    }

    private static func withKey(
        _ key: borrowing Secret, _ body: (UnsafePointer<CChar>?, Int) -> Int32
    ) -> Int32 {
        key.withBytes { span in
            unsafe span.withUnsafeBytes { bytes in
                unsafe body(bytes.baseAddress?.assumingMemoryBound(to: CChar.self), bytes.count)
            }
        }
    }
}
