/// A two-way stream of bytes with its own deadline, such as a TLS connection; lets protocols be written and tested
/// without sockets.
public protocol ByteStream: AnyObject {
    associatedtype Failure: Error

    /// At least one and at most `max` bytes; empty once the other side has ended the stream in an orderly way.
    func read(max: Int) throws(Failure) -> [UInt8]
    /// Writes all of `bytes`.
    func write(_ bytes: [UInt8]) throws(Failure)
}
