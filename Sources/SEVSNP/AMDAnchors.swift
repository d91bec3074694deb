import Bytes
import Crypto

/// A certificate that ships inside the binary, with the SHA-256 of its public key beside it.
public struct PinnedCertificate: Sendable {
    /// File under `measurements/roots/amd/` with the same text.
    public let file: String
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hexadecimal.
    public let keySHA256: String
    /// The certificate, PEM.
    public let pem: String

    /// The certificate; throws `key-pin` should the text not hold the pinned key.
    public func certificate() throws(Finding) -> Certificate {
        do throws(CryptoError) {
            let certificate = try Certificate.read(Array(pem.utf8))
            let actual = Hex.encode(HashAlgorithm.sha256.hash(try certificate.publicKey().spki))
            guard actual == keySHA256 else {
                throw CryptoError(.form, "SHA-256 of the public key is \(actual)")
            }
            return certificate
        } catch {
            throw Finding(
                "key-pin", claim: file, expected: "the key with SHA-256 \(keySHA256)", actual: error.message,
                source: "measurements/roots/amd", next: "this build is damaged; use another")
        }
    }
}

/// AMD's published keys, as shipped. Only the ARKs are trust anchors; ASKs and ASVKs are verified under them.
public enum AMDAnchors {
    /// The roots: one AMD Root Key per product.
    public static func root(_ product: Product) -> PinnedCertificate {
        switch product {
        case .milan: .milanARK
        case .genoa: .genoaARK
        case .turin: .turinARK
        }
    }

    /// The key that signs endorsement keys of `kind` for `product` (ASK or ASVK).
    public static func signer(_ product: Product, _ kind: EndorsementKey.Kind) -> PinnedCertificate {
        switch (product, kind) {
        case (.milan, .vcek): .milanASK
        case (.milan, .vlek): .milanASVK
        case (.genoa, .vcek): .genoaASK
        case (.genoa, .vlek): .genoaASVK
        case (.turin, .vcek): .turinASK
        case (.turin, .vlek): .turinASVK
        }
    }

    /// All shipped roots, PEM, in the form that the input `roots` takes.
    public static var rootsPEM: String { Product.allCases.map { root($0).pem }.joined() }

    /// Signer and root for `kind` and `product`, PEM, in the form that the input `chain` takes.
    public static func chainPEM(_ product: Product, _ kind: EndorsementKey.Kind) -> String {
        signer(product, kind).pem + root(product).pem
    }

    /// Whether `key` is one of AMD's root keys.
    public static func contains(root key: PublicKey) -> Bool {
        let digest = Hex.encode(HashAlgorithm.sha256.hash(key.spki))
        return Product.allCases.contains { root($0).keySHA256 == digest }
    }
}
