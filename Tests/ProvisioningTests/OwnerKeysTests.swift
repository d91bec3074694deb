import Attestation
import Bytes
import Cluster
import Host
import TestKit
import Testing

@testable import Provisioning

@Suite("The owner's sealed files")
struct OwnerKeysTests {
    private let folder: TemporaryFolder
    private let cluster: LocalCluster

    init() throws {
        folder = try TemporaryFolder()
        cluster = try LocalCluster(directory: folder.path, host: Host(environment: [:]), patience: .milliseconds(100))
        var document = DocumentTests.document
        document.identity = nil
        try cluster.save(document)
    }

    private func words(_ text: String) -> Secret {
        var bytes = Array(text.utf8)
        return Secret(wiping: &bytes)
    }

    private func make(_ text: String = "words") throws -> ClusterIdentity {
        try #require(try cluster.makeOwner(passphrase: words(text), logN: 4) { _ in }.identity)
    }

    @Test("made once, sealed, 0600; the cluster's document names them; again changes nothing")
    func made() throws {
        #expect(!cluster.hasOwner)
        let identity = try make()
        #expect(try make() == identity && cluster.hasOwner)
        #expect(try cluster.document()?.identity == identity)
        #expect(try cluster.ownerKey(passphrase: words("words")).digest == identity.owner)
        #expect(try cluster.clusterSecret(passphrase: words("words")).clusterID == identity.clusterID)
        for name in ["owner.key", "cluster.secret"] {
            #expect(try Tool.run(["stat", "-c", "%a", "\(folder.path)/\(name)"]).text == "600\n")
        }
    }

    @Test("killed between any two files, the next run completes the same keys", arguments: [0, 1, 2])
    func interrupted(step: Int) throws {
        let identity = try make()
        // As it is before the owner key, and before the document, were written.
        var document = try #require(try cluster.document())
        document.identity = nil
        try cluster.save(document)
        if step == 1 { try HostFiles.remove("\(folder.path)/owner.key") }
        if step == 2 { try HostFiles.remove("\(folder.path)/cluster.secret") }
        let again = try make()
        #expect((again.clusterID == identity.clusterID) == (step != 2))
        #expect((again.owner == identity.owner) == (step != 1))
        #expect(try make() == again)
    }

    @Test("a lost key is named, never silently replaced; other keys are another cluster's")
    func lost() throws {
        _ = try make()
        for name in ["owner.key", "cluster.secret"] {
            let path = "\(folder.path)/\(name)"
            let bytes = try HostFiles.read(path, limit: 1 << 16)
            try HostFiles.remove(path)
            let error = #expect(throws: Finding.self) { try make() }
            #expect(error?.reason == "sealed-missing" && error?.claim == path)
            try HostFiles.write(path, bytes, mode: 0o600)
        }
        let wrong = #expect(throws: Finding.self) { try make("other words") }
        #expect(wrong?.reason == "sealed-passphrase")
        // The files of another cluster in their place.
        let other = try OwnerKeysTests()
        _ = try other.make()
        for name in ["owner.key", "cluster.secret"] {
            try HostFiles.write(
                "\(folder.path)/\(name)", try HostFiles.read("\(other.folder.path)/\(name)", limit: 1 << 16))
        }
        let error = #expect(throws: Finding.self) { try make() }
        #expect(error?.reason == "cluster-other")
    }
}
