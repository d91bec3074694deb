import Glibc

extension ByteSource {
    /// A file or block device, read with `pread` where it is asked for.
    ///
    /// Not mapped: a file that shrinks under a mapping kills the process, here it is a `ParseError`.
    public init(file path: String) throws(ParseError) {
        let file = try OpenFile(path)
        self.init(count: file.size) { (offset, count) throws(ParseError) in try file.read(at: offset, count: count) }
    }
}

/// Owns one descriptor, opened for reading.
private final class OpenFile: Sendable {
    private let descriptor: Int32
    private let path: String
    let size: Int

    init(_ path: String) throws(ParseError) {
        self.path = path
        descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY)
        guard descriptor >= 0 else { throw Self.failure(path, 0) }
        var status = stat()
        // `lseek` tells the size of a block device too; a directory would answer with nonsense, a FIFO never.
        guard unsafe fstat(descriptor, &status) == 0,
            status.st_mode & S_IFMT == S_IFREG || status.st_mode & S_IFMT == S_IFBLK
        else {
            close(descriptor)
            throw ParseError("missing", field: path, offset: 0, "not a file")
        }
        size = lseek(descriptor, 0, SEEK_END)
        guard size >= 0 else {
            close(descriptor)
            throw ParseError("missing", field: path, offset: 0, "not a file that can be read at any place")
        }
    }

    deinit { close(descriptor) }

    private static func failure(_ path: String, _ offset: Int) -> ParseError {
        ParseError("missing", field: path, offset: offset, unsafe String(cString: strerror(errno)))
    }

    func read(at offset: Int, count: Int) throws(ParseError) -> [UInt8] {
        var failure: ParseError?
        let bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            while filled < count {
                guard let base = buffer.baseAddress else { return }
                let got = unsafe pread(descriptor, base + filled, count - filled, offset + filled)
                if got < 0 && errno == EINTR { continue }
                if got < 0 { failure = Self.failure(path, offset + filled) }
                if got <= 0 { return }
                filled += got
            }
        }
        if let failure { throw failure }
        return bytes
    }
}
