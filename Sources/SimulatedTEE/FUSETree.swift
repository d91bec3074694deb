import Bytes
import Glibc
import Linux

/// A `ReportTree` as files: answers one FUSE message after the other. Where the provider has runtime registers, the mount
/// point holds `measurements` too, with the files of tsm-mr.
struct FUSETree: Sendable {
    /// Directories between the mount point and the requests, from the top.
    private let path: [String]
    private(set) var tree: ReportTree
    /// Node number / `stride` → request. Numbers are never used again.
    private var requests: [UInt64: String] = [:]
    private var lastRequest: UInt64 = 0
    private var handles: [UInt64: Handle] = [:]
    private var lastHandle: UInt64 = 0

    /// An open file: what it reads is fixed by its first read, what it writes into a blob counts when it is closed.
    private struct Handle {
        let target: Target
        var contents: [UInt8]?
        var pending: [UInt8]?
    }

    private enum Target {
        case attribute(request: String, ReportTree.Attribute)
        case register(Int)
    }

    static let measurements = "measurements"
    private static let measurementsNode: UInt64 = 15
    /// Node numbers of registers' files begin here.
    private static let firstRegister: UInt64 = 1 << 62

    /// Node numbers per request: itself, then its attributes.
    private static let stride: UInt64 = 16
    private static let maximumHandles = 1024

    /// - Parameter path: at most 13 names.
    init(_ tree: ReportTree, path: [String]) {
        self.tree = tree
        self.path = Array(path.prefix(Int(Self.stride) - 3))
    }

    /// The answer to one message; `nil` where none is due.
    /// - Throws: for a message that is no FUSE request; nothing can be answered to it.
    mutating func answer(_ message: [UInt8]) throws(ParseError) -> [UInt8]? {
        let (header, request) = try FUSERequest.parse(message)
        if request == .unanswered { return nil }
        do throws(SystemError) {
            return FUSEAnswer.message(header.unique, try body(request, header.node))
        } catch {
            return FUSEAnswer.message(header.unique, error: error.code)
        }
    }

    private mutating func body(_ request: FUSERequest, _ number: UInt64) throws(SystemError) -> [UInt8] {
        switch request {
        case .initialize(let major, _, let readAhead):
            guard major >= FUSEAnswer.version.major else { throw SystemError("init", code: EPROTO) }
            return FUSEAnswer.initialized(readAhead: readAhead)
        case .lookup(let name):
            guard let child = try children(number).first(where: { $0.name == name }) else {
                throw SystemError(name, code: ENOENT)
            }
            return child.attributes.entry
        case .getAttributes, .setAttributes: return attributes(try node(number)).answer
        case .makeDirectory(let name):
            guard case .reports = try node(number) else { throw SystemError(name, code: EPERM) }
            try tree.create(name)
            lastRequest += 1
            requests[lastRequest] = name
            return attributes(.request(lastRequest, name)).entry
        case .removeDirectory(let name):
            guard case .reports = try node(number) else { throw SystemError(name, code: EPERM) }
            try tree.remove(name)
            requests = requests.filter { $0.value != name }
            return []
        case .open(let flags): return try open(number, Int32(bitPattern: flags))
        case .openDirectory:
            guard try attributes(node(number)).isDirectory else { throw SystemError("opendir", code: ENOTDIR) }
            return FUSEAnswer.opened(0, flags: 0)
        case .readDirectory(let offset, let size):
            return FUSEAnswer.directory(try children(number), from: offset, size: size)
        case .read(let handle, let offset, let size): return try read(handle, offset, size)
        case .write(let handle, let offset, let bytes): return try write(handle, offset, bytes)
        case .flush(let handle):
            try commit(handle)
            return []
        case .release(let handle):
            try commit(handle)
            handles[handle] = nil
            return []
        case .statistics: return FUSEAnswer.statistics
        case .nothing, .unanswered: return []
        case .forbidden: throw SystemError("create", code: EPERM)
        case .unknown: throw SystemError("request", code: ENOSYS)
        }
    }

    // MARK: Nodes

    private enum Node {
        /// A directory of the path by its depth, 0 for the mount point.
        case folder(Int)
        /// Where requests are made.
        case reports
        case request(UInt64, String)
        case attribute(UInt64, String, ReportTree.Attribute)
        case measurements
        case register(Int)
    }

    private func node(_ number: UInt64) throws(SystemError) -> Node {
        if number == Self.measurementsNode { return .measurements }
        if number >= Self.firstRegister {
            let index = Int(clamping: number - Self.firstRegister)
            guard try tree.registers().indices.contains(index) else { throw SystemError("node", code: ENOENT) }
            return .register(index)
        }
        let (request, place) = number.quotientAndRemainder(dividingBy: Self.stride)
        if request == 0 {
            let depth = Int(place) - 1
            guard (0...path.count).contains(depth) else { throw SystemError("node", code: ENOENT) }
            return depth == path.count ? .reports : .folder(depth)
        }
        guard let name = requests[request] else { throw SystemError("node", code: ENOENT) }
        if place == 0 { return .request(request, name) }
        let all = ReportTree.Attribute.allCases
        guard Int(place) <= all.count else { throw SystemError("node", code: ENOENT) }
        return .attribute(request, name, all[Int(place) - 1])
    }

