import Bytes
import CLinux
import Crypto
import DiskFormat
import Glibc
import Linux
import Synchronization

/// Mounting as the machine does it: what is mounted has to be seen by everything that runs, not by this process alone.
public struct StateMounts: Sendable {
    /// The open disk's file system, at `folder`.
    public var mount: @Sendable () throws(Finding) -> Void
    /// What of it is used elsewhere: `/var/lib/etcd` and the like, and the journal.
    public var spread: @Sendable () throws(Finding) -> Void
    /// Undoes both, as far as it goes.
    public var unmount: @Sendable () throws(Finding) -> Void
    /// Where `mount` puts it.
    public var folder: String

    public init(
        folder: String, mount: @escaping @Sendable () throws(Finding) -> Void,
        spread: @escaping @Sendable () throws(Finding) -> Void,
        unmount: @escaping @Sendable () throws(Finding) -> Void
    ) {
        self.folder = folder
        self.mount = mount
        self.spread = spread
        self.unmount = unmount
    }
}

/// The state disk of this machine, as the bootstrap needs it: found, judged, opened, mounted. One at a time.
public final class NodeStateDisk: NodeDisk {
    private struct Found {
        let device: BlockDevice
        let header: DiskHeader
        let binding: DiskBinding
    }

    private struct Held: ~Copyable {
        /// What `discover` read: the header that is opened later, never the disk's again.
        var found: Found?
        var open: OpenDisk?
    }

    /// Folders of the state disk, each for what is mounted elsewhere, and this node's own.
    static let folders = ["node", "etcd", "containerd", "kubelet", "journal"]
    /// A boot has a machine identity of its own, and its journal a folder of that name; older ones go.
    static let journals = 8

    private let mounts: StateMounts
    /// What took how long, for the node's log.
    private let report: @Sendable (String) -> Void
    private let held = Mutex(Held())

    public init(mounts: StateMounts, report: @escaping @Sendable (String) -> Void) {
        self.mounts = mounts
        self.report = report
    }

    private var own: String { "\(mounts.folder)/node" }

    // MARK: NodeDisk

    public func discover() throws(Finding) -> NodeDiskState {
        try locked { (held) throws(Finding) in
            if let binding = held.open.binding { return .open(binding) }
            held.found = nil
            let start = BootClock.milliseconds
            let devices = try Self.told { () throws(DiskError) in try BlockDevice.all() }
            var ours: [Found] = []
            var others: [NodeDiskState] = []
            for device in devices where device.excluded == nil {
                let state: DiskState
                // One that cannot be read must not stand in the way of this node's own.
                do throws(DiskError) { state = try StateDisk.inspect(device) } catch {
                    others.append(.unusable(error.finding))
                    continue
                }
                switch state {
                case .ours(let header, let binding):
                    ours.append(Found(device: device, header: header, binding: binding))
                case .damaged(let error): others.append(.unusable(error.finding))
                case .blank, .unfinished: if device.label == nil { others.append(.blank) }
                case .foreign(let what): if device.label == nil { others.append(.foreign(what)) }
                }
            }
            guard ours.count <= 1 else {
                throw Finding(
                    "disk-several", claim: "state disk", expected: "one disk of this node",
                    actual: ours.map { "\($0.device.summary) of \($0.binding.node)" }.joined(separator: "; "),
                    source: "the disks' headers", next: "detach all but this node's own; none of them was touched")
            }
            if let found = ours.first {
                held.found = found
                report("state disk: \(found.device.name) found in \(BootClock.milliseconds - start) ms")
                return .closed(found.binding)
            }
            // Damaged ones first: they may be what is missed.
            if let damaged = others.first(where: { if case .unusable = $0 { true } else { false } }) { return damaged }
            guard others.count <= 1 else { return .none("\(others.count) disks, none of them Nacre's") }
            return others.first ?? .none("no disk beside the system's that could be one")
        }
    }

