import Bytes
import Glibc
import Linux

/// Requests of Linux's FUSE protocol, version 7 (`include/uapi/linux/fuse.h`), as far as a small tree needs them.
/// Little-endian, as the only machines with SEV-SNP and TDX are.
enum FUSERequest: Equatable, Sendable {
    case initialize(major: UInt32, minor: UInt32, readAhead: UInt32)
    case lookup(name: String)
    /// FORGET, BATCH_FORGET, INTERRUPT: nobody waits for an answer.
    case unanswered
    case getAttributes
    /// SETATTR; nothing of it changes anything here (truncating an attribute is what O_TRUNC does).
    case setAttributes
    case makeDirectory(name: String)
    case removeDirectory(name: String)
    case open(flags: UInt32)
    case openDirectory
    case read(handle: UInt64, offset: UInt64, size: UInt32)
    case readDirectory(offset: UInt64, size: UInt32)
    case write(handle: UInt64, offset: UInt64, bytes: [UInt8])
    /// A descriptor was closed; the caller of close(2) waits for the answer.
    case flush(handle: UInt64)
    case release(handle: UInt64)
    /// RELEASEDIR, FSYNC, FSYNCDIR, DESTROY: success without a body.
    case nothing
    case statistics
    /// MKNOD, CREATE, SYMLINK, LINK, UNLINK, RENAME: the tree decides what is in it.
    case forbidden
    case unknown(opcode: UInt32)

    /// What every request starts with.
    struct Header: Equatable, Sendable {
        static let size = 40
        let unique: UInt64
        let node: UInt64
    }

    /// Longest name of a request, as configfs has it.
    static let maximumName = 255

    static func parse(_ bytes: [UInt8]) throws(ParseError) -> (header: Header, request: FUSERequest) {
        var reader = ByteReader(bytes)
        let length = try reader.le(UInt32.self, "len")
        guard Int(length) == bytes.count else {
            throw ParseError("length", field: "len", offset: 0, "\(length) in a message of \(bytes.count) bytes")
        }
        let opcode = try reader.le(UInt32.self, "opcode")
        let header = Header(
            unique: try reader.le(UInt64.self, "unique"), node: try reader.le(UInt64.self, "nodeid"))
        // uid, gid, pid, extension length, padding.
        try reader.skip(16, "caller")
        return (header, try body(opcode, &reader))
    }

    private static func body(_ opcode: UInt32, _ reader: inout ByteReader) throws(ParseError) -> FUSERequest {
        switch opcode {
        case 1: return .lookup(name: try name(&reader))
        case 2, 36, 42: return .unanswered
        case 3: return .getAttributes
        case 4: return .setAttributes
        case 9:
            try reader.skip(8, "mode, umask")
            return .makeDirectory(name: try name(&reader))
        case 11: return .removeDirectory(name: try name(&reader))
        case 14: return .open(flags: try reader.le(UInt32.self, "flags"))
        case 15, 28:
            let handle = try reader.le(UInt64.self, "fh")
            let offset = try reader.le(UInt64.self, "offset")
            let size = try reader.le(UInt32.self, "size")
            return opcode == 15
                ? .read(handle: handle, offset: offset, size: size) : .readDirectory(offset: offset, size: size)
        case 16:
            let handle = try reader.le(UInt64.self, "fh")
            let offset = try reader.le(UInt64.self, "offset")
            let size = try reader.le(UInt32.self, "size")
            try reader.skip(20, "write_flags to padding")
            return .write(handle: handle, offset: offset, bytes: try reader.take(Int(size), "data"))
        case 17: return .statistics
        case 18: return .release(handle: try reader.le(UInt64.self, "fh"))
        case 25: return .flush(handle: try reader.le(UInt64.self, "fh"))
        case 26:
            return .initialize(
                major: try reader.le(UInt32.self, "major"), minor: try reader.le(UInt32.self, "minor"),
                readAhead: try reader.le(UInt32.self, "max_readahead"))
        case 27: return .openDirectory
        case 20, 29, 30, 38: return .nothing
        case 6, 8, 10, 12, 13, 35, 45: return .forbidden
        default: return .unknown(opcode: opcode)
        }
    }

