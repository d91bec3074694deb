import Bytes
import DiskFormat
import Linux

extension DiskError {
    init(_ error: SystemError, _ claim: String) {
        self.init(
            "io", claim, expected: "a disk that can be read and written", actual: "\(error)",
            next: "look at the disk and its connection, then boot again")
    }

    /// Whatever a step threw, told by its own reason where it has one.
    init(wrapping error: any Error, _ claim: String) {
        switch error {
        case let error as DiskError: self = error
        case let error as HeaderError: self.init(error)
        case let error as SystemError: self.init(error, claim)
        default: self.init("io", claim, actual: "\(error)", next: "boot again")
        }
    }
}