    public func prepare(
        _ rule: DiskRule, allowForeign: Bool, expecting expected: DiskBinding, key: borrowing Secret
    ) throws(Finding) -> NodeDiskState {
        try locked { (held) throws(Finding) in
            if held.open != nil { throw Self.inUse }
            let start = BootClock.milliseconds
            let opened: OpenDisk
            do throws(DiskError) {
                let device = try StateDisk.find(rule)
                let state = try StateDisk.inspect(device)
                if case .ours(let header, let found) = state, !allowForeign || expected.isSameDisk(as: found) {
                    opened = try StateDisk.open(device, header: header, key: key, expecting: expected)
                    report("state disk: \(device.name) opened in \(BootClock.milliseconds - start) ms")
                } else {
                    guard expected.generation == 0 || allowForeign else { throw Self.replaced(expected, device) }
                    let first = DiskBinding(
                        clusterID: expected.clusterID, node: expected.node, epoch: expected.epoch,
                        generation: expected.generation + 1)
                    opened = try StateDisk.format(device, key: key, binding: first, allowForeign: allowForeign)
                    report("state disk: \(device.name) formatted in \(BootClock.milliseconds - start) ms")
                }
            } catch { throw error.finding }
            return try mount(opened, &held)
        }
    }

    public func open(_ expected: DiskBinding, key: borrowing Secret) throws(Finding) -> NodeDiskState {
        try locked { (held) throws(Finding) in
            if held.open != nil { throw Self.inUse }
            guard let found = held.found else {
                throw Finding("disk-missing", claim: "state disk", expected: "a closed disk of Nacre's", actual: "none")
            }
            let start = BootClock.milliseconds
            let opened: OpenDisk
            do throws(DiskError) {
                opened = try StateDisk.open(found.device, header: found.header, key: key, expecting: expected)
            } catch { throw error.finding }
            report("state disk: \(found.device.name) opened in \(BootClock.milliseconds - start) ms")
            return try mount(opened, &held)
        }
    }

    /// - Parameter opened: mapped; unmapped again where it cannot be mounted.
    private func mount(_ opened: consuming OpenDisk, _ held: inout Held) throws(Finding) -> NodeDiskState {
        let binding = opened.binding
        let start = BootClock.milliseconds
        // Its header on the disk is another one now.
        held.found = nil
        do throws(Finding) {
            try mounts.mount()
            do throws(SystemError) {
                for name in Self.folders { try Self.makeFolder("\(mounts.folder)/\(name)") }
            } catch { throw DiskError(error, mounts.folder).finding }
        } catch {
            try? mounts.unmount()
            try? opened.close()
            throw error
        }
        held.open = consume opened
        report("state disk: mounted in \(BootClock.milliseconds - start) ms, generation \(binding.generation)")
        return .open(binding)
    }

    public func rekey(from old: borrowing Secret, to key: borrowing Secret) throws(Finding) -> NodeDiskState {
        try locked { (held) throws(Finding) in
            guard var opened = held.open.take() else {
                throw Finding("disk-missing", claim: "state disk", expected: "an open disk", actual: "none")
            }
            let start = BootClock.milliseconds
            var failure: DiskError?
            do throws(DiskError) { try opened.rekey(from: old, to: key) } catch { failure = error }
            let binding = opened.binding
            // Open in either case: what failed changed the header at most, which a key still opens.
            held.open = consume opened
            if let failure { throw failure.finding }
            report("state disk: key of epoch \(binding.epoch) in \(BootClock.milliseconds - start) ms")
            return .open(binding)
        }
    }

    public func settle() throws(Finding) {
        try locked { (held) throws(Finding) in
            guard held.open != nil else { return }
            let start = BootClock.milliseconds
            dropOldJournals()
            try mounts.spread()
            report("state disk: in use by all after another \(BootClock.milliseconds - start) ms")
        }
    }

    public func close() {
        held.withLock { held in
            guard held.open != nil else { return }
            do {
                // A disk that something still uses stays open, and can be closed later.
                try mounts.unmount()
                try held.open.take()?.close()
            } catch { report("state disk: not closed: \(error)") }
        }
    }

    public func store(_ bytes: borrowing Secret, as name: String) throws(Finding) {
        let folder = own
        let result = bytes.withBytes { span -> Result<Void, SystemError> in
            do throws(SystemError) {
                try unsafe span.withUnsafeBytes { (buffer) throws(SystemError) in
                    unsafe try File.replace("\(folder)/\(name)", with: buffer, mode: 0o600, isFlushed: true)
                }
                return .success(())
            } catch { return .failure(error) }
        }
        do throws(SystemError) { try result.get() } catch { throw DiskError(error, name).finding }
    }

