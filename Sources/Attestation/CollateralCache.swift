import Bytes
import CLinux
import Glibc

/// Collateral on disk: one file for each item, a `nacre.collateral.v1` document of its own.
///
/// The directory is not trusted: what is read is verified again at the time it is used, and whatever does not verify or
/// has lapsed counts as absent. Files are written beside, synced and renamed, so that a reader never sees half of one.
public struct CollateralCache: Sendable {
    public let directory: String

    /// - Parameter directory: must exist.
    public init(directory: String) { self.directory = directory }

    private func path(_ key: String) -> String { "\(directory)/\(key).json" }

    /// The item under `key`, as it was written; `nil` when it is absent or not of its form.
    func load(_ key: String) -> CollateralItem? {
        guard let bytes = Self.read(path(key)), let bundle = try? CollateralBundle(parsing: bytes) else { return nil }
        return bundle.items[key]
    }

    /// Keeps `item`, which the caller verified. Errors: `collateral-cache`.
    func store(_ item: CollateralItem) throws(Finding) {
        var bundle = CollateralBundle()
        try bundle.add(item)
        let target = path(try item.key())
        let beside = "\(target).\(getpid())-\(Hex.encode(Self.unique()))"
        let text = Array(bundle.json.pretty.utf8)
        guard Self.write(beside, text), unsafe rename(beside, target) == 0 else {
            let reason = unsafe String(cString: strerror(errno))
            _ = unsafe unlink(beside)
            throw Finding(
                "collateral-cache", claim: target, expected: "a writable directory", actual: reason,
                next: "check \(directory)")
        }
    }

    private static func unique() -> [UInt8] { (0..<8).map { _ in UInt8.random(in: 0...255) } }

    private static func write(_ path: String, _ bytes: [UInt8]) -> Bool {
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o644)
        guard file >= 0 else { return false }
        var offset = 0
        while offset < bytes.count {
            let count = unsafe bytes.withUnsafeBytes { buffer in
                unsafe Glibc.write(file, buffer.baseAddress?.advanced(by: offset), buffer.count - offset)
            }
            if count < 0, errno == EINTR { continue }
            guard count > 0 else { break }
            offset += count
        }
        let synced = offset == bytes.count && fsync(file) == 0
        return close(file) == 0 && synced
    }

    private static func read(_ path: String) -> [UInt8]? {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { _ = close(file) }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while bytes.count <= 8 << 20 {
            let count = unsafe Glibc.read(file, &chunk, chunk.count)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return nil }
            if count == 0 { return bytes }
            bytes.append(contentsOf: chunk.prefix(count))
        }
        return nil
    }
}
