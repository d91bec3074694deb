import CLinux
import Glibc

/// A system call that failed: what was attempted, and why it did not work.
public struct SystemError: Error, Equatable, Sendable, CustomStringConvertible {
    /// In words, with the path: `open /dev/tpmrm0`.
    public let operation: String
    /// `errno`.
    public let code: Int32

    public init(_ operation: String, code: Int32) {
        self.operation = operation
        self.code = code
    }

    /// The calling thread's `errno`; call it before anything else runs.
    public static func last(_ operation: String) -> SystemError { SystemError(operation, code: errno) }

    public var description: String {
        // The GNU form, which is safe to call from several threads: constant text, no buffer to share.
        guard let message = unsafe strerrordesc_np(code) else { return "\(operation): error \(code)" }
        return unsafe "\(operation): \(String(cString: message))"
    }
}
