import Bytes
import Crypto
import Glibc
import Linux

/// What answers the requests of a `ReportTree`, as a driver registers itself with configfs-tsm.
public protocol ReportProvider: Sendable {
    /// The kernel's name of the driver.
    var name: String { get }
    /// Whether requests have `privlevel` and `auxblob` (SEV-SNP).
    var hasPrivilegeLevels: Bool { get }
    /// Whether requests have `service_…` and `manifestblob` (SEV-SNP under an SVSM).
    var hasServices: Bool { get }
    /// Runtime measurement registers as firmware and kernel left them; empty for providers without any (SEV-SNP).
    func registers() throws(SystemError) -> [[UInt8]]
    /// - Throws: what the read of a blob fails with.
    func report(_ request: ReportTree.Request) throws(SystemError) -> ReportTree.Answer
}

/// The behaviour of configfs-tsm without the file system around it (Linux `drivers/virt/coco/guest/report.c`,
/// `Documentation/ABI/testing/configfs-tsm-report`): one directory per request, attributes, generations, errors.
public struct ReportTree: Sendable {
    public enum Attribute: String, Sendable, CaseIterable {
        case generation, provider, privlevel
        case privilegeFloor = "privlevel_floor"
        case serviceProvider = "service_provider"
        case serviceGUID = "service_guid"
        case serviceManifestVersion = "service_manifest_version"
        case inblob, outblob, auxblob, manifestblob

        /// Mode bits in the kernel's tree: some may only be written, the others only read.
        public var isWritable: Bool {
            switch self {
            case .inblob, .privlevel, .serviceProvider, .serviceGUID, .serviceManifestVersion: true
            default: false
            }
        }
    }

    /// What was written into a request.
    public struct Request: Sendable, Equatable {
        public var data: [UInt8] = []
        public var privilegeLevel = 0
        public var serviceProvider = ""
        public var serviceGUID = ""
        public var serviceManifestVersion = 0
        /// The runtime registers at the time, user space's extensions included.
        public internal(set) var registers: [[UInt8]] = []
    }

    public struct Answer: Sendable, Equatable {
        public var report: [UInt8]
        public var auxiliary: [UInt8]
        public var manifest: [UInt8]

        public init(report: [UInt8], auxiliary: [UInt8] = [], manifest: [UInt8] = []) {
            self.report = report
            self.auxiliary = auxiliary
            self.manifest = manifest
        }
    }

    private struct Entry {
        var request = Request()
        var written: UInt64 = 0
        /// Generation that `answer` answers.
        var read: UInt64 = 0
        var answer: Answer?
    }

    /// TSM_REPORT_INBLOB_MAX.
    public static let maximumData = 64
    static let maximumPrivilegeLevel = 3
    public static let maximumEntries = 256

    private let provider: any ReportProvider
    private var entries: [String: Entry] = [:]
    /// Digests that user space extended registers by, in order.
    private var extensions: [Int: [[UInt8]]] = [:]

    public init(_ provider: some ReportProvider) { self.provider = provider }

    public var names: [String] { entries.keys.sorted() }

    /// The attributes that every request has.
    public var attributes: [Attribute] {
        Attribute.allCases.filter { attribute in
            switch attribute {
            case .generation, .provider, .inblob, .outblob: true
            case .privlevel, .privilegeFloor, .auxblob: provider.hasPrivilegeLevels
            case .serviceProvider, .serviceGUID, .serviceManifestVersion, .manifestblob: provider.hasServices
            }
        }
    }

    /// mkdir.
    public mutating func create(_ name: String) throws(SystemError) {
        guard entries[name] == nil else { throw SystemError(name, code: EEXIST) }
        guard entries.count < Self.maximumEntries else { throw SystemError(name, code: ENOSPC) }
        entries[name] = Entry()
    }

    /// rmdir.
    public mutating func remove(_ name: String) throws(SystemError) {
        guard entries.removeValue(forKey: name) != nil else { throw SystemError(name, code: ENOENT) }
    }

    /// All of an attribute; reading a blob asks the provider unless it has answered this generation already.
    public mutating func read(_ name: String, _ attribute: Attribute) throws(SystemError) -> [UInt8] {
        guard let entry = entries[name], attributes.contains(attribute) else { throw SystemError(name, code: ENOENT) }
        switch attribute {
        case .generation: return Array("\(entry.written)\n".utf8)
        case .provider: return Array("\(provider.name)\n".utf8)
        case .privilegeFloor: return Array("0\n".utf8)
        case .outblob: return try answer(name).report
        case .auxblob: return try answer(name).auxiliary
        case .manifestblob: return try answer(name).manifest
        default: throw SystemError(attribute.rawValue, code: EACCES)
        }
    }

    /// One whole write.
    public mutating func write(_ name: String, _ attribute: Attribute, _ value: [UInt8]) throws(SystemError) {
        guard var entry = entries[name], attributes.contains(attribute) else { throw SystemError(name, code: ENOENT) }
        guard attribute.isWritable else { throw SystemError(attribute.rawValue, code: EACCES) }
        var text = String(decoding: value, as: UTF8.self)
        if text.last == "\n" { text.removeLast() }
        switch attribute {
        case .inblob:
            guard value.count <= Self.maximumData else { throw SystemError("inblob", code: EINVAL) }
            entry.request.data = value
        case .privlevel:
            guard let level = Int(text), (0...Self.maximumPrivilegeLevel).contains(level) else {
                throw SystemError("privlevel", code: EINVAL)
            }
            entry.request.privilegeLevel = level
        case .serviceGUID:
            guard GUID(text) != nil else { throw SystemError("service_guid", code: EINVAL) }
            entry.request.serviceGUID = text
        case .serviceManifestVersion:
            guard let version = UInt32(text) else { throw SystemError("service_manifest_version", code: EINVAL) }
            entry.request.serviceManifestVersion = Int(version)
        default: entry.request.serviceProvider = text
        }
        entry.written &+= 1
        // Written so often without a read that the generations would look alike.
        guard entry.written != entry.read else { throw SystemError(attribute.rawValue, code: EBUSY) }
        entries[name] = entry
    }

    private mutating func answer(_ name: String) throws(SystemError) -> Answer {
        guard var entry = entries[name] else { throw SystemError(name, code: ENOENT) }
        if let answer = entry.answer, entry.read == entry.written { return answer }
        guard !entry.request.data.isEmpty else { throw SystemError("inblob", code: EINVAL) }
        entry.request.registers = try registers()
        let answer = try provider.report(entry.request)
        entry.answer = answer
        entry.read = entry.written
        entries[name] = entry
        return answer
    }
}

/// tsm-mr (Linux `drivers/virt/coco/guest/tsm-mr.c`): reading a register's file gives its value, writing a digest extends.
extension ReportTree {
    static let maximumExtensions = 4096

    /// Every register with user space's extensions.
    public func registers() throws(SystemError) -> [[UInt8]] {
        try provider.registers().enumerated().map { index, start in
            (extensions[index] ?? []).reduce(start) { HashAlgorithm.sha384.hash($0 + $1) }
        }
    }

    /// Extends a register by a digest of 48 bytes.
    public mutating func extend(_ index: Int, by digest: [UInt8]) throws(SystemError) {
        guard try provider.registers().indices.contains(index) else { throw SystemError("register", code: ENOENT) }
        guard digest.count == HashAlgorithm.sha384.size, extensions[index, default: []].count < Self.maximumExtensions
        else { throw SystemError("register", code: EINVAL) }
        extensions[index, default: []].append(digest)
    }
}
