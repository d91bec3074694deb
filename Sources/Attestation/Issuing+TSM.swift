import Bytes
import CLinux
import Glibc
import Linux

/// What configfs-tsm or a guest device answered to one request.
public struct TSMReport: Equatable, Sendable {
    /// The kernel's name of what made it, `sev_guest` or `tdx_guest`.
    public let provider: String
    /// `outblob`: the bare SEV-SNP report or TDX quote.
    public let report: [UInt8]
    /// `auxblob`: SEV-SNP's certificate table; empty where there is none.
    public let auxiliary: [UInt8]
    /// `manifestblob`: an SVSM's service manifest; empty where none was asked for.
    public let manifest: [UInt8]
}

/// No report: what was attempted, and why it did not work.
public struct TSMError: Error, Equatable, Sendable, CustomStringConvertible {
    public let message: String
    public var description: String { "hardware report: \(message)" }
}

/// The file operations that configfs-tsm is made of, relative to one request's directory.
///
/// The kernel's are `ConfigFS`; tests answer them from memory.
public protocol ReportDirectory: Sendable {
    func create(_ name: String) throws(SystemError)
    func remove(_ name: String)
    /// The attribute's bytes, bounded.
    func read(_ name: String, _ attribute: String) throws(SystemError) -> [UInt8]
    /// All of `value` in a single write, as the kernel demands.
    func write(_ name: String, _ attribute: String, _ value: [UInt8]) throws(SystemError)
}

/// configfs-tsm below `root`, where a simulated tree may stand in for the kernel's.
public struct ConfigFS: ReportDirectory {
    public static let standardRoot = "/sys/kernel/config/tsm/report"
    /// The kernel's own limit for a blob, bytes.
    static let maximumSize = 1 << 20

    public let root: String

    public init(root: String = Self.standardRoot) { self.root = root }

    public func create(_ name: String) throws(SystemError) {
        guard unsafe mkdir("\(root)/\(name)", 0o700) == 0 else { throw .last("create \(root)/\(name)") }
    }

    public func remove(_ name: String) { _ = unsafe rmdir("\(root)/\(name)") }

    public func read(_ name: String, _ attribute: String) throws(SystemError) -> [UInt8] {
        try File("\(root)/\(name)/\(attribute)").readAll(limit: Self.maximumSize)
    }

    public func write(_ name: String, _ attribute: String, _ value: [UInt8]) throws(SystemError) {
        try File("\(root)/\(name)/\(attribute)", O_WRONLY).write(value)
    }
}

/// Asks the platform for hardware reports through configfs-tsm (Linux `Documentation/ABI/testing/configfs-tsm-report`,
/// `drivers/virt/coco/guest/report.c`).
public struct TSMIssuer: Sendable {
    /// An SVSM service to attest with, by GUID; empty: the manifest of all services.
    public struct Service: Equatable, Sendable {
        public let provider: String
        public let guid: String

        public init(provider: String = "svsm", guid: String = "") {
            self.provider = provider
            self.guid = guid
        }
    }

    static let attempts = 5
    /// Errors after which the same request may work: attribute or provider busy, interrupted, host too slow.
    private static let transient: Set<Int32> = [EBUSY, EINTR, EAGAIN, ETIMEDOUT]

    private let directory: any ReportDirectory
    private let pause: @Sendable (UInt32) -> Void

    public init(_ directory: some ReportDirectory = ConfigFS()) {
        self.directory = directory
        pause = { BootClock.sleep(milliseconds: $0) }
    }

    init(_ directory: some ReportDirectory, pause: @escaping @Sendable (UInt32) -> Void) {
        self.directory = directory
        self.pause = pause
    }

    /// The name of the provider that answers; `nil` where the kernel has no configfs-tsm or no provider is registered.
    /// - Throws: `TSMError` when there is one that cannot be asked, which is not the same as none.
    public func provider() throws(TSMError) -> String? {
        let name = Self.freshName()
        do throws(SystemError) {
            try directory.create(name)
        } catch {
            if [ENOENT, ENXIO, ENODEV].contains(error.code) { return nil }
            throw TSMError(message: "\(error)")
        }
        defer { directory.remove(name) }
        return try text(name, "provider")
    }