    private func attributes(_ node: Node) -> FUSEAnswer.Attributes {
        switch node {
        case .folder(let depth):
            FUSEAnswer.Attributes(node: UInt64(depth + 1), isDirectory: true, mode: 0o755)
        case .reports:
            FUSEAnswer.Attributes(node: UInt64(path.count + 1), isDirectory: true, mode: 0o755)
        case .request(let number, _):
            FUSEAnswer.Attributes(node: number * Self.stride, isDirectory: true, mode: 0o755)
        case .attribute(let number, _, let attribute):
            FUSEAnswer.Attributes(
                node: number * Self.stride + 1
                    + UInt64(ReportTree.Attribute.allCases.firstIndex(of: attribute) ?? 0),
                isDirectory: false, mode: attribute.isWritable ? 0o200 : 0o444)
        case .measurements:
            FUSEAnswer.Attributes(node: Self.measurementsNode, isDirectory: true, mode: 0o755)
        case .register(let index):
            FUSEAnswer.Attributes(node: Self.firstRegister + UInt64(index), isDirectory: false, mode: 0o644)
        }
    }

    private func children(_ number: UInt64) throws(SystemError) -> [(name: String, attributes: FUSEAnswer.Attributes)] {
        switch try node(number) {
        case .folder(let depth):
            let below = (path[depth], attributes(depth + 1 == path.count ? .reports : .folder(depth + 1)))
            guard depth == 0, try !tree.registers().isEmpty else { return [below] }
            return [below, (Self.measurements, attributes(.measurements))]
        case .reports:
            return requests.sorted { $0.key < $1.key }.map { ($0.value, attributes(.request($0.key, $0.value))) }
        case .request(let request, let name):
            return tree.attributes.map { ($0.rawValue, attributes(.attribute(request, name, $0))) }
        case .measurements:
            return try tree.registers().indices.map { ("rtmr\($0):sha384", attributes(.register($0))) }
        case .attribute, .register: throw SystemError("list", code: ENOTDIR)
        }
    }

    // MARK: Files

    private mutating func open(_ number: UInt64, _ flags: Int32) throws(SystemError) -> [UInt8] {
        let target: Target
        switch try node(number) {
        case .attribute(_, let request, let attribute):
            // configfs looks at the attribute itself, whatever the caller's privileges.
            guard flags & O_ACCMODE == (attribute.isWritable ? O_WRONLY : O_RDONLY) else {
                throw SystemError(attribute.rawValue, code: EACCES)
            }
            target = .attribute(request: request, attribute)
        case .register(let index): target = .register(index)
        default: throw SystemError("open", code: EISDIR)
        }
        guard handles.count < Self.maximumHandles else { throw SystemError("open", code: ENFILE) }
        lastHandle += 1
        handles[lastHandle] = Handle(target: target)
        return FUSEAnswer.opened(lastHandle, flags: FUSEAnswer.directIO)
    }

    private mutating func read(_ number: UInt64, _ offset: UInt64, _ size: UInt32) throws(SystemError) -> [UInt8] {
        guard let handle = handles[number] else { throw SystemError("read", code: EBADF) }
        let contents: [UInt8]
        if let known = handle.contents {
            contents = known
        } else {
            switch handle.target {
            case .attribute(let request, let attribute): contents = try tree.read(request, attribute)
            case .register(let index): contents = try tree.registers().dropFirst(index).first ?? []
            }
            handles[number]?.contents = contents
        }
        return Array(contents.dropFirst(Int(clamping: offset)).prefix(Int(size)))
    }

    private mutating func write(
        _ number: UInt64, _ offset: UInt64, _ bytes: [UInt8]
    ) throws(SystemError) -> [UInt8] {
        guard let handle = handles[number] else { throw SystemError("write", code: EBADF) }
        switch handle.target {
        case .attribute(_, .inblob): break
        case .attribute(let request, let attribute):
            // A text attribute takes each write for the whole value.
            try tree.write(request, attribute, bytes)
            return FUSEAnswer.written(bytes.count)
        case .register(let index):
            guard offset == 0 else { throw SystemError("register", code: EINVAL) }
            try tree.extend(index, by: bytes)
            return FUSEAnswer.written(bytes.count)
        }
        let (end, overflow) = Int(clamping: offset).addingReportingOverflow(bytes.count)
        guard !overflow, end <= ReportTree.maximumData else { throw SystemError("inblob", code: EFBIG) }
        var pending = handle.pending ?? []
        if pending.count < end { pending += [UInt8](repeating: 0, count: end - pending.count) }
        pending.replaceSubrange(end - bytes.count..<end, with: bytes)
        handles[number]?.pending = pending
        return FUSEAnswer.written(bytes.count)
    }

    /// A blob counts once its writer has closed it.
    private mutating func commit(_ number: UInt64) throws(SystemError) {
        guard let handle = handles[number], let pending = handle.pending,
            case .attribute(let request, let attribute) = handle.target
        else { return }
        handles[number]?.pending = nil
        try tree.write(request, attribute, pending)
    }
}
