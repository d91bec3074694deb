import Bytes
import Crypto
import DiskFormat
import Kubernetes
import TestKit
import Testing

@testable import Cluster

@Suite("The authorities that a cluster's secret makes")
struct AuthorityTests {
    static let now = SoftwareNode.now

    static func secret(_ byte: UInt8 = 1) -> ClusterSecret {
        var bytes = [UInt8](repeating: byte, count: 32)
        return ClusterSecret(secret: Secret(wiping: &bytes), salt: [UInt8](repeating: 2, count: 32))
    }

    @Test("the same secret makes the same keys on every control plane; other secrets, epochs and names make others")
    func derived() throws {
        var seen: Set<[UInt8]> = []
        for name in ClusterAuthorityName.allCases {
            let one = try ClusterAuthority(Self.secret()).certificate(name, at: Self.now)
            let two = try ClusterAuthority(Self.secret()).certificate(
                name, at: Instant(seconds: Self.now.seconds + 86400 * 30))
            #expect(one.subjectDER == two.subjectDER)
            #expect(try one.publicKey() == two.publicKey())
            for other in [
                try ClusterAuthority(Self.secret(), epoch: 2), try ClusterAuthority(Self.secret(3)),
            ] { seen.insert(try other.certificate(name, at: Self.now).publicKey().spki) }
            seen.insert(try one.publicKey().spki)
        }
        #expect(seen.count == 3 * ClusterAuthorityName.allCases.count)
        let keys = try ClusterAuthority(Self.secret()).planeKeys
        #expect(!seen.contains(keys.serviceAccount.publicKey.spki))
        let isDerived = keys.encryption.secret.equals(Self.secret().derived("encryption/1", count: 32))
        #expect(isDerived)
        // Known answer, computed by other code from RFC 5869, FIPS 186-5 A.2.1 and the curve itself.
        let point = try ClusterAuthority(Self.secret()).certificate(.kubernetes, at: Self.now).publicKey().point
        #expect(point.map { Hex.encode($0.prefix(32)) } == Self.knownX)
    }

    static let knownX = "4f827a5cce3ea5ed9dcd3db6e6e975a9b1e9b039c58bcb078cececd0bc270959"

    @Test("openssl verifies every certificate of a node against any certificate of its authority, and no other's")
    func verified() throws {
        try #require(OpenSSLTool.isAvailable)
        let (one, two) = (try ClusterAuthority(Self.secret()), try ClusterAuthority(Self.secret()))
        let folder = try TemporaryFolder()
        let (name, index) = (try #require(NodeName("control-plane-0")), try #require(NodeIndex(1)))
        for authority in ClusterAuthorityName.allCases {
            _ = try folder.file("\(authority.rawValue)-1.pem", try one.certificate(authority, at: Self.now).pem)
            let later = Instant(seconds: Self.now.seconds + 3600)
            _ = try folder.file("\(authority.rawValue)-2.pem", try two.certificate(authority, at: later).pem)
        }
        for certificate in NodeCertificate.allCases {
            let key = try PrivateKey(generating: .p256)
            let issued = try one.issue(
                certificate, node: name, index: index, for: key.publicKey, at: Self.now, lifetime: 7200)
            let leaf = try folder.file("leaf.pem", issued.pem)
            for authority in ClusterAuthorityName.allCases {
                for number in 1...2 {
                    let result = try OpenSSLTool.run(
                        "verify -x509_strict -attime \(Self.now.seconds + 3700) "
                            + "-CAfile \(folder.path)/\(authority.rawValue)-\(number).pem \(leaf)")
                    #expect(
                        (result.status == 0) == (authority == certificate.authority),
                        "\(certificate) by \(authority): \(String(decoding: result.output, as: UTF8.self))")
                }
            }
            #expect(issued.isValid(at: Instant(seconds: Self.now.seconds - 299)))
            #expect(!issued.isValid(at: Instant(seconds: Self.now.seconds + 7201)))
        }
    }

    @Test("the owner's kubeconfig holds a key and a certificate that belong together")
    func kubeconfig() throws {
        let authority = try ClusterAuthority(Self.secret())
        let secret = try authority.ownerKubeconfig(
            server: "https://127.0.0.1:6443", clusterName: "test", at: Self.now, lifetime: 3600)
        let json = try JSON(parsing: secret.published)
        let user = json["users"]?.array?.first?["user"]
        func decoded(_ key: String) throws -> [UInt8] {
            try #require(Base64.decode(user?[key]?.string ?? "?"))
        }
        let key = try PrivateKey(pem: try decoded("client-key-data"))
        let certificate = try Certificate.read(try decoded("client-certificate-data"))
        #expect(try certificate.publicKey() == key.publicKey)
        try certificate.verify(issuedBy: try authority.certificate(.kubernetes, at: Self.now))
        #expect(certificate.subject.contains("system:masters"))
    }
}
