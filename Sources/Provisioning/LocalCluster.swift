import Bytes
import CLinux
import Crypto
import Glibc
import Host

/// A cluster of virtual machines on this host, all of it inside one directory.
///
/// Commands on one directory take turns (`DirectoryLock`). Each of them finishes what an earlier one left half done.
public struct LocalCluster: Sendable {
    public static let maximumNodes = 16

    /// Absolute path.
    public let directory: String
    let host: Host
    /// How long a command waits for another one on the same directory.
    let patience: Duration

    /// - Throws: `local-file` where the directory cannot be resolved.
    public init(directory: String, host: Host, patience: Duration = .seconds(10)) throws(Finding) {
        guard let path = HostFiles.resolved(directory) else { throw HostFiles.problem("opening", directory) }
        self.directory = path
        self.host = host
        self.patience = patience
    }

    var documentPath: String { "\(directory)/cluster.json" }

    /// Marks a directory that `nacre up` made itself, from its first moment on: a command that is killed before it
    /// writes the document leaves no other trace of who made it.
    private static let marker = ".made-by-nacre"

    /// The cluster of `directory`, which is made where it is missing.
    public init(making directory: String, host: Host) throws(Finding) {
        if unsafe mkdir(directory, 0o755) == 0 { try HostFiles.create("\(directory)/\(Self.marker)", []) }
        try self.init(directory: directory, host: host)
    }

    /// `nacre up` made the directory, this time or when it was cut short.
    public var isOwnDirectory: Bool { HostFiles.exists("\(directory)/\(Self.marker)") }

    /// Takes a directory away that `nacre up` made and that holds nothing any more.
    public func abandonDirectory() throws(Finding) {
        try HostFiles.remove("\(directory)/\(Self.marker)")
        HostFiles.removeIfEmpty(directory)
    }

    /// The cluster of this directory, `nil` where there is none.
    public func document() throws(Finding) -> ClusterDocument? {
        guard HostFiles.exists(documentPath) else { return nil }
        let bytes = try HostFiles.read(documentPath, limit: 1 << 20)
        do throws(ParseError) {
            return try ClusterDocument(parsing: bytes)
        } catch {
            throw error.finding
        }
    }

    func lock(_ purpose: String, _ waiting: (String) -> Void) throws(Finding) -> DirectoryLock {
        try DirectoryLock(directory: directory, purpose: purpose, patience: patience, waiting: waiting)
    }

    func save(_ document: ClusterDocument) throws(Finding) {
        try HostFiles.write(documentPath, Array(document.json.pretty.utf8))
    }

    func machine(_ node: String, of document: ClusterDocument) -> LocalMachine {
        LocalMachine(cluster: directory, name: node, marker: document.marker(node), host: host)
    }
}
