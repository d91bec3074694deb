import Glibc

/// Key bytes: never copied, locked in memory where the system allows it, wiped when they go out of scope.
@safe public struct Secret: ~Copyable, @unchecked Sendable {
    // Sendable by hand: the storage is never mutated after initialisation and has exactly one owner.
    private let storage: UnsafeMutableBufferPointer<UInt8>

    /// Fills `count` bytes through `fill`, which may throw; nothing of the buffer survives a failure.
    public init<E: Error>(count: Int, fill: (inout MutableSpan<UInt8>) throws(E) -> Void) throws(E) {
        let buffer = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: count)
        unsafe buffer.initialize(repeating: 0)
        if count > 0 { _ = unsafe mlock(buffer.baseAddress, count) }
        do throws(E) {
            var span = unsafe MutableSpan(_unsafeElements: buffer)
            try fill(&span)
        } catch {
            unsafe Self.wipe(buffer)
            throw error
        }
        unsafe storage = buffer
    }

    public var count: Int { unsafe storage.count }

    /// Lends the bytes for the duration of `body`; do not let them escape.
    public func withBytes<R, E: Error>(_ body: (Span<UInt8>) throws(E) -> R) throws(E) -> R {
        let span = unsafe Span(_unsafeElements: UnsafeBufferPointer(storage))
        return try body(span)
    }

    private static func wipe(_ storage: UnsafeMutableBufferPointer<UInt8>) {
        if let base = storage.baseAddress, storage.count > 0 {
            unsafe explicit_bzero(base, storage.count)
            _ = unsafe munlock(base, storage.count)
        }
        unsafe storage.deallocate()
    }

    deinit { unsafe Self.wipe(storage) }
}