    public func load(_ name: String) throws(Finding) -> Secret {
        let path = "\(own)/\(name)"
        guard File.exists(path) else {
            throw Finding("disk-missing", claim: name, expected: "on the state disk", actual: "not there")
        }
        do throws(SystemError) {
            let file = try File(path)
            let size = max(0, lseek(file.descriptor, 0, SEEK_END))
            guard size <= 16 << 20 else { throw SystemError("read \(path)", code: EFBIG) }
            return try Secret(count: size) { (span) throws(SystemError) in
                var done = 0
                while done < size {
                    let got = unsafe span.withUnsafeMutableBytes { buffer in
                        unsafe pread(
                            file.descriptor, buffer.baseAddress.map { unsafe $0 + done }, size - done, off_t(done))
                    }
                    if got < 0, errno == EINTR { continue }
                    guard got > 0 else { throw .last("read \(path)") }
                    done += got
                }
            }
        } catch { throw DiskError(error, name).finding }
    }

    public func hints() -> [PeerEndpoint] {
        held.withLock { held in
            guard let device = held.found?.device ?? held.open.device, let file = try? BlockFile(device.path),
                let bytes = try? file.read(at: DiskLayout.hintsOffset, DiskLayout.hintsSize)
            else { return [] }
            return (try? PeerHints.parse(bytes)) ?? []
        }
    }

    public func keepHints(_ peers: [PeerEndpoint]) throws(Finding) {
        try locked { (held) throws(Finding) in
            guard let device = held.open.device else {
                throw Finding("disk-missing", claim: "state disk", expected: "an open disk", actual: "none")
            }
            do {
                let bytes = try PeerHints.bytes(peers)
                let file = try BlockFile(device.path, writing: true)
                // One sector; torn, its checksum says so and there are no hints.
                guard try file.read(at: DiskLayout.hintsOffset, bytes.count) != bytes else { return }
                try file.write(bytes, at: DiskLayout.hintsOffset)
                try file.flush()
            } catch let error as ParseError {
                throw error.finding
            } catch { throw DiskError(wrapping: error, device.path).finding }
        }
    }

    // MARK: Steps

    /// An empty disk where one with data was is the oldest copy of all.
    private static func replaced(_ expected: DiskBinding, _ device: BlockDevice) -> DiskError {
        DiskError(
            "rollback", "state disk", expected: "this node's disk, generation \(expected.generation) or later",
            actual: "\(device.summary) holds nothing of it", source: "the last opening that the owner remembers",
            next: "attach this node's own disk")
    }

    private static var inUse: Finding {
        Finding("disk-busy", claim: "state disk", expected: "a closed one", actual: "open already")
    }

    /// A typed error through a lock that knows none.
    private func locked<R: Sendable>(_ body: (inout Held) throws(Finding) -> R) throws(Finding) -> R {
        let result = held.withLock { (held) -> Result<R, Finding> in
            do throws(Finding) { return .success(try body(&held)) } catch { return .failure(error) }
        }
        return try result.get()
    }

    private static func told<R>(_ body: () throws(DiskError) -> R) throws(Finding) -> R {
        do throws(DiskError) { return try body() } catch { throw error.finding }
    }

    private static func makeFolder(_ path: String) throws(SystemError) {
        guard unsafe mkdir(path, 0o700) == 0 || errno == EEXIST else { throw .last("create \(path)") }
    }

    /// Nothing depends on it: what cannot be removed stays.
    private func dropOldJournals() {
        let folder = "\(mounts.folder)/journal"
        let known = ((try? File.names(in: folder)) ?? []).map { name -> (name: String, time: Int) in
            var info = stat()
            return (name, unsafe stat("\(folder)/\(name)", &info) == 0 ? info.st_mtim.tv_sec : 0)
        }
        for old in known.sorted(by: { $0.time > $1.time }).dropFirst(Self.journals) {
            for file in (try? File.names(in: "\(folder)/\(old.name)")) ?? [] {
                unsafe unlink("\(folder)/\(old.name)/\(file)")
            }
            unsafe rmdir("\(folder)/\(old.name)")
        }
    }
}

extension DiskBinding {
    /// Of this cluster and node, whatever its key and age.
    func isSameDisk(as other: DiskBinding) -> Bool { clusterID == other.clusterID && node == other.node }
}

extension Optional where Wrapped == OpenDisk {
    /// Of the disk that is open.
    fileprivate var binding: DiskBinding? {
        switch self {
        case .some(let disk): disk.binding
        case .none: nil
        }
    }

    fileprivate var device: BlockDevice? {
        switch self {
        case .some(let disk): disk.device
        case .none: nil
        }
    }
}
