import Attestation
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

    /// The authorities of which a cluster has one.
    static let shared = ClusterAuthorityName.allCases.filter { $0 != .client }

    @Test("each node has an authority of its own to the API server, which no other node's clients pass for")
    func clients() throws {
        let (one, two) = (try ClusterAuthority(Self.secret()), try ClusterAuthority(Self.secret()))
        let names = try ["a", "b"].map { try #require(NodeName($0)) }
        let indexes = try [1, 2].map { try #require(NodeIndex($0)) }
        let authorities = try zip(names, indexes).map { try one.clientCertificate(of: $0, $1, at: Self.now) }
        #expect(try authorities[0].publicKey() != authorities[1].publicKey())
        #expect(
            try two.clientCertificate(of: names[0], indexes[0], at: Self.now).publicKey()
                == authorities[0].publicKey())
        let key = try PrivateKey(generating: .p256)
        for certificate in NodeCertificate.allCases where certificate.authority == .client {
            let issued = try two.issue(
                certificate, node: names[0], index: indexes[0], for: key.publicKey, at: Self.now, lifetime: 60)
            try issued.verify(issuedBy: authorities[0])
            #expect(throws: CryptoError.self) { try issued.verify(issuedBy: authorities[1]) }
            for name in Self.shared {
                #expect(throws: CryptoError.self) {
                    try issued.verify(issuedBy: try one.certificate(name, at: Self.now))
                }
            }
        }
        #expect(throws: Finding.self) { try one.certificate(.client, at: Self.now) }
    }

    @Test("the same secret makes the same keys on every control plane; other secrets, epochs and names make others")
    func derived() throws {
        var seen: Set<[UInt8]> = []
        for name in Self.shared {
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
        #expect(seen.count == 3 * Self.shared.count)
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
            func certificate(_ maker: ClusterAuthority, _ time: Instant) throws -> Certificate {
                authority == .client
                    ? try maker.clientCertificate(of: name, index, at: time)
                    : try maker.certificate(authority, at: time)
            }
            _ = try folder.file("\(authority.rawValue)-1.pem", try certificate(one, Self.now).pem)
            let later = Instant(seconds: Self.now.seconds + 3600)
            _ = try folder.file("\(authority.rawValue)-2.pem", try certificate(two, later).pem)
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
