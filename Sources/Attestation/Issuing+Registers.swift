import Bytes
import Crypto
import Glibc
import Linux

/// The runtime measurement registers of a TDX guest through tsm-mr
/// (Linux 6.16, `Documentation/ABI/testing/sysfs-devices-virtual-misc-tdx_guest`, `drivers/virt/coco/guest/tsm-mr.c`):
/// one file for each register, of which reading gives the value and writing a SHA-384 digest extends it.
public struct RuntimeRegisters: Sendable {
    public static let standardRoot = "/sys/devices/virtual/misc/tdx_guest/measurements"
    /// The register that firmware and kernel leave to the system (TDX Virtual Firmware Design Guide, PCR to RTMR map).
    public static let system = 3

    typealias Write = @Sendable (_ path: String, _ digest: [UInt8]) throws(SystemError) -> Void

    private let root: String
    private let write: Write

    /// - Parameter root: the directory of the register files.
    public init(root: String = Self.standardRoot) {
        self.init(root: root) { path, digest throws(SystemError) in try File(path, O_WRONLY).write(digest) }
    }

    init(root: String, write: @escaping Write) {
        self.root = root
        self.write = write
    }

    private func path(_ index: Int) -> String { "\(root)/rtmr\(index):sha384" }

    /// The register's value.
    public func value(_ index: Int) throws(TSMError) -> [UInt8] {
        do throws(SystemError) {
            let value = try File.contents(path(index), limit: HashAlgorithm.sha384.size)
            guard value.count == HashAlgorithm.sha384.size else {
                throw SystemError("\(path(index)) has \(value.count) bytes", code: EINVAL)
            }
            return value
        } catch {
            let next = error.code == ENOENT ? "; runtime registers need Linux 6.16 or newer" : ""
            throw TSMError(message: "\(error)\(next)")
        }
    }

    /// Extends the register by the SHA-384 of `data`, and sees that it moved as it must.
    /// - Returns: the digest.
    public func extend(_ index: Int, with data: [UInt8]) throws(TSMError) -> [UInt8] {
        let digest = HashAlgorithm.sha384.hash(data)
        let before = try value(index)
        do throws(SystemError) {
            try write(path(index), digest)
        } catch { throw TSMError(message: "\(error)") }
        let after = try value(index)
        guard after == HashAlgorithm.sha384.hash(before + digest) else {
            throw TSMError(
                message: "\(path(index)) is \(Hex.encode(after)), which is not \(Hex.encode(before)) extended")
        }
        return digest
    }
}