    /// A name that ends with NUL and the message.
    private static func name(_ reader: inout ByteReader) throws(ParseError) -> String {
        let offset = reader.offset
        let bytes = reader.rest
        guard let last = bytes.last, last == 0, let name = String(validating: bytes.dropLast(), as: UTF8.self),
            (1...maximumName).contains(bytes.count - 1), !bytes.dropLast().contains(0), !name.contains("/"),
            name != ".", name != ".."
        else { throw ParseError("form", field: "name", offset: offset, "not a file name") }
        return name
    }
}

/// Answers of the protocol.
enum FUSEAnswer {
    static let version: (major: UInt32, minor: UInt32) = (7, 31)
    /// FOPEN_DIRECT_IO: every read and write reaches this program, whatever size the attribute has.
    static let directIO: UInt32 = 1
    /// Bytes of data in one WRITE at most.
    static let maximumWrite: UInt32 = 1 << 16

    static func message(_ unique: UInt64, error: Int32 = 0, _ body: [UInt8] = []) -> [UInt8] {
        var writer = ByteWriter()
        writer.le(UInt32(truncatingIfNeeded: 16 + body.count))
        writer.le(UInt32(bitPattern: -error))
        writer.le(unique)
        writer.append(body)
        return writer.bytes
    }

    /// `fuse_init_out`.
    static func initialized(readAhead: UInt32) -> [UInt8] {
        var writer = ByteWriter()
        writer.le(version.major)
        writer.le(version.minor)
        writer.le(readAhead)
        writer.le(UInt32(0))
        writer.le(UInt16(16))
        writer.le(UInt16(12))
        writer.le(maximumWrite)
        writer.le(UInt32(1))
        writer.zeros(36)
        return writer.bytes
    }

    struct Attributes {
        let node: UInt64
        let isDirectory: Bool
        /// Permission bits.
        let mode: UInt32

        /// `fuse_attr`.
        var bytes: [UInt8] {
            var writer = ByteWriter()
            writer.le(node)
            writer.le(UInt64(isDirectory ? 0 : 4096))
            writer.zeros(8 + 3 * 8 + 3 * 4)
            writer.le((isDirectory ? UInt32(S_IFDIR) : UInt32(S_IFREG)) | mode)
            writer.le(UInt32(isDirectory ? 2 : 1))
            // Owner and group root, no device.
            writer.zeros(12)
            writer.le(UInt32(4096))
            writer.le(UInt32(0))
            return writer.bytes
        }

        /// `fuse_entry_out`; the kernel asks again every time.
        var entry: [UInt8] {
            var writer = ByteWriter()
            writer.le(node)
            writer.zeros(8 + 8 + 8 + 4 + 4)
            writer.append(bytes)
            return writer.bytes
        }

        /// `fuse_attr_out`.
        var answer: [UInt8] {
            var writer = ByteWriter()
            writer.zeros(16)
            writer.append(bytes)
            return writer.bytes
        }
    }

    /// `fuse_open_out`.
    static func opened(_ handle: UInt64, flags: UInt32) -> [UInt8] {
        var writer = ByteWriter()
        writer.le(handle)
        writer.le(flags)
        writer.zeros(4)
        return writer.bytes
    }

    /// `fuse_write_out`.
    static func written(_ count: Int) -> [UInt8] {
        var writer = ByteWriter()
        writer.le(UInt32(truncatingIfNeeded: count))
        writer.zeros(4)
        return writer.bytes
    }

    /// `fuse_statfs_out` of a file system without blocks.
    static let statistics: [UInt8] = {
        var writer = ByteWriter()
        writer.zeros(40)
        for value in [4096, UInt32(FUSERequest.maximumName), 4096] as [UInt32] { writer.le(value) }
        writer.zeros(28)
        return writer.bytes
    }()

    /// `fuse_dirent`s from number `offset` on, as many whole ones as fit into `size` bytes.
    static func directory(_ list: [(name: String, attributes: Attributes)], from offset: UInt64, size: UInt32)
        -> [UInt8]
    {
        var result: [UInt8] = []
        for (number, entry) in list.enumerated().dropFirst(Int(clamping: offset)) {
            var writer = ByteWriter()
            writer.le(entry.attributes.node)
            writer.le(UInt64(number + 1))
            let name = Array(entry.name.utf8)
            writer.le(UInt32(truncatingIfNeeded: name.count))
            writer.le(UInt32(entry.attributes.isDirectory ? DT_DIR : DT_REG))
            writer.append(name)
            writer.pad(to: 8)
            guard result.count + writer.bytes.count <= Int(size) else { break }
            result += writer.bytes
        }
        return result
    }
}
