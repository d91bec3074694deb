import Glibc
import Linux

/// What a node's own programs do to the file system: many small files made, changed, renamed and deleted, few of them
/// flushed, beside a log that is flushed after every record. It keeps the file system's own structures moving, which a
/// handful of files does not.
enum Load {
    static let folders = 6
    static let files = 40
    static let records = 12

    private static func folder(_ root: String, _ step: Int, _ number: Int) -> String {
        "\(root)/load-\(step)-\(number)"
    }

    /// - Parameter step: the folders of the step before the last are deleted.
    static func run(_ root: String, step: Int) throws {
        for number in 0..<folders {
            let here = folder(root, step, number)
            try make(here)
            for index in 0..<files {
                let seed = (step * folders + number) * files + index
                let count = 50 + seed % 61 * 97
                let file = try File("\(here)/new", O_CREAT | O_WRONLY | O_TRUNC, mode: 0o600)
                try file.write(Content.bytes(UInt64(seed), count))
                if index.isMultiple(of: 8), fsync(file.descriptor) != 0 { throw SystemError.last("fsync \(here)") }
                guard unsafe rename("\(here)/new", "\(here)/f\(seed)-\(count)") == 0 else {
                    throw SystemError.last("rename in \(here)")
                }
            }
            let old = folder(root, step - 2, number)
            guard File.exists(old) else { continue }
            for name in try File.names(in: old) where unsafe unlink("\(old)/\(name)") != 0 {
                throw SystemError.last("delete \(old)/\(name)")
            }
            guard unsafe rmdir(old) == 0 else { throw SystemError.last("delete \(old)") }
        }
        let log = try File("\(root)/log", O_CREAT | O_WRONLY | O_APPEND, mode: 0o600)
        for record in 0..<records {
            try log.write(Content.bytes(UInt64(step * records + record), 3000))
            guard fdatasync(log.descriptor) == 0 else { throw SystemError.last("fdatasync of the log") }
        }
    }

    /// Whatever a name leads to can be read to its end and holds nothing but what was written there; the log has every
    /// record of the steps up to `confirmed`.
    static func check(_ root: String, confirmed: Int) throws {
        for name in try File.names(in: root) where name.hasPrefix("load-") {
            for file in try File.names(in: "\(root)/\(name)") {
                let found = try File.contents("\(root)/\(name)/\(file)", limit: 1 << 20)
                let numbers = file.dropFirst().split(separator: "-").compactMap { Int($0) }
                guard numbers.count == 2 else { continue }
                let whole = Content.bytes(UInt64(numbers[0]), numbers[1])
                try expect(whole.starts(with: found), "\(name)/\(file) holds other bytes")
            }
        }
        guard confirmed >= 2 else { return }
        let expected = (2 * records..<(confirmed + 1) * records).flatMap { Content.bytes(UInt64($0), 3000) }
        let found = try File.contents("\(root)/log", limit: 1 << 26)
        try expect(found.starts(with: expected), "the log lost records of step \(confirmed) or before")
    }

    private static func make(_ folder: String) throws {
        guard unsafe mkdir(folder, 0o700) == 0 || errno == EEXIST else { throw SystemError.last("mkdir \(folder)") }
    }
}
