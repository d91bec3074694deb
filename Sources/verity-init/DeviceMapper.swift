import Bytes
import CLinux
import Glibc
import Linux
import VerityRoot

/// The device-mapper control node.
struct DeviceMapper: ~Copyable {
    private let control: File

    /// Opens `/dev/mapper/control`, creating the node (misc device 236) where devtmpfs has none.
    init() throws {
        let path = "/dev/mapper/control"
        if !File.exists(path), unsafe mknod(path, S_IFCHR | 0o600, nacre_makedev(10, 236)) != 0 {
            throw SystemError.last("create \(path)")
        }
        control = try File(path, O_RDWR)
    }

    /// Creates a read-only device, loads its table and makes it live.
    /// - Returns: its device numbers.
    func create(name: String, uuid: String, table: VerityTable) throws -> dev_t {
        let created = try call(nacre_dm_dev_create, try DeviceMapperRequest(name: name, uuid: uuid), "create \(name)")
        _ = try call(nacre_dm_table_load, try DeviceMapperRequest(name: name, table: table), "load \(table.parameters)")
        // Suspend without its flag is resume: the loaded table becomes the live one.
        _ = try call(nacre_dm_dev_suspend, try DeviceMapperRequest(name: name), "activate \(name)")
        return dev_t(try DeviceMapperRequest.device(answer: created))
    }

    private func call(_ number: UInt, _ request: DeviceMapperRequest, _ what: String) throws -> [UInt8] {
        // The kernel demands an aligned structure; arrays of bytes are aligned to 16 by the allocator, but nothing
        // promises that, so the words are copied.
        let count = (request.bytes.count + 7) / 8
        var words = [UInt64](repeating: 0, count: count)
        let result = unsafe words.withUnsafeMutableBytes { buffer in
            unsafe buffer.copyBytes(from: request.bytes)
            return unsafe nacre_ioctl(control.descriptor, number, buffer.baseAddress)
        }
        guard result == 0 else { throw SystemError.last("device-mapper: \(what)") }
        return unsafe words.withUnsafeBytes { unsafe Array($0) }
    }
}