    /// A report that carries `data`.
    ///
    /// - Parameters:
    ///   - data: report data, exactly 64 bytes, as SEV-SNP and TDX demand.
    ///   - privilegeLevel: VMPL that asks, 0 to 3 (SEV-SNP only); `nil` leaves the kernel's choice.
    ///   - service: has an SVSM attest its services as well.
    ///   - provider: who must answer; another is an error, never a substitute.
    public func report(
        data: [UInt8], privilegeLevel: Int? = nil, service: Service? = nil, provider: String? = nil
    ) throws(TSMError) -> TSMReport {
        guard data.count == 64 else { throw TSMError(message: "report data of \(data.count) bytes, must be 64") }
        guard privilegeLevel.map({ (0...3).contains($0) }) ?? true else {
            throw TSMError(message: "privilege level \(privilegeLevel ?? -1), must be 0 to 3")
        }
        var writes: [(attribute: String, value: [UInt8])] = []
        if let privilegeLevel { writes.append(("privlevel", Array("\(privilegeLevel)".utf8))) }
        if let service {
            writes.append(("service_provider", Array(service.provider.utf8)))
            if !service.guid.isEmpty { writes.append(("service_guid", Array(service.guid.utf8))) }
        }
        writes.append(("inblob", data))

        var failure = ""
        for attempt in 0..<Self.attempts {
            if attempt > 0 { pause(UInt32(50 << attempt)) }
            let name = Self.freshName()
            do throws(SystemError) {
                try directory.create(name)
                defer { directory.remove(name) }
                guard let report = try request(name, writes, withManifest: service != nil) else {
                    failure = "somebody else wrote into the request"
                    continue
                }
                if let provider, report.provider != provider {
                    throw SystemError("expected provider \(provider), found \(report.provider)", code: ENXIO)
                }
                guard !report.report.isEmpty else { throw SystemError("empty outblob", code: ENODATA) }
                return report
            } catch {
                guard Self.transient.contains(error.code) else { throw TSMError(message: "\(error)") }
                failure = "\(error)"
            }
        }
        throw TSMError(message: "no report after \(Self.attempts) attempts: \(failure)")
    }

    /// One request; `nil` when its generation moved by more than the writes made here, in which case report and
    /// auxiliary blob may answer somebody else's.
    private func request(
        _ name: String, _ writes: [(attribute: String, value: [UInt8])], withManifest: Bool
    ) throws(SystemError) -> TSMReport? {
        let start = try generation(name)
        for (attribute, value) in writes { try directory.write(name, attribute, value) }
        let report = try directory.read(name, "outblob")
        var auxiliary: [UInt8] = []
        do throws(SystemError) {
            auxiliary = try directory.read(name, "auxblob")
        } catch {
            // Providers without one have no such attribute, or an empty one.
            guard error.code == ENOENT || error.code == ENODATA || error.code == EOPNOTSUPP else { throw error }
        }
        let manifest = withManifest ? try directory.read(name, "manifestblob") : []
        let provider = String(decoding: try directory.read(name, "provider"), as: UTF8.self)
        let (expected, overflow) = start.addingReportingOverflow(UInt64(writes.count))
        guard !overflow, try generation(name) == expected else { return nil }
        return TSMReport(
            provider: Self.line(provider), report: report, auxiliary: auxiliary, manifest: manifest)
    }

    private func generation(_ name: String) throws(SystemError) -> UInt64 {
        let text = Self.line(String(decoding: try directory.read(name, "generation"), as: UTF8.self))
        guard let value = UInt64(text) else { throw SystemError("generation is not a number", code: EINVAL) }
        return value
    }

    private func text(_ name: String, _ attribute: String) throws(TSMError) -> String {
        do {
            return Self.line(String(decoding: try directory.read(name, attribute), as: UTF8.self))
        } catch { throw TSMError(message: "\(error)") }
    }

    private static func line(_ text: String) -> String { String(text.prefix { !$0.isNewline }) }

    /// Requests of other programs live in the same directory.
    private static func freshName() -> String {
        "nacre-\(getpid())-\(String(UInt64.random(in: .min ... .max), radix: 16))"
    }
}
