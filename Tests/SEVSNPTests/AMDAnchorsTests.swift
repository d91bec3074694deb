import Bytes
import Crypto
import TestKit
import Testing

@testable import SEVSNP

/// What ships inside the binary is what lies under `measurements/roots/amd`, and is what the pins say.
@Suite struct AMDAnchorsTests {
    static let pinned: [PinnedCertificate] = Product.allCases.flatMap {
        [AMDAnchors.root($0), AMDAnchors.signer($0, .vcek), AMDAnchors.signer($0, .vlek)]
    }

    @Test(arguments: pinned.map(\.file))
    func constantEqualsFileAndPin(_ file: String) throws {
        let pinned = try #require(Self.pinned.first { $0.file == file })
        let folder = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let text = try readFile("/\(folder)/measurements/roots/amd/\(file)")
        #expect(pinned.pem == String(decoding: text, as: UTF8.self))
        #expect(try pinned.certificate().pem == pinned.pem)
    }

    @Test(arguments: Product.allCases)
    func signersAreIssuedByTheRoot(_ product: Product) throws {
        let root = try AMDAnchors.root(product).certificate()
        #expect(root.commonName == "ARK-\(product.rawValue)")
        try root.verify(issuedBy: root)
        for kind in [EndorsementKey.Kind.vcek, .vlek] {
            let signer = try AMDAnchors.signer(product, kind).certificate()
            #expect(signer.commonName == kind.issuerCommonName(product))
            try signer.verify(issuedBy: root)
        }
        #expect(AMDAnchors.contains(root: try root.publicKey()))
    }

    @Test func anotherTextUnderAPinIsRefused() throws {
        let pinned = PinnedCertificate(
            file: "x.pem", keySHA256: AMDAnchors.root(.milan).keySHA256, pem: AMDAnchors.root(.genoa).pem)
        #expect { try pinned.certificate() } throws: { ($0 as? Finding)?.reason == "key-pin" }
    }
}
