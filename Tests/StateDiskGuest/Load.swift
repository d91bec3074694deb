import Glibc
import Linux

/// What a node's own programs do to the file system: many small files made, changed, renamed and deleted, few of them
/// flushed, beside a log that is flushed after every record. It keeps the file system's own structures moving, which a
/// handful of files does not.
enum Load {
    static let folders = 6
    static let files = 40
    static let records = 12
    /// Every how many files one is flushed before it gets its name.
    static let flushed = 8

    private static func log(_ steps: Range<Int>) -> [UInt8] {
        (steps.lowerBound * records..<steps.upperBound * records).flatMap { Content.bytes(UInt64($0), 3000) }
    }

    private static func folder(_ root: String, _ step: Int, _ number: Int) -> String {
        "\(root)/load-\(step)-\(number)"
    }

    /// - Parameter step: the folders of the step before the last are deleted.
    static func run(_ root: String, step: Int) throws {
        for number in 0..<folders {
            let here = folder(root, step, number)
            try File.makeFolders(here, mode: 0o700)
            for index in 0..<files {
                let seed = (step * folders + number) * files + index
                let count = 50 + seed % 61 * 97
                let file = try File("\(here)/new", O_CREAT | O_WRONLY | O_TRUNC, mode: 0o600)
                try file.write(Content.bytes(UInt64(seed), count))
                if index.isMultiple(of: flushed), fsync(file.descriptor) != 0 {
                    throw SystemError.last("fsync \(here)")
                }
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

    /// Whatever a name leads to can be read to its end and holds nothing but what was written there, the whole of it where
    /// it was flushed first; the log has every record of the steps from 2 up to `confirmed`, and nothing but records.
    static func check(_ root: String, confirmed: Int) throws {
        for folder in try File.names(in: root) where folder.hasPrefix("load-") {
            for name in try File.names(in: "\(root)/\(folder)") {
                let found = try File.contents("\(root)/\(folder)/\(name)", limit: 1 << 20)
                // Cut off before it got its name: nothing says which bytes it is to hold.
                if name == "new" { continue }
                let numbers = name.dropFirst().split(separator: "-").compactMap { Int($0) }
                try expect(name.hasPrefix("f") && numbers.count == 2, "\(folder)/\(name) was never made")
                let whole = Content.bytes(UInt64(numbers[0]), numbers[1])
                try expect(whole.starts(with: found), "\(folder)/\(name) holds other bytes")
                let isWhole = found.count == whole.count || !(numbers[0] % files).isMultiple(of: flushed)
                try expect(isWhole, "\(folder)/\(name) lost flushed bytes")
            }
        }
        // The step that the cut interrupted may have got any part of its records onto the disk.
        let first = 2
        let last = max(first, confirmed + 1)
        let found = File.exists("\(root)/log") ? try File.contents("\(root)/log", limit: 1 << 26) : []
        try expect(log(first..<last + 1).starts(with: found), "the log holds other bytes")
        try expect(found.starts(with: log(first..<last)), "the log lost records of step \(confirmed) or before")
    }
}
