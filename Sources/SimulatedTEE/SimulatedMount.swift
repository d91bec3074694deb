import Bytes
import CLinux
import Glibc
import Linux
import Synchronization

/// A `ReportTree` mounted where programs look for configfs-tsm: a FUSE file system spoken to the kernel directly, which
/// takes root (mount(2)) and a kernel with FUSE, and no library or helper.
public final class SimulatedMount: Sendable {
    /// Directories below a mount over configfs itself.
    public static let configFSPath = ["tsm", "report"]

    /// Where it is mounted.
    public let point: String
    private let device: File
    private let tree: Mutex<FUSETree>
    private let isMounted = Atomic(false)

    /// Mounts at `point`; nothing is answered before `run`, and whoever looks waits until then.
    ///
    /// - Parameter path: directories between the mount point and the requests.
    public init(_ tree: ReportTree, at point: String, path: [String] = []) throws(SystemError) {
        self.point = point
        self.tree = Mutex(FUSETree(tree, path: path))
        device = try File("/dev/fuse", O_RDWR)
        let options = "fd=\(device.descriptor),rootmode=40755,user_id=0,group_id=0,default_permissions,allow_other"
        let flags = UInt(MS_NOSUID | MS_NODEV | MS_NOEXEC)
        guard unsafe CLinux.mount("simulated-tee", point, "fuse.simulated-tee", flags, options) == 0 else {
            throw .last("mount \(point)")
        }
        isMounted.store(true, ordering: .relaxed)
    }

    deinit { unmount() }

    /// Takes the file system away at once; `run` then returns.
    public func unmount() {
        guard isMounted.exchange(false, ordering: .relaxed) else { return }
        _ = unsafe umount2(point, Int32(MNT_DETACH))
    }

    /// Answers until the file system is unmounted.
    public func run() throws(SystemError) {
        while true {
            let message: [UInt8]
            do throws(SystemError) {
                message = try device.read(Int(FUSEAnswer.maximumWrite) + 4096)
            } catch {
                switch error.code {
                // The request was interrupted before it was read.
                case ENOENT, EAGAIN: continue
                case ENODEV: return
                default: throw error
                }
            }
            // What the kernel sends is well-formed; what is not, nobody waits for.
            guard let answer = try? tree.withLock({ tree throws(ParseError) in try tree.answer(message) }) else {
                continue
            }
            do throws(SystemError) { try device.write(answer) } catch {
                // ENOENT: whoever asked has gone.
                guard error.code == ENOENT else { throw error }
            }
        }
    }
}
