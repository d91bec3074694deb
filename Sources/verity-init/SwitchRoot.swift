import CLinux
import Glibc
import Linux

/// The initrd's own file system after the root was switched: still in memory, no longer reachable by name.
enum OldRoot {
    /// Removes its files (not its directories, which hold no memory worth the risk of following one too many).
    static func empty(_ directory: borrowing File) {
        var status = stat()
        guard unsafe fstat(directory.descriptor, &status) == 0 else { return }
        empty(directory.descriptor, device: status.st_dev, depth: 0)
    }

    private static func empty(_ descriptor: Int32, device: dev_t, depth: Int) {
        // `fdopendir` owns what it is given.
        guard depth < 16, let listing = unsafe fdopendir(dup(descriptor)) else { return }
        defer { _ = unsafe closedir(listing) }
        while let entry = unsafe readdir(listing) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
                unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            var status = stat()
            guard name != ".", name != "..",
                unsafe fstatat(descriptor, name, &status, AT_SYMLINK_NOFOLLOW) == 0, status.st_dev == device
            else { continue }
            guard status.st_mode & S_IFMT == S_IFDIR else {
                _ = unsafe unlinkat(descriptor, name, 0)
                continue
            }
            let child = unsafe openat(descriptor, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
            guard child >= 0 else { continue }
            empty(child, device: device, depth: depth + 1)
            close(child)
        }
    }
}

enum Exec {
    /// `execve` with no arguments beyond the name; returns only by throwing.
    static func replaceProcess(_ path: String, environment: [String]) throws(SystemError) {
        var arguments: [UnsafeMutablePointer<CChar>?] = unsafe [strdup(path), nil]
        var variables: [UnsafeMutablePointer<CChar>?] = unsafe environment.map { unsafe strdup($0) } + [nil]
        _ = unsafe execve(path, &arguments, &variables)
        throw .last("start \(path)")
    }
}
